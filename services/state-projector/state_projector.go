// Package stateprojector is the worker that keeps the latest state: of each channel of each device the newest message, and of
// each device when it was first and last heard and whether it is connected.
//
// It reads the topics telemetry, events, logs and sessions. Its promise: whatever the order in which messages arrive, and
// however often, the store ends with the message that is newest by (event time, origin) of each channel, and with the
// earliest and latest ingest time of each device. What is no message becomes a dead letter.
//
// Start reading at Run, then projector.Add.
package stateprojector

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/worker"
)

// Worker is the name of the worker and of its consumer group.
const Worker = "state-projector"

// Config says how latest state is kept.
type Config struct {
	CommitEvery time.Duration `yaml:"commit_every" doc:"How long changes may gather before they are written; what is overtaken meanwhile is never written."`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config { return Config{CommitEvery: 500 * time.Millisecond} }

// Validate reports every fault by its key.
func (c Config) Validate() error {
	if c.CommitEvery < 0 || c.CommitEvery > time.Minute {
		return fmt.Errorf("commit_every: %v, want 0s to 1m", c.CommitEvery)
	}
	return nil
}

// Deps is what the worker needs. The caller closes it after Run has returned.
type Deps struct {
	Bus     bus.Log
	Store   store.StateWriter
	Workers *worker.Metrics // of all workers of the process; nil counts nothing
	Log     *slog.Logger
	Now     func() time.Time
}

// Topics are what the worker reads.
func Topics() []string { return []string{bus.Telemetry, bus.Events, bus.Logs, bus.Sessions} }

// Run keeps the state until ctx ends and then finishes what is in hand; see worker.Loop for its errors.
func Run(ctx context.Context, cfg Config, d Deps) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("%s: %w", Worker, err)
	}
	loop := worker.Loop[store.MessageRow]{
		Worker:      Worker,
		Topics:      Topics(),
		Bus:         d.Bus,
		Store:       d.Store,
		NewTask:     func(int) (worker.Task[store.MessageRow], error) { return newProjector(), nil },
		CommitEvery: cfg.CommitEvery,
		Metrics:     d.Workers,
		Log:         d.Log,
		Now:         d.Now,
	}
	return loop.Run(ctx)
}
