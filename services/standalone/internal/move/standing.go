package move

import (
	"bytes"
	"context"
	"fmt"
	"strconv"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/standalone/internal/scan"
)

// statesPart compares the states of windows that may still be corrected, which moved with the aggregates.
func (r *runner) statesPart() part {
	p := part{name: "states of windows", standing: true}
	if r.to.Aggregates == nil {
		return p
	}
	p.copy = func(context.Context) error { return nil }
	p.compare = func(ctx context.Context) ([]string, error) {
		differences, err := r.compareStates(ctx)
		if err != nil {
			return nil, fmt.Errorf("compare the states of windows: %w", err)
		}
		return differences, nil
	}
	return p
}

func (r *runner) compareStates(ctx context.Context) (differences []string, err error) {
	const batch = 1000
	chunks, err := r.source.days(ctx, "internal.aggregate_states", "window_start")
	if err != nil {
		return nil, err
	}
	r.began("compare states of windows", 0, total(chunks))
	now := telemetry.At(r.o.Now())
	var rows []store.AggregateRow
	var done uint64
	check := func() error {
		keys := make([]store.WindowKey, len(rows))
		for i, a := range rows {
			keys[i] = store.WindowKey{Tenant: a.Tenant, DeviceID: a.DeviceID, ChannelKey: a.ChannelKey, WindowStart: a.WindowStart, WindowLength: a.WindowLength}
		}
		var found []store.AggregateRow
		err := r.retry(ctx, "states of windows", func() (err error) {
			found, err = r.to.Aggregates.Windows(ctx, keys)
			return err
		})
		if err != nil {
			return err
		}
		for i := range found {
			if !bytes.Equal(found[i].State, rows[i].State) && len(differences) < nameMax {
				differences = append(differences, fmt.Sprintf("aggregates: the state of window %s %s %s %v is another", keys[i].Tenant, keys[i].DeviceID,
					keys[i].ChannelKey, keys[i].WindowStart.Std()))
			}
		}
		done += uint64(len(rows))
		r.reached(done)
		rows = rows[:0]
		return nil
	}
	for _, c := range chunks {
		for unit, err := range r.aggregates(nil).read(ctx, c) {
			if err != nil {
				return nil, err
			}
			if a := unit[0]; len(a.State) > 0 && a.StateUntil > now { // else either side may have forgotten it
				rows = append(rows, a)
			}
			if len(rows) == batch {
				if err := check(); err != nil {
					return nil, err
				}
			}
		}
	}
	return differences, check()
}

// checkpoint is the state of one task of a stateful worker.
type checkpoint struct {
	worker, task string
	state        []byte
	to           interface {
		store.Checkpoints
		write(ctx context.Context, c store.Commit) error
	}
}

// checkpointed is a store that keeps checkpoints, whatever its rows.
type checkpointed[Row any] struct {
	store.Checkpoints
	w store.Writer[Row]
}

func (c checkpointed[Row]) write(ctx context.Context, commit store.Commit) error {
	return c.w.Write(ctx, commit, nil)
}

// checkpointsPart moves the state of aggregator and alerting, so that open windows and raised alarms go on.
func (r *runner) checkpointsPart(ctx context.Context) (part, error) {
	p := part{name: "checkpoints", standing: true}
	var all []checkpoint
	if r.to.Aggregates != nil {
		found, err := r.checkpoints(ctx, "aggregates", r.source.DB.Aggregates())
		if err != nil {
			return p, err
		}
		for _, c := range found {
			c.to = checkpointed[store.AggregateRow]{r.to.Aggregates, r.to.Aggregates}
			all = append(all, c)
		}
	}
	if r.to.Alarms != nil {
		found, err := r.checkpoints(ctx, "alarms", r.source.DB.Alarms())
		if err != nil {
			return p, err
		}
		for _, c := range found {
			c.to = checkpointed[telemetry.Alarm]{r.to.Alarms, r.to.Alarms}
			all = append(all, c)
		}
	}
	if len(all) == 0 {
		return p, nil
	}
	p.units = uint64(len(all))
	p.chunks = []chunk{{units: p.units}}
	p.copy = func(ctx context.Context) error { return r.copyCheckpoints(ctx, all) }
	p.compare = func(ctx context.Context) ([]string, error) { return r.compareCheckpoints(ctx, all) }
	return p, nil
}

// checkpoints reads all of a store of the source.
func (r *runner) checkpoints(ctx context.Context, name string, from store.Checkpoints) (all []checkpoint, err error) {
	for row, err := range r.source.rows(ctx, `SELECT worker, task FROM internal.checkpoints_`+name+` ORDER BY worker, task`) {
		if err != nil {
			return nil, fmt.Errorf("list the checkpoints of %s: %w", name, err)
		}
		all = append(all, checkpoint{worker: scan.As[string](row[0]), task: scan.As[string](row[1])})
	}
	for i := range all {
		state, ok, err := from.Checkpoint(ctx, all[i].worker, all[i].task)
		if err != nil || !ok {
			return nil, fmt.Errorf("read the checkpoint of %s %s (there: %v): %w", all[i].worker, all[i].task, ok, err)
		}
		all[i].state = state
	}
	return all, nil
}

func (r *runner) copyCheckpoints(ctx context.Context, all []checkpoint) error {
	r.began("checkpoints", 0, uint64(len(all)))
	for i, c := range all {
		number, err := strconv.Atoi(c.task) // the task of a share bears its number
		if err != nil || number >= r.o.Partitions {
			return fmt.Errorf("checkpoint of %s %s: its task is none of %d partitions", c.worker, c.task, r.o.Partitions)
		}
		commit := store.Commit{Worker: c.worker, Task: c.task, Checkpoint: c.state, Spans: []store.Span{{
			Partition: bus.PartitionID{Topic: "embedded-checkpoint", Number: number}, Through: bus.Progress{Through: bus.Position{Seq: 1}},
		}}}
		if err := r.retry(ctx, "checkpoints", func() error { return c.to.write(ctx, commit) }); err != nil {
			return fmt.Errorf("move the checkpoint of %s %s: %w", c.worker, c.task, err)
		}
		r.reached(uint64(i) + 1)
	}
	return nil
}

func (r *runner) compareCheckpoints(ctx context.Context, all []checkpoint) (differences []string, err error) {
	r.began("compare checkpoints", 0, uint64(len(all)))
	for i, c := range all {
		var state []byte
		err := r.retry(ctx, "checkpoints", func() (err error) {
			state, _, err = c.to.Checkpoint(ctx, c.worker, c.task)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("compare the checkpoint of %s %s: %w", c.worker, c.task, err)
		}
		if !bytes.Equal(state, c.state) {
			differences = append(differences, fmt.Sprintf("checkpoints: that of %s %s is another (%d bytes, want %d)", c.worker, c.task, len(state), len(c.state)))
		}
		r.reached(uint64(i) + 1)
	}
	return differences, nil
}
