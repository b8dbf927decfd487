package replay

import (
	"context"
	"errors"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// WorkerName returns the name under which a store keeps how far the replay of a worker has come: the positions of a replay are none of
// the worker's own.
func WorkerName(worker string) string { return "replay-" + worker }

// renamed is a store under whose progress the worker's own name is WorkerName.
type renamed[Row any] struct {
	store.Writer[Row]
}

// Write implements store.Writer.
func (r renamed[Row]) Write(ctx context.Context, c store.Commit, rows []Row) error {
	c.Worker = WorkerName(c.Worker)
	return r.Writer.Write(ctx, c, rows)
}

// Progress implements store.Writer.
func (r renamed[Row]) Progress(ctx context.Context, worker string, p bus.PartitionID) (bus.Progress, bool, error) {
	return r.Writer.Progress(ctx, WorkerName(worker), p)
}

// buffered is a renamed store that holds rows back.
type buffered[Row any] struct {
	renamed[Row]
	store.Buffered
}

// rename returns w under the other name, and as store.Buffered where w is.
func rename[Row any](w store.Writer[Row]) store.Writer[Row] { //nolint:ireturn // either of two
	r := renamed[Row]{Writer: w}
	if b, ok := w.(store.Buffered); ok {
		return buffered[Row]{r, b}
	}
	return r
}

// windows is the renamed store of aggregates. It takes only windows that lie within the time that is replayed: of others a part of the
// messages did not pass.
type windows struct {
	store.AggregateWriter
	when span
}

// Write implements store.Writer.
func (w windows) Write(ctx context.Context, c store.Commit, rows []store.AggregateRow) error {
	c.Worker = WorkerName(c.Worker)
	whole := make([]store.AggregateRow, 0, len(rows))
	var places []int
	for i := range rows {
		if w.whole(&rows[i].Aggregate) {
			whole, places = append(whole, rows[i]), append(places, i)
		}
	}
	err := w.AggregateWriter.Write(ctx, c, whole)
	if refused, ok := errors.AsType[*store.Refused](err); ok { // its rows are counted in what was written
		for i, row := range refused.Rows {
			refused.Rows[i] = places[row]
		}
	}
	return err
}

func (w windows) whole(a *telemetry.Aggregate) bool {
	return a.WindowStart >= w.when.from && max(a.WindowStart+telemetry.Time(a.WindowLength), a.LastTime) <= w.when.to
}

// Progress implements store.Writer.
func (w windows) Progress(ctx context.Context, worker string, p bus.PartitionID) (bus.Progress, bool, error) {
	return w.AggregateWriter.Progress(ctx, WorkerName(worker), p)
}

// Checkpoint implements store.Checkpoints.
func (w windows) Checkpoint(ctx context.Context, worker, task string) ([]byte, bool, error) {
	return w.AggregateWriter.Checkpoint(ctx, WorkerName(worker), task)
}
