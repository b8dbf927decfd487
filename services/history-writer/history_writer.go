// Package historywriter is the worker that keeps every Channel and Event message as a row of history: it reads the topics
// telemetry and events and gives each message to a store, such as pkg/store/parquet, and where there is one also to the archive on
// object storage.
//
// A row is readable when its write has returned, and durable when the store's Progress covers it: only that is committed to
// the log, so what a crash took from the store's memory is read again. A record that is no message, and a row that the
// store will never take, become dead letters.
//
// Start reading at Run.
package historywriter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
)

// Worker is the name of the worker and of its consumer group; ArchiveWorker that of its second group, which writes the archive
// on object storage.
const (
	Worker        = "history-writer"
	ArchiveWorker = "archive-writer"
)

// Config says how history is kept up; how it is stored is the store's affair.
type Config struct {
	CommitEvery time.Duration `yaml:"commit_every" doc:"How long messages may gather before they are given to history and SQL sees them."`
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
	Bus     bus.Log
	Store   store.Writer[store.MessageRow] // device_messages; flushed where it is store.Buffered
	Archive store.HistoryWriter            // the archive on object storage, a consumer group of its own; nil where there is none
	Workers *worker.Metrics                // of all workers of the process; nil counts nothing
	Log     *slog.Logger
	Now     func() time.Time
}

// Run works until ctx ends, and then writes and flushes what is in hand; see worker.Loop for its errors.
func Run(ctx context.Context, cfg Config, d Deps) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("%s: %w", Worker, err)
	}
	warm := loop(Worker, d.Store, cfg, d)
	if d.Archive == nil {
		return warm.Run(ctx)
	}
	cold := loop(ArchiveWorker, d.Archive, cfg, d)
	both, running := errgroup.WithContext(ctx)
	both.Go(func() error { return warm.Run(running) })
	both.Go(func() error { return cold.Run(running) })
	return both.Wait()
}

// loop keeps history in rows as a consumer group of its own, so that neither store waits for the other.
func loop(group string, rows store.Writer[store.MessageRow], cfg Config, d Deps) *worker.Loop[store.MessageRow] {
	return &worker.Loop[store.MessageRow]{
		Worker: group, Topics: []string{bus.Telemetry, bus.Events}, Bus: d.Bus, Store: rows,
		NewTask:     func(int) (worker.Task[store.MessageRow], error) { return worker.Decide[store.MessageRow](decide), nil },
		CommitEvery: cfg.CommitEvery, Metrics: d.Workers, Log: d.Log, Now: d.Now,
	}
}

var errNoDevice = errors.New("device_id: empty, want the name of a device")

// decide makes a row of a message.
func decide(out *worker.Output[store.MessageRow], _ string, r bus.Record) error {
	out.Rows = append(out.Rows, store.MessageRow{}) // the loop takes it back where an error follows
	return Row(&out.Rows[len(out.Rows)-1], r)
}

// Row makes the row of history of a record of telemetry or events. What row points to may alias the record's value. An error says that the
// record is none: the worker makes a dead letter of it.
func Row(row *store.MessageRow, r bus.Record) error {
	*row = store.MessageRow{Origin: r.Origin}
	if err := telemetry.ParseMessage(r.Value, &row.Message); err != nil {
		return fmt.Errorf("read the message: %w", err)
	}
	if row.DeviceID == "" {
		return errNoDevice
	}
	if row.Kind == telemetry.KindLog {
		keepLine(&row.Message)
	}
	return nil
}

// keepLine puts what a log says where history has columns for it. A log comes here only by a route of the configuration, since
// logs have a table of their own.
func keepLine(m *telemetry.Message) {
	if len(m.ChannelValue) == 0 {
		m.ChannelType, m.ChannelValue = "text", []byte(m.Text)
	}
	about := store.AppendProperties(nil, []telemetry.Property{
		{Key: "severity", Value: m.Severity.String()}, {Key: "log_source", Value: m.LogSource},
	})
	switch {
	case len(m.Attributes) <= len("{}"):
		m.Attributes = about
	case m.Attributes[0] == '{': // its members follow ours
		about[len(about)-1] = ','
		m.Attributes = append(about, m.Attributes[1:]...)
	}
}
