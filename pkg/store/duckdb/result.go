package duckdb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/answer"
)

// Result is the answer of one query. It is used by one goroutine, and closed.
type Result struct {
	columns   []answer.Column
	odd       []bool // beside columns: whether values need neutral
	db        *DB
	reader    *reader
	from      chan *reader
	snapshot  store.HistorySnapshot
	parent    context.Context //nolint:containedctx // the caller's, whose end ends the reading of the rows as well
	stmt      *duckdb.Stmt
	rows      driver.Rows
	maxRows   int // 0: all
	truncated bool
	closed    bool
}

// typedRows is what the driver's rows offer beside driver.Rows.
type typedRows interface {
	ColumnTypeDatabaseTypeName(index int) string
}

func (r *Result) open(rows driver.Rows) error {
	r.rows = rows
	types, ok := rows.(typedRows)
	if !ok {
		return fmt.Errorf("%T tells no types", rows)
	}
	for i, name := range rows.Columns() {
		c := answer.Column{Name: name, Type: types.ColumnTypeDatabaseTypeName(i)}
		r.columns, r.odd = append(r.columns, c), append(r.odd, !slices.Contains(plainTypes(), c.Type))
	}
	return nil
}

// plainTypes are those whose values the driver gives as everybody has them.
func plainTypes() []string {
	return []string{
		"BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT", "FLOAT", "DOUBLE", "VARCHAR",
		"BLOB", "DATE", "TIME", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMPTZ", "UUID",
	}
}

// neutral turns the driver's own types into those of package answer.
func neutral(v any) any {
	switch v := v.(type) {
	case duckdb.Decimal:
		return answer.Decimal(v.String())
	case duckdb.Interval:
		return answer.Interval{Months: v.Months, Days: v.Days, Micros: v.Micros}
	case duckdb.Union:
		return neutral(v.Value)
	case duckdb.OrderedMap:
		return answer.Map{Keys: neutrals(v.Keys()), Values: neutrals(v.Values())}
	case []any:
		return neutrals(v)
	case map[string]any:
		for key, e := range v {
			v[key] = neutral(e)
		}
	}
	return v
}

func neutrals(all []any) []any {
	for i, v := range all {
		all[i] = neutral(v)
	}
	return all
}

// Columns implements answer.Result.
func (r *Result) Columns() []answer.Column { return r.columns }

// Rows implements answer.Result.
func (r *Result) Rows() iter.Seq2[[]any, error] {
	return func(yield func([]any, error) bool) {
		raw := make([]driver.Value, len(r.columns))
		row := make([]any, len(r.columns))
		for n := 0; ; n++ {
			if err := r.parent.Err(); err != nil {
				yield(nil, fmt.Errorf("query: read row %d: %w", n, err))
				return
			}
			err := r.next(raw)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(nil, fmt.Errorf("query: read row %d: %w", n, err))
				return
			}
			if r.maxRows > 0 && n == r.maxRows {
				r.truncated = true
				return
			}
			for i := range raw {
				row[i] = raw[i]
				if r.odd[i] {
					row[i] = neutral(raw[i])
				}
			}
			if !yield(row, nil) {
				return
			}
		}
	}
}

// next reads a row. What the driver makes of the rarer types is beyond us: a panic of it must not end the process.
func (r *Result) next(row []driver.Value) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a value that cannot be read: %v", p)
		}
	}()
	return r.rows.Next(row)
}

// Truncated implements answer.Result.
func (r *Result) Truncated() bool { return r.truncated }

// Close ends the query and lets go of its state of history. Calling it again does nothing.
func (r *Result) Close() {
	if r.closed {
		return
	}
	r.closed = true
	var errs []error
	if r.rows != nil {
		errs = append(errs, r.rows.Close())
	}
	if r.stmt != nil {
		errs = append(errs, r.stmt.Close())
	}
	if r.snapshot != nil {
		r.snapshot.Release()
	}
	r.db.giveBack(r.reader, r.from, errors.Join(errs...))
}

// giveBack ends the reader's transaction and makes it free; a reader that is broken is replaced.
func (db *DB) giveBack(r *reader, to chan *reader, err error) {
	calm := context.WithoutCancel(db.life)
	if err == nil {
		// An error of ROLLBACK says that there was no transaction: it did not come so far.
		_ = r.exec(calm, `ROLLBACK`)
		to <- r
		return
	}
	db.cfg.Log.Warn("a query connection is replaced", "error", err)
	_ = r.conn.Close() // it is broken
	fresh, err := db.newReader(calm)
	if err != nil {
		db.cfg.Log.Error("a query connection is lost until the next start", "error", err)
		return
	}
	to <- fresh
}
