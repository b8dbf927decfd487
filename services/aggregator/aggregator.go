// Package aggregator is the worker that computes event-time windows of every numeric channel: count, min, max, sum, first,
// last and quantiles, per device and channel.
//
// It reads the topic telemetry and writes aggregates, one row a window, which it also publishes to the topic aggregates,
// together with the running values of windows that are still open. Its promise: a row equals what SQL computes from history
// over the same window, in whatever order the messages came, as long as none was later than correct_within; and its state
// is written together with rows and progress, so that each message counts once.
//
// Start reading at Run; windows and clocks are in internal/window.
package aggregator

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/worker"
	"github.com/millrace/millrace/services/aggregator/internal/window"
)

// Worker is the name of the worker and of its consumer group.
const Worker = "aggregator"

// Deps is what the worker needs. The caller closes it after Run has returned.
type Deps struct {
	Bus     bus.Log
	Store   store.AggregateWriter
	Workers *worker.Metrics       // of all workers of the process; nil counts nothing
	Metrics prometheus.Registerer // for the worker's own counters; nil registers none
	Log     *slog.Logger          // nil discards
	Now     func() time.Time
}

// Topics are what the worker reads.
func Topics() []string { return []string{bus.Telemetry} }

// Run keeps the aggregates until ctx ends and then finishes what is in hand; see worker.Loop for its errors.
func Run(ctx context.Context, cfg Config, d Deps) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("%s: %w", Worker, err)
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	counts, err := newMetrics(d.Metrics)
	if err != nil {
		return fmt.Errorf("%s: %w", Worker, err)
	}
	windows := cfg.windows()
	finish := &finisher{store: d.Store, metrics: counts, log: d.Log, now: d.Now, keep: cfg.stateAge()}
	loop := worker.Loop[store.AggregateRow]{
		Worker: Worker, Topics: Topics(), Bus: d.Bus, Upstream: []worker.Upstream{{Group: bus.Router, Topic: bus.Ingested}},
		Store: d.Store, Checkpoints: d.Store,
		NewTask: func(share int) (worker.Task[store.AggregateRow], error) {
			own := windows
			own.Changed = func(what string) {
				d.Log.WarnContext(ctx, "the windows of the configuration are not those of the checkpoint", "share", share, "change", what)
			}
			return window.New(own, &counts.windows)
		},
		Prepare:     finish.Prepare,
		CommitEvery: cfg.CommitEvery,
		Metrics:     d.Workers, Log: d.Log, Now: d.Now,
	}
	stopUpkeep := upkeep{store: d.Store, metrics: counts, log: d.Log, now: d.Now}.start(ctx)
	defer stopUpkeep()
	return loop.Run(ctx)
}
