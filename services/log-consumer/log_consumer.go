// Package logconsumer is the worker that keeps what devices log, and what no worker could process.
//
// It is two loops. The one reads the topic logs and gives each Log message to the store of logs; those that are Critical it
// also publishes to the topic critical, under the same origin, bytes unchanged, so that alerting sees each once. The other
// reads dead-letters and gives each dead letter to the store of dead letters; one that a restarted worker wrote again is
// dropped. What is no log, or no message at all, becomes a dead letter itself; a dead letter that cannot be read is logged.
//
// Start reading at Run.
package logconsumer

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
)

// The names of the two loops and of their consumer groups.
const (
	Worker           = "log-consumer"
	DeadLetterWorker = "dead-letter-writer"
)

// Config says how logs and dead letters are kept.
type Config struct {
	CommitEvery time.Duration `yaml:"commit_every" doc:"How long lines may gather before they are written."`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config { return Config{CommitEvery: 200 * time.Millisecond} }

// Validate reports every fault by its key.
func (c Config) Validate() error {
	if c.CommitEvery < 0 || c.CommitEvery > time.Minute {
		return fmt.Errorf("commit_every: %v, want 0s to 1m", c.CommitEvery)
	}
	return nil
}

// Deps is what the worker needs. The caller closes it after Run has returned.
type Deps struct {
	Bus         bus.Log
	Logs        store.LogWriter
	DeadLetters store.DeadLetterWriter
	Workers     *worker.Metrics // of all workers of the process; nil counts nothing
	Log         *slog.Logger
	Now         func() time.Time
}

// Run works until ctx ends and then finishes what is in hand; see worker.Loop for its errors. When one loop ends with an
// error, so does the other.
func Run(ctx context.Context, cfg Config, d Deps) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("%s: %w", Worker, err)
	}
	logs := worker.Loop[store.MessageRow]{
		Worker: Worker, Topics: []string{bus.Logs}, Bus: d.Bus, Store: d.Logs,
		NewTask:     func(int) (worker.Task[store.MessageRow], error) { return worker.Decide[store.MessageRow](decide), nil },
		CommitEvery: cfg.CommitEvery, Metrics: d.Workers, Log: d.Log, Now: d.Now,
	}
	letters := worker.Loop[store.DeadLetterRow]{
		Worker: DeadLetterWorker, Topics: []string{bus.DeadLetters}, Bus: d.Bus, Store: d.DeadLetters,
		NewTask: func(share int) (worker.Task[store.DeadLetterRow], error) { return newLetters(share), nil },
		Warm:    warm, CommitEvery: cfg.CommitEvery, Metrics: d.Workers, Log: d.Log, Now: d.Now,
	}
	both, running := errgroup.WithContext(ctx)
	both.Go(func() error { return logs.Run(running) })
	both.Go(func() error { return letters.Run(running) })
	return both.Wait()
}

// decide makes a row of a log, and publishes it where it is critical.
func decide(out *worker.Output[store.MessageRow], _ string, r bus.Record) error {
	out.Rows = append(out.Rows, store.MessageRow{Origin: r.Origin}) // the loop takes it back where an error follows
	row := &out.Rows[len(out.Rows)-1]
	if err := telemetry.ParseMessage(r.Value, &row.Message); err != nil {
		return fmt.Errorf("read the message: %w", err)
	}
	if row.Kind != telemetry.KindLog {
		return fmt.Errorf("kind: %d, want a log (%d): logs are all that the table logs has columns for", row.Kind, telemetry.KindLog)
	}
	if row.Severity >= telemetry.SeverityCritical {
		out.Publish = append(out.Publish, worker.Publication{Topic: bus.Critical, Record: r})
	}
	return nil
}
