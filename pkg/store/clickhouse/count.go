package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/pkg/store"
)

// Count implements store.Counter.
func (db *DB) Count(ctx context.Context, c store.CountQuery, each func(store.DeviceCount) error) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if !slices.Contains(selectTables(), c.Table) {
		return fmt.Errorf("count: there is no table %.100q", c.Table)
	}
	ctx, cancel := db.bounded(ctx)
	defer cancel()
	rows, err := db.query(ctx, countStatement(db.cfg, &c))
	if err != nil {
		return fmt.Errorf("count %s: %w", c.Table, err)
	}
	stopped, err := eachRow(rows, func(row []any) error {
		d, err := c.Counted(row)
		if err != nil {
			return err
		}
		return each(d)
	})
	if stopped {
		cancel()
		_ = rows.Close() // says only that it was cancelled
		return err
	}
	if err := errors.Join(err, rows.Close()); err != nil {
		return fmt.Errorf("count %s: %w", c.Table, err)
	}
	return nil
}

func countStatement(cfg Config, c *store.CountQuery) string {
	keys := strings.Join(c.Columns(), ", ")
	return "SELECT " + keys + ", count() FROM " + selectSource(cfg, c.Table) + " WHERE true" + conditions(c.Where) + " GROUP BY " + keys
}
