package worker

import (
	"context"
	"slices"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

// unwrap turns a record of bus.Redelivered into the one that it stands for, and returns the topic that the task is told. mine is
// false where it is meant for another worker. That it is taken once, the origin that it had on the bus has seen to.
func (s *share[Row]) unwrap(ctx context.Context, p *part, r *bus.Record) (topic string, mine bool) {
	var d telemetry.Redelivery
	if err := telemetry.ParseRedelivery(r.Value, &d); err != nil {
		s.loop.Log.ErrorContext(ctx, "a redelivered record cannot be read", "worker", s.loop.Worker, "partition", p.id.String(),
			"position", r.Position.String(), "error", err)
		return "", false
	}
	if d.Worker != s.loop.Worker {
		return "", false
	}
	r.Value, r.Origin = d.Value, bus.Origin{}
	if d.Origin != "" {
		origin, err := bus.ParseOrigin(d.Origin)
		if err != nil {
			s.refuse(ctx, p, d.Topic, *r, "redelivered: origin: "+err.Error())
			return "", false
		}
		r.Origin = origin
	}
	return s.topicOf(d.Topic, d.Value), true
}

// topicOf returns the topic of the loop's that a record belongs to which came from topic: the store's refusals name the topic
// ingested, which the worker does not read.
func (s *share[Row]) topicOf(topic string, value []byte) string {
	if slices.Contains(s.loop.Topics, topic) {
		return topic
	}
	if h, err := telemetry.PeekMessage(value); err == nil {
		home := bus.Events
		switch h.Kind {
		case telemetry.KindChannel:
			home = bus.Telemetry
		case telemetry.KindLog:
			home = bus.Logs
		case telemetry.KindSession:
			home = bus.Sessions
		case telemetry.KindEvent, telemetry.KindUnknown:
		}
		if slices.Contains(s.loop.Topics, home) {
			return home
		}
	}
	return s.loop.Topics[0]
}
