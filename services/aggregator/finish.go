package aggregator

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
	"github.com/millrace/millrace/services/aggregator/internal/window"
)

// finisher turns what the windows gave into what is written and published. Safe for concurrent use.
type finisher struct {
	store interface {
		Windows(ctx context.Context, keys []store.WindowKey) ([]store.AggregateRow, error)
	}
	metrics *metrics
	log     *slog.Logger
	now     func() time.Time
	keep    time.Duration // how long states are kept
}

// Prepare is the loop's hook of that name: it merges deltas into the windows that the store has, and publishes every row.
// It changes out only when nothing can fail any more, so that it may be called again. What it read cannot change before it is
// written: the share has no other owner, else the write is fenced.
func (f *finisher) Prepare(ctx context.Context, out *worker.Output[store.AggregateRow]) error {
	if len(out.Rows) == 0 {
		return nil
	}
	if slices.ContainsFunc(out.Rows, func(r store.AggregateRow) bool { return window.IsDelta(&r) }) {
		if err := f.fold(ctx, out); err != nil {
			return fmt.Errorf("correct windows: %w", err)
		}
	}
	now := telemetry.At(f.now())
	size := 0
	for i := range out.Rows {
		r := &out.Rows[i]
		if len(r.State) > 0 {
			r.StateUntil = max(now, r.WindowStart+telemetry.Time(r.WindowLength)).Add(f.keep)
		}
		size += 160 + len(r.Tenant) + len(r.DeviceID) + len(r.DeviceType) + len(r.ChannelKey)
	}
	buffer := make([]byte, 0, size)
	for i := range out.Rows {
		at := len(buffer)
		buffer = telemetry.AppendAggregate(buffer, &out.Rows[i].Aggregate)
		out.Publish = append(out.Publish, worker.Publication{
			Topic: bus.Aggregates, Record: bus.Record{Value: buffer[at:len(buffer):len(buffer)]},
		})
	}
	return nil
}

// fold is the merging of one commit's deltas.
type fold struct {
	keys  []store.WindowKey       // of windows with deltas
	parts map[store.WindowKey]int // to their indexes in deltas and bases
	// deltas are indexes of rows. bases are what they are merged into: a row of the same commit, by its index, or none.
	deltas [][]int
	bases  []int
}

const none = -1

// fold replaces the deltas of each window by one row.
func (f *finisher) fold(ctx context.Context, out *worker.Output[store.AggregateRow]) error {
	merging := gather(out.Rows)
	stored, err := f.stored(ctx, merging)
	if err != nil {
		return err
	}
	folder, err := window.NewFolder()
	if err != nil {
		return err
	}
	dropped := make(map[int]bool)
	for i, deltas := range merging.deltas {
		base := merging.bases[i]
		if base == none {
			base, deltas = f.base(ctx, folder, out.Rows, deltas, &stored[i])
		}
		for _, d := range deltas {
			if base == none {
				f.metrics.forgotten.Add(float64(out.Rows[d].Count))
			} else if err := folder.Merge(&out.Rows[base], &out.Rows[d]); err != nil {
				f.unreadable(ctx, &out.Rows[d], err)
			}
			dropped[d] = true
		}
	}
	kept := out.Rows[:0]
	for i := range out.Rows {
		if !dropped[i] {
			kept = append(kept, out.Rows[i])
		}
	}
	clear(out.Rows[len(kept):])
	out.Rows = kept
	return nil
}

// base makes the row into which the rest of deltas is merged, in the place of the first delta. It returns none for a window
// whose state was forgotten.
func (f *finisher) base(
	ctx context.Context, folder *window.Folder, rows []store.AggregateRow, deltas []int, stored *store.AggregateRow,
) (base int, rest []int) {
	base = deltas[0]
	switch {
	case stored.Count == 0:
		rows[base].Revision = 1
		return base, deltas[1:]
	case len(stored.State) == 0:
		return none, deltas
	}
	row := *stored
	row.Final = true
	row.Revision++
	if err := folder.Merge(&row, &rows[base]); err != nil {
		f.unreadable(ctx, stored, err)
		return none, deltas
	}
	rows[base] = row
	f.metrics.corrected.Inc()
	return base, deltas[1:]
}

// unreadable reports a state that cannot be merged, which only another version can have written. Trying again mends nothing.
func (f *finisher) unreadable(ctx context.Context, r *store.AggregateRow, err error) {
	f.log.ErrorContext(ctx, "a window cannot be corrected", "device", r.DeviceID, "channel", r.ChannelKey,
		"window_start", r.WindowStart.Std(), "window_length", time.Duration(r.WindowLength), "error", err)
}

// gather finds the windows that have deltas.
func gather(rows []store.AggregateRow) *fold {
	m := &fold{parts: make(map[store.WindowKey]int)}
	for i := range rows {
		if !window.IsDelta(&rows[i]) {
			continue
		}
		key := keyOf(&rows[i])
		at, known := m.parts[key]
		if !known {
			at = len(m.keys)
			m.parts[key] = at
			m.keys, m.deltas, m.bases = append(m.keys, key), append(m.deltas, nil), append(m.bases, none)
		}
		m.deltas[at] = append(m.deltas[at], i)
	}
	for i := range rows {
		if window.IsDelta(&rows[i]) || len(rows[i].State) == 0 {
			continue
		}
		if at, ok := m.parts[keyOf(&rows[i])]; ok {
			m.bases[at] = i // closed within this commit: nobody has seen it yet
		}
	}
	return m
}

// stored reads, beside the windows of m, those that have no base.
func (f *finisher) stored(ctx context.Context, m *fold) ([]store.AggregateRow, error) {
	var keys []store.WindowKey
	var at []int
	for i, base := range m.bases {
		if base == none {
			keys, at = append(keys, m.keys[i]), append(at, i)
		}
	}
	rows := make([]store.AggregateRow, len(m.keys))
	if len(keys) == 0 {
		return rows, nil
	}
	found, err := f.store.Windows(ctx, keys)
	if err != nil {
		return nil, err
	}
	for i, r := range found {
		rows[at[i]] = r
	}
	return rows, nil
}

func keyOf(r *store.AggregateRow) store.WindowKey {
	return store.WindowKey{
		Tenant: r.Tenant, DeviceID: r.DeviceID, ChannelKey: r.ChannelKey, WindowStart: r.WindowStart, WindowLength: r.WindowLength,
	}
}
