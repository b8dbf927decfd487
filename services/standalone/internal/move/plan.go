package move

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// part is one table, or what else is moved.
type part struct {
	name     string
	standing bool // what is now, from which the target's workers go on
	chunks   []chunk
	units    uint64
	copy     func(ctx context.Context) error // nil: it stays
	compare  func(ctx context.Context) ([]string, error)
}

// plan counts what there is, and returns all parts in their order.
func (r *runner) plan(ctx context.Context) ([]part, error) {
	s := r.source
	var parts []part
	for _, add := range []func() (part, error){
		func() (part, error) {
			chunks, err := s.whole(ctx, "device_state")
			return tablePart(r, true, table[store.MessageRow]{
				store.TableState, chunks, query(s, stateQuery, "", stateUnit), weigh,
			}, r.to.State, r.to.State != nil), err
		},
		func() (part, error) {
			chunks, err := s.whole(ctx, "devices")
			return tablePart(r, true, table[store.MessageRow]{
				store.TableDevices, chunks, query(s, deviceQuery, "", deviceUnit), weigh,
			}, r.to.State, r.to.State != nil), err
		},
		func() (part, error) {
			chunks, err := s.whole(ctx, "alarms")
			return tablePart[telemetry.Alarm](r, true, table[telemetry.Alarm]{
				store.TableAlarms, chunks, query(s, alarmQuery, "", alarmUnit), weighAlarm,
			}, r.to.Alarms, r.to.Alarms != nil), err
		},
		func() (part, error) {
			chunks, err := s.days(ctx, "aggregates", "window_start")
			return tablePart[store.AggregateRow](r, true, r.aggregates(chunks), r.to.Aggregates, r.to.Aggregates != nil), err
		},
		func() (part, error) { return r.statesPart(), nil },
		func() (part, error) { return r.checkpointsPart(ctx) },
		func() (part, error) {
			chunks, err := s.days(ctx, "logs", "event_time")
			return tablePart(r, false, table[store.MessageRow]{
				store.TableLogs, chunks, query(s, logQuery, "event_time", logUnit), weigh,
			}, r.to.Logs, r.to.Logs != nil), err
		},
		func() (part, error) {
			chunks, err := s.days(ctx, "dead_letters", "received_at")
			read := numbered(query(s, letterQuery, "received_at", letterUnit), chunks)
			return tablePart(r, false, table[store.DeadLetterRow]{
				store.TableDeadLetters, chunks, read, weighLetter,
			}, r.to.DeadLetters, r.to.DeadLetters != nil), err
		},
		func() (part, error) {
			chunks, err := s.files()
			return tablePart(r, false, table[store.MessageRow]{store.TableMessages, chunks, readFiles, weigh}, r.to.History, r.to.History != nil), err
		},
		func() (part, error) {
			chunks, err := s.files()
			p := tablePart[store.MessageRow](r, false, table[store.MessageRow]{"archive", chunks, readFiles, weigh}, r.to.Archive, r.to.Archive != nil)
			p.compare = nil // nothing asks an archive by the rows; that all of it was taken is its progress
			return p, err
		},
	} {
		p, err := add()
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, nil
}

func (r *runner) aggregates(chunks []chunk) table[store.AggregateRow] {
	return table[store.AggregateRow]{store.TableAggregates, chunks, query(r.source, aggregateQuery, "a.window_start", aggregateUnit), weighAggregate}
}

// tablePart returns the part of a table that w takes; there says whether the target has one.
func tablePart[Row any](r *runner, standing bool, t table[Row], w store.Writer[Row], there bool) part {
	p := part{name: t.name, standing: standing, chunks: t.chunks, units: total(t.chunks)}
	if !there {
		return p
	}
	p.copy = func(ctx context.Context) error { return copyTable(ctx, r, t, w) }
	p.compare = func(ctx context.Context) ([]string, error) {
		target := r.to.Reader(t.name)
		if target == nil {
			return nil, fmt.Errorf("compare %s: nothing in the target answers for it", t.name)
		}
		return r.compare(ctx, comparisons()[t.name], target)
	}
	return p
}
