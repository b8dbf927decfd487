package duckdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/millrace/millrace/schemas"
)

// ErrNewer is returned by Open for a database whose tables a newer release has changed.
var ErrNewer = errors.New("the database was written by a newer release")

// migrate applies what of schemas.DuckDB the database does not have yet, each file in a transaction of its own.
func migrate(ctx context.Context, c *sql.Conn) error {
	const table = `CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER NOT NULL, name VARCHAR NOT NULL)`
	if _, err := c.ExecContext(ctx, table); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	var have int
	if err := c.QueryRowContext(ctx, `SELECT coalesce(max(version), 0) FROM schema_migrations`).Scan(&have); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	names, err := fs.Glob(schemas.DuckDB(), "*.sql") // sorted
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	newest := 0
	for _, name := range names {
		number, _, _ := strings.Cut(name, "_")
		if newest, err = strconv.Atoi(number); err != nil {
			return fmt.Errorf("migrate: %s: want a number before the first underscore", name)
		}
		if newest <= have {
			continue
		}
		if err := applyMigration(ctx, c, newest, name); err != nil {
			return fmt.Errorf("migrate: %s: %w", name, err)
		}
	}
	if have > newest {
		return fmt.Errorf("migrate: %w: it has version %d, this release knows %d", ErrNewer, have, newest)
	}
	return nil
}

func applyMigration(ctx context.Context, c *sql.Conn, version int, name string) error {
	text, err := fs.ReadFile(schemas.DuckDB(), name)
	if err != nil {
		return err
	}
	tx, err := c.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, string(text))
	if err == nil {
		_, err = tx.ExecContext(ctx, `INSERT INTO schema_migrations VALUES (?, ?)`, version, name)
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}
