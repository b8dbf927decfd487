package stores

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/store"
)

// Deps are what opening engines needs of its process.
type Deps struct {
	Log     *slog.Logger
	Now     func() time.Time
	Metrics prometheus.Registerer
}

// Set opens each engine that the configuration names once, when it is first needed. Safe for concurrent use.
type Set struct {
	cfg   Config
	deps  Deps
	slots map[string]*slot
}

// slot is the place of one engine.
type slot struct {
	mu   sync.Mutex
	open *engine // nil until it is
}

// engine is an open one, with what it keeps; nil for what it cannot.
type engine struct {
	state      store.StateWriter
	history    store.Writer[store.MessageRow]
	aggregates store.AggregateWriter
	alarms     store.AlarmWriter
	logs       store.LogWriter
	letters    store.DeadLetterWriter
	reader     store.Reader
	sql        Queries
	close      func() error
}

// New returns a Set that has opened nothing.
func New(cfg Config, d Deps) *Set {
	s := &Set{cfg: cfg, deps: d, slots: map[string]*slot{}}
	for name := range openers() {
		s.slots[name] = &slot{}
	}
	return s
}

// Close closes what was opened.
func (s *Set) Close() error {
	var errs []error
	for _, slot := range s.slots {
		slot.mu.Lock()
		if slot.open != nil {
			errs = append(errs, slot.open.close())
			slot.open = nil
		}
		slot.mu.Unlock()
	}
	return errors.Join(errs...)
}

// State opens what keeps device_state and devices.
func (s *Set) State(ctx context.Context) (store.StateWriter, error) {
	e, err := s.keeper(ctx, "state", s.cfg.Tables.State, "device_state and devices", "state-projector")
	if err != nil {
		return nil, err
	}
	return e.state, nil
}

// History opens what keeps device_messages.
func (s *Set) History(ctx context.Context) (store.Writer[store.MessageRow], error) {
	e, err := s.keeper(ctx, "history", s.cfg.Tables.History, "device_messages", "history-writer")
	if err != nil {
		return nil, err
	}
	return e.history, nil
}

// Aggregates opens what keeps aggregates and the checkpoints of the aggregator.
func (s *Set) Aggregates(ctx context.Context) (store.AggregateWriter, error) {
	e, err := s.keeper(ctx, "aggregates", s.cfg.Tables.Aggregates, "aggregates", "aggregator")
	if err != nil {
		return nil, err
	}
	return e.aggregates, nil
}

// Alarms opens what keeps alarms and the checkpoints of alerting.
func (s *Set) Alarms(ctx context.Context) (store.AlarmWriter, error) {
	e, err := s.keeper(ctx, "alarms", s.cfg.Tables.Alarms, "alarms", "alerting")
	if err != nil {
		return nil, err
	}
	return e.alarms, nil
}

// Logs opens what keeps logs.
func (s *Set) Logs(ctx context.Context) (store.LogWriter, error) {
	e, err := s.keeper(ctx, "logs", s.cfg.Tables.Logs, "logs", "log-consumer")
	if err != nil {
		return nil, err
	}
	return e.logs, nil
}

// DeadLetters opens what keeps dead_letters.
func (s *Set) DeadLetters(ctx context.Context) (store.DeadLetterWriter, error) {
	e, err := s.keeper(ctx, "dead_letters", s.cfg.Tables.DeadLetters, "dead_letters", "log-consumer")
	if err != nil {
		return nil, err
	}
	return e.letters, nil
}

// keeper opens the engine of a purpose, patiently.
func (s *Set) keeper(ctx context.Context, key, name, tables, worker string) (*engine, error) {
	if name == Embedded {
		return nil, fmt.Errorf("stores.%s is embedded: %s keeps %s in a store that is embedded in `millrace run` and cannot be reached from another "+
			"process: run it there, with bus.url set to the log's server and workers: [%s], or name another engine", key, worker, tables, worker)
	}
	return connect.Patiently(ctx, s.deps.Log, name, func() (*engine, error) { return s.engine(ctx, name) })
}

// engine returns an engine, and opens it where it is not open.
func (s *Set) engine(ctx context.Context, name string) (*engine, error) {
	slot, ok := s.slots[name]
	if !ok {
		return nil, backoff.Permanent(fmt.Errorf("stores: %q is no engine, want %s, %s or %s", name, ClickHouse, Elasticsearch, Postgres))
	}
	slot.mu.Lock()
	defer slot.mu.Unlock()
	if slot.open != nil {
		return slot.open, nil
	}
	opener := openers()[name]
	if opener.url(&s.cfg) == "" {
		return nil, backoff.Permanent(opener.missing(name))
	}
	e, err := opener.open(ctx, s.cfg, s.deps)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	slot.open = e
	return e, nil
}

// engineOf returns the engine that keeps a table, "" where none does.
func (t Tables) engineOf(table string) string {
	return map[string]string{
		store.TableDevices: t.State, store.TableState: t.State, store.TableMessages: t.History, store.TableAggregates: t.Aggregates,
		store.TableAlarms: t.Alarms, store.TableLogs: t.Logs, store.TableDeadLetters: t.DeadLetters,
	}[table]
}

// elsewhere returns the tables that engine does not keep, with the engine that does.
func (t Tables) elsewhere(engine string) map[string]string {
	others := map[string]string{}
	for _, table := range []string{
		store.TableDevices, store.TableState, store.TableMessages, store.TableAggregates, store.TableAlarms, store.TableLogs, store.TableDeadLetters,
	} {
		if keeper := t.engineOf(table); keeper != engine {
			others[table] = keeper
		}
	}
	return others
}

// fault marks a fault of the configuration, which no waiting mends.
func fault(section string, err error) error {
	return backoff.Permanent(fmt.Errorf("%s.%w", section, err))
}
