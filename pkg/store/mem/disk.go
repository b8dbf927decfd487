package mem

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

type channelKey struct{ tenant, device, channel string }

// disk is what outlives handles.
type disk struct {
	state      *states
	messages   *grown[store.MessageRow]
	segments   *grown[store.MessageRow]
	logs       *grown[store.MessageRow]
	aggregates *keyed[store.WindowKey, store.AggregateRow]
	alarms     *keyed[string, telemetry.Alarm]
	letters    *grown[store.DeadLetterRow]
}

func newDisk() *disk {
	return &disk{
		state:    newStates(),
		messages: newGrown(store.TableMessages, cloneMessage),
		segments: newGrown(TableSegments, cloneMessage),
		logs:     newGrown(store.TableLogs, cloneMessage),
		letters:  newLetters(),
		aggregates: newKeyed(store.TableAggregates, func(r *store.AggregateRow) store.WindowKey { return store.KeyOf(&r.Aggregate) },
			func(_, _ *store.AggregateRow) bool { return true }, cloneAggregate),
		alarms: newKeyed(store.TableAlarms, func(a *telemetry.Alarm) string { return a.AlarmID },
			func(next, old *telemetry.Alarm) bool { return next.Revision > old.Revision }, cloneAlarm),
	}
}

// copy returns a disk of its own with the same content.
func (d *disk) copy() *disk {
	c := newDisk()
	c.state.replace(d.state)
	c.messages.replace(d.messages)
	c.segments.replace(d.segments)
	c.logs.replace(d.logs)
	c.aggregates.replace(d.aggregates)
	c.alarms.replace(d.alarms)
	c.letters.replace(d.letters)
	return c
}

func cloneMessage(r *store.MessageRow) store.MessageRow {
	return store.MessageRow{Message: r.Clone(), Origin: r.Origin}
}

// newLetters makes the table dead_letters, in which a note is no row: it marks the letter that was put back.
func newLetters() *grown[store.DeadLetterRow] {
	g := newGrown(store.TableDeadLetters, cloneLetter)
	add := g.put
	g.put = func(rows []store.DeadLetterRow) {
		for i := range rows {
			note := &rows[i]
			if note.ReplayOf == "" {
				add(rows[i : i+1])
				continue
			}
			at := slices.IndexFunc(g.all, func(d store.DeadLetterRow) bool { return d.At.ID() == note.ReplayOf })
			if at >= 0 {
				g.all = slices.Clone(g.all) // readers may have the old one
				g.all[at].ReplayedBy, g.all[at].ReplayedAt = strings.Clone(note.ReplayedBy), note.ReplayedAt
			}
		}
	}
	return g
}

func cloneLetter(r *store.DeadLetterRow) store.DeadLetterRow {
	return store.DeadLetterRow{DeadLetter: r.Clone(), At: r.At}
}

func cloneAggregate(r *store.AggregateRow) store.AggregateRow {
	return store.AggregateRow{Aggregate: r.Clone(), State: slices.Clone(r.State), StateUntil: r.StateUntil}
}

func cloneAlarm(a *telemetry.Alarm) telemetry.Alarm {
	c := *a // its texts are the engine's own, and never written again
	c.Detail = slices.Clone(a.Detail)
	return c
}

// aggregateTable is a handle's writer of aggregates.
type aggregateTable struct{ table[store.AggregateRow] }

// Windows implements store.AggregateWriter.
func (t aggregateTable) Windows(ctx context.Context, keys []store.WindowKey) ([]store.AggregateRow, error) {
	if err := t.store.before(ctx, Call{Table: t.core.name, Op: OpWindows, Rows: len(keys)}); err != nil {
		return nil, fmt.Errorf("read %d windows: %w", len(keys), err)
	}
	k := t.store.disk.aggregates
	k.mu.Lock()
	defer k.mu.Unlock()
	rows := make([]store.AggregateRow, len(keys))
	for i, key := range keys {
		if r, ok := k.all[key]; ok {
			rows[i] = cloneAggregate(&r)
			rows[i].StateUntil = 0
		}
	}
	return rows, nil
}

// ForgetStates implements store.AggregateWriter.
func (t aggregateTable) ForgetStates(ctx context.Context, now telemetry.Time) error {
	c := Call{Table: t.core.name, Op: OpForget}
	if err := t.store.before(ctx, c); err != nil {
		return fmt.Errorf("forget states before %v: %w", now.Std(), err)
	}
	k := t.store.disk.aggregates
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, err := t.store.current(); err != nil {
		return err
	}
	for key, r := range k.all {
		if r.StateUntil < now && r.State != nil {
			r.State = nil
			k.all[key] = r
		}
	}
	return nil
}
