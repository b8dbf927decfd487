package live

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/pkg/books"
	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

const (
	replayBytesMax = 2 << 20 // of a request
	workerEdge     = "ingest"
	workerRouter   = "router"
)

// replayLetter answers POST /v1/dead-letters/{id}/replay: 200 once the row says that it was put back, 202 where that takes longer, when all is on
// the log.
func (l *Live) replayLetter(w http.ResponseWriter, r *http.Request) error {
	wish, err := readReplayWish(w, r)
	if err != nil {
		return err
	}
	wish.By = signed(r.Context(), wish.By)
	d, err := l.findLetter(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	payload, repaired := wish.payload()
	if err := d.refuses(repaired); err != nil {
		return err
	}
	if !repaired {
		payload = d.Payload
	}
	code, messages := http.StatusOK, 1
	to, _ := d.destination()
	if to == bus.Ingested {
		messages, err = l.intoIngested(r.Context(), d, payload, wish)
	} else {
		err = l.intoWorker(r.Context(), d, payload, repaired, wish)
	}
	if err != nil {
		return err
	}
	if !wish.DryRun && !l.awaitReplayed(r.Context(), d.id) {
		code = http.StatusAccepted
	}
	b, err := json.Marshal(map[string]any{"id": d.id, "replay_to": to, "messages": messages, "dry_run": wish.DryRun})
	if err != nil {
		return err
	}
	answerJSON(w, r, code, b)
	return nil
}

// intoIngested gives the payload in again like a device's body, or the router's record, and then notes that.
func (l *Live) intoIngested(ctx context.Context, d *letter, payload []byte, wish replayWish) (messages int, err error) {
	msgs, err := l.messagesOf(d, payload)
	if err != nil || wish.DryRun {
		return len(msgs), err
	}
	// The books count it as the edge's, so that they balance.
	edge := books.NewEdge(l.deps.Bus, "replay "+d.id, l.deps.Log)
	n := l.deps.Bus.Partitions(bus.Ingested)
	for i := range msgs {
		m := &msgs[i]
		p := bus.PartitionID{Topic: bus.Ingested, Number: bus.PartitionOf(m.Tenant, m.DeviceID, n)}
		if err := edge.Append(ctx, p, []bus.Record{{Value: telemetry.AppendMessage(nil, m)}}); err != nil {
			return 0, notAppended(d, err)
		}
	}
	if err := edge.Write(ctx); err != nil {
		l.deps.Log.WarnContext(ctx, "the books do not know of a replay", "letter", d.id, "error", err)
	}
	return len(msgs), l.note(ctx, d, nil, false, wish)
}

// messagesOf returns the messages that go in again. Their ids stem from the letter's, so that the router drops them where it
// remembers that they came before.
func (l *Live) messagesOf(d *letter, payload []byte) ([]telemetry.Message, error) {
	id := "letter-" + d.id
	if m, ok := d.message(payload); ok {
		m.MessageID = id // the router has seen the id that the device gave, and refused the message
		return []telemetry.Message{m}, nil
	}
	return l.decode(d, payload, id)
}

// decode reads a body as the edge would have.
func (l *Live) decode(d *letter, payload []byte, id string) ([]telemetry.Message, error) {
	in := telemetry.Input{
		Body: payload, ContentType: d.context.ContentType, Tenant: d.Tenant, DeviceID: d.DeviceID, ChannelKey: d.context.ChannelKey,
		Source: d.Topic, Credential: d.Credential, IngestTime: d.ReceivedAt, IdempotencyKey: id,
		MayActFor: func(string) bool { return true }, // whoever may replay answers for it
	}
	for key, value := range d.context.Properties {
		in.Properties = append(in.Properties, telemetry.Property{Key: key, Value: value})
	}
	msgs, rejected := l.decoder.Decode(nil, in)
	switch {
	case len(rejected) > 0:
		return nil, &fault{code: http.StatusUnprocessableEntity, text: fmt.Sprintf("still no message: record %d: %v", rejected[0].Index, rejected[0].Err)}
	case len(msgs) == 0:
		return nil, &fault{code: http.StatusUnprocessableEntity, text: "the payload has no message in it"}
	}
	return msgs, nil
}

// intoWorker asks for a delivery to the worker alone.
func (l *Live) intoWorker(ctx context.Context, d *letter, payload []byte, repaired bool, wish replayWish) error {
	if repaired {
		var err error
		if payload, err = l.repairedRecord(d, payload); err != nil {
			return err
		}
	} else {
		payload = nil
	}
	if wish.DryRun {
		return nil
	}
	return l.note(ctx, d, payload, true, wish)
}

// repairedRecord makes a record of a repaired payload: of a message's as the log keeps it, or as a device would send it.
func (l *Live) repairedRecord(d *letter, payload []byte) ([]byte, error) {
	switch d.Topic {
	case bus.Aggregates, bus.Alarms, bus.AlarmCommands:
		return payload, nil
	}
	m, ok := d.message(payload)
	if !ok {
		if !utf8.Valid(payload) {
			return nil, &fault{code: http.StatusUnprocessableEntity, text: "the payload is no message, neither as the log keeps it nor as devices send it"}
		}
		msgs, err := l.decode(d, payload, "letter-"+d.id)
		if err != nil {
			return nil, err
		}
		if len(msgs) != 1 {
			return nil, &fault{code: http.StatusUnprocessableEntity, text: fmt.Sprintf("the payload has %d messages, want the one of the letter", len(msgs))}
		}
		m = msgs[0]
	}
	if d.DeviceID != "" && (m.DeviceID != d.DeviceID || m.Tenant != d.Tenant) {
		return nil, &fault{code: http.StatusUnprocessableEntity, text: fmt.Sprintf("the payload is of device %s, want %s: the worker keeps devices apart", m.DeviceID, d.DeviceID)}
	}
	return telemetry.AppendMessage(nil, &m), nil
}

// note puts onto the log that the letter was put back, or is to be given to its worker: into the letter's own partition, whose one
// reader takes the first of several.
func (l *Live) note(ctx context.Context, d *letter, repaired []byte, deliver bool, wish replayWish) error {
	n := d.DeadLetter
	n.ReplayOf, n.ReplayedBy, n.ReplayedAt = d.id, cmp.Or(wish.By, "somebody"), telemetry.At(l.deps.Now())
	n.Deliver, n.Repaired = deliver, repaired
	parts := l.deps.Bus.Partitions(bus.DeadLetters)
	p := bus.PartitionID{Topic: bus.DeadLetters, Number: int(d.at.Partition)}
	if p.Number < 0 || p.Number >= parts { // it was moved here from another engine
		p.Number = bus.PartitionOf(d.Tenant, d.DeviceID, parts)
	}
	if err := l.deps.Bus.Append(ctx, p, []bus.Record{{Value: telemetry.AppendDeadLetter(nil, &n)}}); err != nil {
		return notAppended(d, err)
	}
	return nil
}

func notAppended(d *letter, err error) error {
	switch {
	case errors.Is(err, bus.ErrFull):
		return &fault{code: http.StatusServiceUnavailable, text: "the log is full: ask again later, nothing is done twice", retry: 5 * time.Second}
	case errors.Is(err, bus.ErrTooLarge):
		return &fault{code: http.StatusRequestEntityTooLarge, text: "the letter and its repaired payload together are larger than the log takes"}
	}
	return fmt.Errorf("replay dead letter %s: %w", d.id, err)
}

// awaitReplayed looks at the letter until it says that it was put back, or Query.AckWait has passed.
func (l *Live) awaitReplayed(ctx context.Context, id string) bool {
	waiting, cancel := context.WithTimeout(ctx, l.cfg.Query.AckWait)
	defer cancel()
	look := time.NewTicker(ackLookEvery)
	defer look.Stop()
	for {
		select {
		case <-waiting.Done():
			return false
		case <-look.C:
		}
		if d, err := l.findLetter(waiting, id); err == nil && d.ReplayedAt != 0 {
			return true
		}
	}
}
