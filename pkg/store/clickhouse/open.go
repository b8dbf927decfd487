package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/millrace/millrace/pkg/store"
)

// Errors of Open.
var (
	// ErrNotMigrated: the tables are missing, or older than this release needs.
	ErrNotMigrated = errors.New("the tables are not up to date: run millrace migrate")
	// ErrNewer: a newer release has changed the tables in a way that this one cannot work with.
	ErrNewer = errors.New("the tables were migrated by a newer release, which this one cannot work with")
)

// DB is an open database. Its methods are safe for concurrent use.
type DB struct {
	cfg  Config
	conn driver.Conn

	state       *stateStore
	history     *historyStore
	logs        *logStore
	deadLetters *deadLetterStore
	aggregates  *aggregateStore
	alarms      *alarmStore
	queries     *querier

	closing sync.Once
	errored error
}

// Open connects and looks whether the tables are there, which Migrate makes. Errors to test for: ErrNotMigrated, ErrNewer.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	cfg, conn, err := connect(cfg)
	if err != nil {
		return nil, fmt.Errorf("open clickhouse: %w", err)
	}
	db := &DB{cfg: cfg, conn: conn}
	ctx, cancel := db.bounded(ctx)
	defer cancel()
	if err := checkVersion(ctx, cfg, conn); err != nil {
		return nil, errors.Join(fmt.Errorf("open clickhouse database %s: %w", cfg.Database, err), conn.Close())
	}
	db.state = newStateStore(newLane(db, "state", false))
	db.history = &historyStore{lane: newLane(db, "history", false)}
	db.logs = &logStore{lane: newLane(db, "logs", false)}
	db.deadLetters = &deadLetterStore{newLane(db, "dead_letters", false)}
	db.aggregates = &aggregateStore{newLane(db, "aggregates", true)}
	db.alarms = &alarmStore{newLane(db, "alarms", true)}
	db.queries = newQuerier(cfg)
	return db, nil
}

func connect(cfg Config) (Config, driver.Conn, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return cfg, nil, err
	}
	options, err := cfg.options()
	if err != nil {
		return cfg, nil, err
	}
	conn, err := ch.Open(options)
	if err != nil {
		return cfg, nil, err
	}
	return cfg, conn, nil
}

// bounded gives a statement the deadline that its context may lack, so that a server that hangs shows as an error.
func (db *DB) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, db.cfg.Timeout)
}

// State returns the store of device_state and devices.
func (db *DB) State() store.StateWriter { return db.state }

// History returns the store of device_messages. Nothing of it is held back: Flush has nothing to do.
func (db *DB) History() store.HistoryWriter { return db.history }

// Logs returns the store of logs.
func (db *DB) Logs() store.LogWriter { return db.logs }

// DeadLetters returns the store of dead_letters.
func (db *DB) DeadLetters() store.DeadLetterWriter { return db.deadLetters }

// Aggregates returns the store of aggregates.
func (db *DB) Aggregates() store.AggregateWriter { return db.aggregates }

// Alarms returns the store of alarms.
func (db *DB) Alarms() store.AlarmWriter { return db.alarms }

// Ping returns nil when the server answers.
func (db *DB) Ping(ctx context.Context) error {
	ctx, cancel := db.bounded(ctx)
	defer cancel()
	if err := db.conn.Ping(ctx); err != nil {
		return fmt.Errorf("ping clickhouse: %w", err)
	}
	return nil
}

// Close closes the connections; writes and queries under way end with an error. Calling it again returns what the first call did.
func (db *DB) Close() error {
	db.closing.Do(func() { db.errored = errors.Join(db.queries.close(), db.conn.Close()) })
	return db.errored
}

// logSlow returns what is called when a write is done.
func (db *DB) logSlow(ctx context.Context, name string, rows int) func() {
	if db.cfg.Now == nil {
		return func() {}
	}
	start := db.cfg.Now()
	return func() {
		if took := db.cfg.Now().Sub(start); took >= slowWrite {
			db.cfg.Log.WarnContext(ctx, "a write was slow", "store", name, "rows", rows, "took", took.Round(time.Millisecond))
		}
	}
}
