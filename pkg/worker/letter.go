package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// The limits of a dead letter; what is longer is cut, and the reason says so.
const (
	letterPayloadMax = 512 << 10
	letterReasonMax  = 4 << 10
	cutMark          = " (cut to "
)

// refuse makes a dead letter of a record that the task refused. topic is what the task was told; the place is where the record lies.
func (s *share[Row]) refuse(ctx context.Context, p *part, topic string, r bus.Record, reason string) {
	p.track.refused.Inc()
	if s.accountant != nil {
		s.accountant.Refused(r)
	}
	d := telemetry.DeadLetter{
		Topic: topic, Reason: reason, Payload: r.Value, ReceivedAt: telemetry.Time(r.Time),
		Partition: int32(p.id.Number), Position: r.Position.String(), //nolint:gosec // partitions are few
		Context: letterContext(telemetry.LetterContext{}, r.Origin),
	}
	if topic != p.id.Topic { // given once more: where it lies tells its letters apart
		d.Reason = "redelivered (" + p.id.String() + "): " + reason
	}
	if h, err := telemetry.PeekMessage(r.Value); err == nil && messages(topic) {
		d.Tenant, d.DeviceID = h.Tenant, h.DeviceID
	}
	s.letter(ctx, &d)
}

// cutContext adds to the Context of a letter that its payload was cut, so that it can only be put back repaired.
func cutContext(context string) string {
	const cut = `{"cut":true}`
	if context == "" {
		return cut
	}
	return context[:len(context)-1] + "," + cut[1:]
}

// letterContext returns the Context of a letter of the message at origin.
func letterContext(c telemetry.LetterContext, origin bus.Origin) string {
	if origin.Known() {
		c.Origin = origin.ID()
	}
	b, err := json.Marshal(c)
	if err != nil || len(b) <= len("{}") {
		return ""
	}
	return string(b)
}

// messages says whether what a topic holds may be read as a message.
func messages(topic string) bool {
	switch topic {
	case bus.Aggregates, bus.Alarms, bus.AlarmCommands, bus.DeadLetters:
		return false
	default:
		return true
	}
}

// refuseTooLarge makes a dead letter of what the task published and the log can never take.
func (s *share[Row]) refuseTooLarge(ctx context.Context, topic string, r bus.Record) {
	s.loop.Metrics.refused.WithLabelValues(s.loop.Worker, topic).Inc()
	d := telemetry.DeadLetter{
		Topic: bus.Ingested, Reason: fmt.Sprintf("publish to %s: %v (%d bytes)", topic, bus.ErrTooLarge, len(r.Value)), Payload: r.Value,
		ReceivedAt: telemetry.At(s.loop.Now()), Partition: r.Origin.Partition, Position: r.Origin.String(),
		Context: letterContext(telemetry.LetterContext{PublishedTo: topic}, r.Origin),
	}
	if !r.Origin.Known() {
		d.Topic, d.Partition, d.Position = topic, int32(s.bus.Number), "" //nolint:gosec // partitions are few
	}
	if h, err := telemetry.PeekMessage(r.Value); err == nil && messages(topic) {
		d.Tenant, d.DeviceID = h.Tenant, h.DeviceID
	}
	s.letter(ctx, &d)
}

// refuseRow makes a dead letter of a row that the store refused. What its record said is gone by now: of a message its bytes
// are made again, of any other row the payload is JSON.
func (s *share[Row]) refuseRow(ctx context.Context, row int, reason string) {
	s.loop.Metrics.refused.WithLabelValues(s.loop.Worker, "").Inc()
	d := telemetry.DeadLetter{
		Topic: s.parts[0].id.Topic, Partition: int32(s.bus.Number), //nolint:gosec // partitions are few
		Reason: "store: " + reason, ReceivedAt: telemetry.At(s.loop.Now()),
	}
	switch r := any(&s.out.Rows[row]).(type) {
	case *store.MessageRow:
		if r.Origin.Known() {
			d.Topic, d.Partition, d.Position = bus.Ingested, r.Origin.Partition, r.Origin.String()
		}
		d.Tenant, d.DeviceID, d.Credential, d.ReceivedAt = r.Tenant, r.DeviceID, r.Credential, r.IngestTime
		d.Context = letterContext(telemetry.LetterContext{}, r.Origin)
		d.Payload = telemetry.AppendMessage(nil, &r.Message)
	default:
		payload, err := json.Marshal(r)
		if err != nil { // such as a NaN
			payload = fmt.Appendf(nil, "%+v", s.out.Rows[row])
		}
		d.Payload, d.Context = payload, letterContext(telemetry.LetterContext{Row: true}, bus.Origin{})
	}
	s.letter(ctx, &d)
}

// letter adds d to what the next commit appends. A dead letter that cannot be processed makes no other one, which would go
// round for ever: it is logged, and stays on the log until it is trimmed.
func (s *share[Row]) letter(ctx context.Context, d *telemetry.DeadLetter) {
	if d.Topic == bus.DeadLetters || s.parts[0].id.Topic == bus.DeadLetters {
		s.loop.Log.ErrorContext(ctx, "a dead letter cannot be processed", "worker", s.loop.Worker, "reason", d.Reason,
			"topic", d.Topic, "partition", d.Partition, "position", d.Position, "payload", cut(string(d.Payload), letterReasonMax))
		return
	}
	d.Worker = s.loop.Worker
	d.Reason = cut(d.Reason, letterReasonMax)
	if n := len(d.Payload); n > letterPayloadMax {
		d.Payload = d.Payload[:letterPayloadMax]
		d.Context = cutContext(d.Context)
		d.Reason += fmt.Sprintf(" (the payload's first %d of %d bytes are kept)", letterPayloadMax, n)
	}
	// Its Origin stays zero: several workers may refuse one message, and none of their letters is the double of another's.
	s.letters = append(s.letters, bus.Record{Value: telemetry.AppendDeadLetter(nil, d)})
}

// appendLetters puts the dead letters on the log. One that is too large even so loses half of its payload until it fits.
func (s *share[Row]) appendLetters(ctx context.Context) error {
	for letters := s.letters; len(letters) > 0; {
		tooLarge, err := s.append(ctx, bus.DeadLetters, letters)
		if err != nil {
			return err
		}
		letters = nil
		for _, r := range tooLarge {
			var d telemetry.DeadLetter
			if err := telemetry.ParseDeadLetter(r.Value, &d); err != nil {
				return fmt.Errorf("shorten a dead letter: %w", err)
			}
			if len(d.Payload) == 0 {
				s.loop.Log.ErrorContext(ctx, "a dead letter is too large for the log", "worker", s.loop.Worker, "reason", d.Reason,
					"topic", d.Topic, "partition", d.Partition, "position", d.Position)
				continue
			}
			d.Payload, d.Context = d.Payload[:len(d.Payload)/2], cutContext("") // the rest takes room too
			reason, _, _ := strings.Cut(d.Reason, cutMark)                      // of the time before
			d.Reason = fmt.Sprintf("%s%s%d bytes)", cut(reason, letterReasonMax), cutMark, len(d.Payload))
			letters = append(letters, bus.Record{Value: telemetry.AppendDeadLetter(nil, &d)})
		}
	}
	s.letters = s.letters[:0]
	return nil
}

// cut returns at most max bytes of text, whole characters.
func cut(text string, max int) string {
	if len(text) <= max {
		return text
	}
	for max > 0 && !utf8.RuneStart(text[max]) {
		max--
	}
	return text[:max] + "…"
}
