package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/schemas"
)

// migrationLock is the key of the advisory lock under which tables are changed: "millrace" as ASCII.
const migrationLock = 0x6d696c6c72616365

// Migration is one file of schemas.Postgres.
type Migration struct {
	Version int
	Name    string // of the file
	SQL     string // for the schema of the Config
}

// MigrateOptions say how to migrate.
type MigrateOptions struct {
	DryRun bool // change nothing
}

// Migrate makes the schema and its tables, or brings them up to date, and returns what was applied, or would be. All of it is one
// transaction under a lock, so several may call it at once, and what was interrupted has changed nothing. Config.Timeout does not
// bound it: an ALTER TABLE may wait for readers.
func Migrate(ctx context.Context, cfg Config, o MigrateOptions) ([]Migration, error) {
	db, err := connect(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("migrate postgres: %w", err)
	}
	defer func() { _ = db.Close() }()
	applied, err := db.migrate(ctx, o.DryRun)
	if err != nil {
		return nil, fmt.Errorf("migrate postgres: %w", err)
	}
	return applied, nil
}

func (db *DB) migrate(ctx context.Context, dry bool) (pending []Migration, err error) {
	all, err := db.migrations()
	if err != nil {
		return nil, err
	}
	err = pgx.BeginTxFunc(ctx, db.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if !dry {
			if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
				return err
			}
		}
		have, err := db.version(ctx, tx)
		if err != nil {
			return err
		}
		pending = all[min(have, len(all)):]
		if dry || len(pending) == 0 {
			return nil
		}
		if err := db.prepareSchema(ctx, tx); err != nil {
			return err
		}
		for _, m := range pending {
			if _, err := tx.Exec(ctx, m.SQL, pgx.QueryExecModeSimpleProtocol); err != nil {
				return fmt.Errorf("%s: %w", m.Name, err)
			}
			if _, err := tx.Exec(ctx, `INSERT INTO `+db.schema+`.schema_migrations (version, name) VALUES ($1, $2)`, m.Version, m.Name); err != nil {
				return fmt.Errorf("%s: %w", m.Name, err)
			}
		}
		return nil
	})
	return pending, err
}

// prepareSchema makes the schema where there is none: CREATE SCHEMA IF NOT EXISTS would ask for the right to make one even then.
func (db *DB) prepareSchema(ctx context.Context, tx pgx.Tx) error {
	var there bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)`, db.cfg.Schema).Scan(&there); err != nil {
		return err
	}
	if !there {
		if _, err := tx.Exec(ctx, `CREATE SCHEMA `+db.schema); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `CREATE TABLE IF NOT EXISTS `+db.schema+`.schema_migrations (
		version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())`)
	return err
}

// version returns the number of the newest migration that the schema has, 0 where there is none.
func (db *DB) version(ctx context.Context, tx pgx.Tx) (have int, err error) {
	var there bool
	err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = 'schema_migrations')`, db.cfg.Schema).Scan(&there)
	if err != nil || !there {
		return 0, err
	}
	err = tx.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM `+db.schema+`.schema_migrations`).Scan(&have)
	return have, err
}

// checkVersion refuses tables that lack what this release writes.
func (db *DB) checkVersion(ctx context.Context) error {
	all, err := db.migrations()
	if err != nil {
		return err
	}
	var have int
	err = pgx.BeginTxFunc(ctx, db.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) (err error) {
		have, err = db.version(ctx, tx)
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("read the version of schema %s: %w", db.schema, err)
	case have == 0:
		return fmt.Errorf("schema %s has no tables of ours: %w", db.schema, ErrMigrate)
	case have < len(all):
		return fmt.Errorf("the tables of schema %s have version %d, this release needs %d: %w", db.schema, have, len(all), ErrMigrate)
	case have > len(all):
		db.cfg.Log.Info("the tables of PostgreSQL are newer than this release", "schema", db.cfg.Schema, "version", have, "known", len(all))
	}
	return nil
}

// migrations returns all of them: the one at i has version i+1.
func (db *DB) migrations() ([]Migration, error) {
	names, err := fs.Glob(schemas.Postgres(), "*.sql") // sorted
	if err != nil {
		return nil, err
	}
	var all []Migration
	for i, name := range names {
		number, _, _ := strings.Cut(name, "_")
		if n, err := strconv.Atoi(number); err != nil || n != i+1 {
			return nil, errors.Join(fmt.Errorf("%s: want number %03d before the first underscore", name, i+1), err)
		}
		text, err := fs.ReadFile(schemas.Postgres(), name)
		if err != nil {
			return nil, err
		}
		all = append(all, Migration{Version: i + 1, Name: name, SQL: strings.ReplaceAll(string(text), "{schema}", db.schema)})
	}
	return all, nil
}
