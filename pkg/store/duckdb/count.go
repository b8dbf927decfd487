package duckdb

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/pkg/store"
)

// Count implements store.Counter, over one state of the tables and of history.
func (db *DB) Count(ctx context.Context, c store.CountQuery, each func(store.DeviceCount) error) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if !slices.Contains(selectTables(), c.Table) {
		return fmt.Errorf("count: there is no table %.100q", c.Table)
	}
	keys := strings.Join(c.Columns(), ", ")
	q := &selectQuery{}
	q.write("SELECT ", keys, ", count(*) FROM ", columnName(c.Table), " WHERE true")
	for _, condition := range c.Where {
		q.condition(condition)
	}
	q.write(" GROUP BY ", keys)
	result, err := db.Rows(ctx, q.text.String(), q.args...)
	if err != nil {
		return fmt.Errorf("count %s: %w", c.Table, err)
	}
	defer result.Close() //nolint:contextcheck // it gives its connection back also when ctx has ended
	for row, err := range result.Rows() {
		if err != nil {
			return fmt.Errorf("count %s: %w", c.Table, err)
		}
		d, err := c.Counted(row)
		if err != nil {
			return fmt.Errorf("count %s: %w", c.Table, err)
		}
		if err := each(d); err != nil {
			return err
		}
	}
	return nil
}
