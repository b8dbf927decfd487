package live

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

func deadLettersListing() *listing {
	return &listing{
		name: "dead_letters", table: store.TableDeadLetters,
		columns: []column{
			{"id", plain},
			{"topic", plain},
			{"worker", plain},
			{"reason", plain},
			{"payload", plain},
			{"received_at", moment},
			{"tenant", plain},
			{"device_id", plain},
			{"credential", plain},
			{"partition", whole},
			{"position", plain},
			{"context", embedded},
			{"replayed_at", moment},
			{"replayed_by", plain},
		},
		order:      []column{{"received_at", moment}, {store.RowID, identity}}, // letters of the edge have no position of their own
		descending: true,
	}
}

// deadLetters answers GET /v1/dead-letters.
func (l *Live) deadLetters(w http.ResponseWriter, r *http.Request) error {
	p, c := l.query(r), &where{}
	c.equal("tenant", p.text("tenant"))
	c.equal("device_id", p.text("device"))
	c.equal("worker", p.text("worker"))
	c.equal("topic", p.text("topic"))
	if q := p.text("q"); q != "" {
		c.add(store.Contains, q, "reason", "payload")
	}
	c.between("received_at", p)
	return l.list(w, r, p, deadLettersListing(), c)
}

// letter is a dead letter as it is stored.
type letter struct {
	telemetry.DeadLetter
	id      string
	at      bus.Origin
	context telemetry.LetterContext
	row     []byte // as the listing shows it
}

// deadLetter answers GET /v1/dead-letters/{id}: the row, the exact bytes where the text is not the whole truth, and what the bytes say
// where they are a message.
func (l *Live) deadLetter(w http.ResponseWriter, r *http.Request) error {
	if err := l.query(r).done(); err != nil {
		return err
	}
	d, err := l.findLetter(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	body := append(d.row[:len(d.row)-1], `,"payload_base64":`...)
	body = appendText(body, base64.StdEncoding.EncodeToString(d.Payload))
	body = append(body, `,"message":`...)
	body = appendMessage(body, d)
	to, why := d.destination()
	body = append(appendText(append(body, `,"replay_to":`...), to), `,"replay_refused":`...)
	answerJSON(w, r, http.StatusOK, append(appendText(body, why), '}'))
	return nil
}

// findLetter reads a letter from the store.
func (l *Live) findLetter(ctx context.Context, id string) (*letter, error) {
	at, err := bus.ParseOrigin(id)
	if err != nil {
		return nil, badRequest("id: " + err.Error())
	}
	reader, err := l.table(store.TableDeadLetters)
	if err != nil {
		return nil, err
	}
	var c where
	c.add(store.Equal, id, "id")
	s := deadLettersListing()
	var row []byte
	if err := reader.Select(ctx, s.selection(c, nil, 1), func(values []any) error {
		row = s.appendRow(nil, values)
		return nil
	}); err != nil {
		return nil, err
	}
	if row == nil {
		return nil, &fault{code: http.StatusNotFound, text: fmt.Sprintf("there is no dead letter %.100q", id)}
	}
	d := &letter{id: id, at: at, row: row}
	if err := d.read(); err != nil {
		return nil, fmt.Errorf("dead letter %s: %w", id, err)
	}
	return d, nil
}

// read sets the fields from the row.
func (d *letter) read() error {
	var seen struct {
		Topic      string          `json:"topic"`
		Worker     string          `json:"worker"`
		Reason     string          `json:"reason"`
		Payload    string          `json:"payload"`
		ReceivedAt time.Time       `json:"received_at"`
		Tenant     string          `json:"tenant"`
		DeviceID   string          `json:"device_id"`
		Credential string          `json:"credential"`
		Partition  int32           `json:"partition"`
		Position   string          `json:"position"`
		Context    json.RawMessage `json:"context"`
		ReplayedAt *time.Time      `json:"replayed_at"`
		ReplayedBy string          `json:"replayed_by"`
	}
	if err := json.Unmarshal(d.row, &seen); err != nil {
		return err
	}
	if err := json.Unmarshal(seen.Context, &d.context); err != nil {
		return fmt.Errorf("context: %w", err)
	}
	d.DeadLetter = telemetry.DeadLetter{
		Topic: seen.Topic, Worker: seen.Worker, Reason: seen.Reason, ReceivedAt: telemetry.At(seen.ReceivedAt), Tenant: seen.Tenant,
		DeviceID: seen.DeviceID, Credential: seen.Credential, Partition: seen.Partition, Position: seen.Position, ReplayedBy: seen.ReplayedBy,
	}
	if string(seen.Context) != "null" {
		d.Context = string(seen.Context)
	}
	if seen.ReplayedAt != nil {
		d.ReplayedAt = telemetry.At(*seen.ReplayedAt)
	}
	var err error
	d.Payload, err = store.PayloadBytes(seen.Payload, d.context.Escaped)
	return err
}

// appendMessage appends what the payload says where it is a message as the log keeps it, else null.
func appendMessage(dst []byte, d *letter) []byte {
	m, ok := d.message(d.Payload)
	if !ok {
		return append(dst, "null"...)
	}
	shown := map[string]any{
		"tenant": m.Tenant, "device_id": m.DeviceID, "device_type": m.DeviceType, "kind": store.KindName(m.Kind),
		"channel_key": m.ChannelKey, "channel_type": m.ChannelType, "channel_value": string(m.ChannelValue), "severity": m.Severity.String(),
		"message": m.Text, "event_time": m.EventTime.Std(), "ingest_time": m.IngestTime.Std(), "message_id": m.MessageID, "source": m.Source,
	}
	b, err := json.Marshal(shown)
	if err != nil { // such as a time beyond the year 9999
		return append(dst, "null"...)
	}
	return append(dst, b...)
}

// message reads a payload of a worker's letter as a message.
func (d *letter) message(payload []byte) (telemetry.Message, bool) {
	var m telemetry.Message
	switch d.Topic {
	case bus.Aggregates, bus.Alarms, bus.AlarmCommands:
		return m, false
	}
	if d.ofEdge() || telemetry.ParseMessage(payload, &m) != nil || m.DeviceID == "" {
		return m, false
	}
	return m, true
}
