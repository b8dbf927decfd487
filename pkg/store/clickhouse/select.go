package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/millrace/millrace/pkg/store"
)

// Select implements store.Reader. A row is there as soon as its write has returned.
func (db *DB) Select(ctx context.Context, s store.Selection, each func(row []any) error) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if !slices.Contains(selectTables(), s.Table) {
		return fmt.Errorf("select: there is no table %.100q", s.Table)
	}
	ctx, cancel := db.bounded(ctx) // cancelled before the rows are closed, which else reads them to the end
	defer cancel()
	rows, err := db.query(ctx, selectStatement(db.cfg, &s))
	if err != nil {
		return fmt.Errorf("select from %s: %w", s.Table, err)
	}
	stopped, err := eachRow(rows, each)
	if stopped {
		cancel()
		_ = rows.Close() // says only that it was cancelled
		return err
	}
	if err := errors.Join(err, rows.Close()); err != nil {
		return fmt.Errorf("select from %s: %w", s.Table, err)
	}
	return nil
}

func selectTables() []string {
	return []string{
		store.TableDevices, store.TableState, store.TableMessages, store.TableAggregates, store.TableAlarms, store.TableLogs, store.TableDeadLetters,
	}
}

// eachRow calls each with every row; stopped says that the error is one of each.
func eachRow(rows driver.Rows, each func(row []any) error) (stopped bool, err error) {
	types := rows.ColumnTypes()
	into, row := make([]any, len(types)), make([]any, len(types))
	for i, t := range types {
		into[i] = reflect.New(t.ScanType()).Interface()
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return false, err
		}
		for i := range into {
			row[i] = scanned(into[i])
		}
		if err := each(row); err != nil {
			return true, err
		}
	}
	return false, rows.Err()
}

// scanned returns what a pointer, or for a column that may be null a pointer to a pointer, points to.
func scanned(p any) any {
	v := reflect.ValueOf(p).Elem()
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	if t, ok := reflect.TypeAssert[time.Time](v); ok {
		return t.UTC()
	}
	return v.Interface()
}
