package duckdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"github.com/millrace/millrace/pkg/store"
)

const (
	ownReaders = 4
	closeWait  = 5 * time.Second // for queries under way, when the database closes
)

// ErrInUse is returned by Open for a database that another process has open.
var ErrInUse = errors.New("another process has the database open")

// ErrDamaged is returned by Open for a file that is there and cannot be read.
var ErrDamaged = errors.New("the database cannot be read: restore it from a backup, or move it and its .wal away and let the workers read the log again")

// DB is an open database. Its methods are safe for concurrent use.
type DB struct {
	cfg       Config
	connector *duckdb.Connector
	pool      *sql.DB
	life      context.Context //nolint:containedctx // for values only; it never ends

	state       *stateStore
	logs        *logStore
	deadLetters *deadLetterStore
	aggregates  *aggregateStore
	alarms      *alarmStore
	lanes       []*lane

	readers chan *reader // Config.Queries of them; taking one is the right to run a query
	own     chan *reader // for Rows, so that analysts' queries do not keep our own waiting
	made    int          // readers in both, by Open
	closing sync.Once
	errored error
}

// Open opens the database, or makes one where there is none, brings its tables up to date, and shuts it off from the file
// system. Errors to test for: ErrInUse, ErrDamaged. ctx bounds the opening only.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	connector, err := duckdb.NewConnector(cfg.Path, nil)
	if err != nil {
		return nil, fmt.Errorf("open duckdb %s: %w", cfg.Path, explainOpen(err))
	}
	db := &DB{
		cfg: cfg, connector: connector, pool: sql.OpenDB(connector), life: context.WithoutCancel(ctx),
		readers: make(chan *reader, cfg.Queries), own: make(chan *reader, ownReaders),
	}
	if err := db.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open duckdb %s: %w", cfg.Path, explainOpen(err)), db.Close())
	}
	return db, nil
}

// explainOpen adds to an error of DuckDB what it means to an operator.
func explainOpen(err error) error {
	text := err.Error()
	for _, sign := range []string{"Could not set lock", "Conflicting lock"} {
		if strings.Contains(text, sign) {
			return fmt.Errorf("%w: %w", ErrInUse, err)
		}
	}
	for _, sign := range []string{
		"not a valid DuckDB database", "Corrupt", "corrupt", "checksum", "Serialization Error", "Failure while replaying WAL",
		"INTERNAL Error", "Could not read", "file is too small", "The file is not",
	} {
		if strings.Contains(text, sign) {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	return err
}

func (db *DB) prepare(ctx context.Context) error {
	setup, err := db.pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = setup.Close() }()
	if err := db.limit(ctx, setup); err != nil {
		return err
	}
	if err := migrate(ctx, setup); err != nil {
		return err
	}
	if err := registerRecent(setup); err != nil {
		return fmt.Errorf("register the newest rows: %w", err)
	}
	if err := db.lock(ctx, setup); err != nil {
		return err
	}
	if err := db.openStores(ctx); err != nil {
		return err
	}
	for _, free := range []chan *reader{db.readers, db.own} {
		for range cap(free) {
			r, err := db.newReader(ctx)
			if err != nil {
				return err
			}
			free <- r
			db.made++
		}
	}
	return nil
}

// limit sets what the database may use; all of it is locked later.
func (db *DB) limit(ctx context.Context, c *sql.Conn) error {
	if err := os.MkdirAll(db.cfg.TempDir, 0o750); err != nil {
		return err
	}
	settings := []string{
		"SET GLOBAL TimeZone = 'UTC'", // now() is compared with our times, which are UTC
		fmt.Sprintf("SET GLOBAL memory_limit = '%dB'", db.cfg.MemoryLimit),
		fmt.Sprintf("SET GLOBAL max_temp_directory_size = '%dB'", db.cfg.TempLimit),
		fmt.Sprintf("SET GLOBAL checkpoint_threshold = '%dB'", db.cfg.CheckpointBytes),
		fmt.Sprintf("SET GLOBAL threads = %d", db.cfg.Threads),
		"SET GLOBAL temp_directory = " + quote(db.cfg.TempDir),
		"SET GLOBAL parquet_metadata_cache = true", // a footer is read once, not once a query
		"SET GLOBAL autoinstall_known_extensions = false",
		"SET GLOBAL autoload_known_extensions = false",
		"SET GLOBAL allow_community_extensions = false",
	}
	return execAll(ctx, c, settings)
}

// lock shuts the database off from every file but the archive's, for good.
func (db *DB) lock(ctx context.Context, c *sql.Conn) error {
	var settings []string
	if db.cfg.ArchiveDir != "" {
		settings = append(settings, "SET GLOBAL allowed_directories = ["+quote(strings.TrimSuffix(db.cfg.ArchiveDir, "/")+"/")+"]")
	}
	return execAll(ctx, c, append(settings,
		"SET GLOBAL enable_external_access = false",
		"SET GLOBAL lock_configuration = true",
	))
}

func execAll(ctx context.Context, c *sql.Conn, statements []string) error {
	for _, s := range statements {
		if _, err := c.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

func (db *DB) openStores(ctx context.Context) error {
	lane := func(name string, checkpoints bool) *lane {
		l := newLane(db, name, checkpoints)
		db.lanes = append(db.lanes, l)
		return l
	}
	db.state = newStateStore(lane("state", false))
	db.logs = &logStore{lane: lane("logs", false)}
	db.deadLetters = &deadLetterStore{lane: lane("dead_letters", false)}
	db.aggregates = newAggregateStore(lane("aggregates", true))
	db.alarms = &alarmStore{lane: lane("alarms", true)}
	var files []string
	for _, l := range db.lanes {
		if err := l.open(ctx); err != nil {
			return fmt.Errorf("load %s: %w", l.name, err)
		}
		files = append(files, l.checkpointFiles()...)
	}
	return sweepCheckpoints(db.cfg.Path, files)
}

// State returns the store of device_state and devices.
func (db *DB) State() store.StateWriter { return db.state }

// Logs returns the store of logs.
func (db *DB) Logs() store.LogWriter { return db.logs }

// DeadLetters returns the store of dead_letters.
func (db *DB) DeadLetters() store.DeadLetterWriter { return db.deadLetters }

// Aggregates returns the store of aggregates.
func (db *DB) Aggregates() store.AggregateWriter { return db.aggregates }

// Alarms returns the store of alarms.
func (db *DB) Alarms() store.AlarmWriter { return db.alarms }

// Close moves the write-ahead log into the file and closes it. Writes and queries under way end first. Calling it again
// returns what the first call did.
func (db *DB) Close() error {
	db.closing.Do(func() {
		var errs []error
		for _, l := range db.lanes {
			errs = append(errs, l.close())
		}
		errs = append(errs, db.closeReaders())
		db.errored = errors.Join(append(errs, db.pool.Close())...)
	})
	return db.errored
}

// closeReaders waits for the queries under way and closes their connections.
func (db *DB) closeReaders() error {
	var errs []error
	deadline := time.NewTimer(closeWait)
	defer deadline.Stop()
	for range db.made {
		select {
		case r := <-db.readers:
			errs = append(errs, r.conn.Close())
		case r := <-db.own:
			errs = append(errs, r.conn.Close())
		case <-deadline.C:
			return errors.Join(append(errs, errors.New("a query is still under way"))...)
		}
	}
	return errors.Join(errs...)
}
