package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/pkg/store"
)

const serverMin = 130000 // server_version_num of PostgreSQL 13

// ErrMigrate is returned by Open for a database whose tables are missing or older than this release needs.
var ErrMigrate = errors.New("run `millrace migrate`")

// DB is an open database. Its methods are safe for concurrent use.
type DB struct {
	cfg    Config
	schema string // quoted
	pool   *pgxpool.Pool
	folded string // collation in which Contains folds upper and lower case, quoted
	alarms *alarmStore
}

// Open connects to the server and looks whether it fits: its version, its encoding, its tables. Errors to test for: ErrMigrate. A
// database that a newer release has migrated is used as it is, since migrations only add.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	db, err := connect(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open postgres: %w", err)
	}
	ctx, cancel := db.bounded(ctx)
	defer cancel()
	if err := db.checkVersion(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open postgres: %w", err), db.Close())
	}
	return db, nil
}

// connect returns a database whose tables nobody has looked at.
func connect(ctx context.Context, cfg Config) (*DB, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	pc, err := cfg.pool()
	if err != nil {
		return nil, err
	}
	db := &DB{cfg: cfg, schema: pgx.Identifier{cfg.Schema}.Sanitize()}
	db.alarms = newAlarmStore(db)
	ctx, cancel := db.bounded(ctx)
	defer cancel()
	if db.pool, err = pgxpool.NewWithConfig(context.WithoutCancel(ctx), pc); err != nil {
		return nil, err
	}
	if err := db.checkServer(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// checkServer looks at what no table of ours can change.
func (db *DB) checkServer(ctx context.Context) error {
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	var version int
	var release, encoding, fsync string
	err = conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_version'),
		current_setting('server_encoding'), current_setting('fsync'),
		coalesce((SELECT '"' || collname || '"' FROM pg_collation WHERE collname = 'und-x-icu' AND collnamespace = 'pg_catalog'::regnamespace), '"default"')`).
		Scan(&version, &release, &encoding, &fsync, &db.folded)
	switch {
	case err != nil:
		return fmt.Errorf("ask the server what it is: %w", err)
	case version < serverMin:
		return fmt.Errorf("the server is PostgreSQL %s, want 13 or later", release)
	case encoding != "UTF8":
		return fmt.Errorf("the database has encoding %s, want UTF8: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0", encoding)
	}
	if fsync == "off" {
		db.cfg.Log.Warn("the PostgreSQL server has fsync off: what it confirms is lost when its machine stops")
	}
	raw := conn.Conn().PgConn().Conn()
	if _, secure := raw.(*tls.Conn); !secure && !onThisMachine(raw.RemoteAddr()) {
		db.cfg.Log.Warn("the connection to PostgreSQL is not encrypted: add sslmode=verify-full to the URL", "server", raw.RemoteAddr().String())
	}
	return nil
}

func onThisMachine(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

// bounded gives ctx the deadline that every call has.
func (db *DB) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, db.cfg.Timeout)
}

// Alarms returns the store of alarms.
func (db *DB) Alarms() store.AlarmWriter { return db.alarms }

// Ping tells whether the server answers.
func (db *DB) Ping(ctx context.Context) error {
	ctx, cancel := db.bounded(ctx)
	defer cancel()
	if err := db.pool.Ping(ctx); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	return nil
}

// Close waits for calls under way and closes every connection. Calling it again does nothing.
func (db *DB) Close() error {
	if db.pool != nil {
		db.pool.Close()
	}
	return nil
}
