package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/millrace/millrace/pkg/store/answer"
)

// queryResult is the answer of one query, as it streams in. It is used by one goroutine.
type queryResult struct {
	from      *querier
	caller    context.Context //nolint:containedctx // whoever asked, whose end is told apart from the deadline
	work      context.Context //nolint:containedctx // of the query, with its deadline: reading goes on under it
	cancel    context.CancelFunc
	rows      driver.Rows
	columns   []answer.Column
	take      []func() any // by column, the value that was scanned last
	into      []any        // what Scan fills
	maxRows   int
	truncated bool
	closed    bool
}

func (r *queryResult) run(ctx context.Context, req answer.Request, timeout time.Duration) error {
	conn, err := r.from.open()
	if err != nil {
		return err
	}
	statement, err := bind(req.SQL, req.Params)
	if err != nil {
		return err
	}
	settings := r.from.settings(statement, r.maxRows, timeout)
	own := ch.Settings{"readonly": 1, "max_execution_time": settings["max_execution_time"]}
	if err := r.from.check(ch.Context(ctx, ch.WithSettings(own)), conn, statement); err != nil {
		return err
	}
	ctx = ch.Context(ctx, ch.WithSettings(settings))
	rows, err := conn.Query(ctx, statement)
	if err != nil {
		return err // beside it the library returns rows that are a nil pointer
	}
	r.rows = rows
	if len(r.rows.Columns()) > 0 {
		r.open(r.rows.Columns(), r.rows.ColumnTypes())
		return nil
	}
	// Over HTTP an answer without rows has no columns.
	return r.describe(ctx, conn, statement)
}

// describe takes the columns from the server's description of the query; a statement that has none, such as SHOW, stays without.
func (r *queryResult) describe(ctx context.Context, conn driver.Conn, statement string) error {
	inner := strings.TrimRight(strings.TrimSpace(statement), "; \t\r\n")
	rows, err := conn.Query(ctx, "DESCRIBE TABLE (\n"+inner+"\n)")
	if e, ok := errors.AsType[*ch.Exception](err); ok && e.Code == codeSyntaxError {
		return nil
	}
	if err != nil {
		return err
	}
	said := make([]string, max(2, len(rows.Columns()))) // name, type, and what tables have besides
	into := make([]any, len(said))
	for i := range said {
		into[i] = &said[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return errors.Join(err, rows.Close())
		}
		r.columns = append(r.columns, answer.Column{Name: said[0], Type: commonType(said[1])})
	}
	return errors.Join(rows.Err(), rows.Close())
}

func (r *queryResult) open(names []string, types []driver.ColumnType) {
	for i, name := range names {
		r.columns = append(r.columns, answer.Column{Name: name, Type: commonType(types[i].DatabaseTypeName())})
		into, take := holder(types[i])
		r.into, r.take = append(r.into, into), append(r.take, take)
	}
}

// holder returns what Scan fills for a column, and what gives its value. The types that our own columns have cost no reflection.
func holder(t driver.ColumnType) (into any, take func() any) {
	switch t.ScanType() {
	case reflect.TypeFor[string]():
		v := new(string)
		return v, func() any { return *v }
	case reflect.TypeFor[*string]():
		v := new(*string)
		return v, func() any { return orNil(*v) }
	case reflect.TypeFor[float64]():
		v := new(float64)
		return v, func() any { return *v }
	case reflect.TypeFor[*float64]():
		v := new(*float64)
		return v, func() any { return orNil(*v) }
	case reflect.TypeFor[time.Time]():
		v := new(time.Time)
		return v, func() any { return v.UTC() }
	case reflect.TypeFor[*time.Time]():
		v := new(*time.Time)
		return v, func() any {
			if *v == nil {
				return nil
			}
			return (*v).UTC()
		}
	case reflect.TypeFor[int64]():
		v := new(int64)
		return v, func() any { return *v }
	case reflect.TypeFor[uint64]():
		v := new(uint64)
		return v, func() any { return *v }
	}
	v := reflect.New(t.ScanType())
	return v.Interface(), func() any { return neutral(v.Elem()) }
}

func orNil[T any](v *T) any {
	if v == nil {
		return nil
	}
	return *v
}

// Columns implements answer.Result.
func (r *queryResult) Columns() []answer.Column { return r.columns }

// Truncated implements answer.Result.
func (r *queryResult) Truncated() bool { return r.truncated }

// Rows implements answer.Result.
func (r *queryResult) Rows() iter.Seq2[[]any, error] {
	return func(yield func([]any, error) bool) {
		row := make([]any, len(r.columns))
		for n := 0; r.rows.Next(); n++ {
			if n == r.maxRows {
				r.truncated = true
				return
			}
			if err := r.rows.Scan(r.into...); err != nil {
				yield(nil, fmt.Errorf("query: read row %d: %w", n, err))
				return
			}
			for i, take := range r.take {
				row[i] = take()
			}
			if !yield(row, nil) {
				return
			}
		}
		err := r.rows.Err()
		if err == nil {
			err = r.work.Err() // the library may end quietly at a deadline
		}
		if err != nil {
			yield(nil, fmt.Errorf("query: %w", r.explain(err)))
		}
	}
}

// Close implements answer.Result.
func (r *queryResult) Close() {
	if r.closed {
		return
	}
	r.closed = true
	r.cancel() // else what is left is read to its end
	if r.rows != nil {
		_ = r.rows.Close() // it was cut off
	}
	r.from.free <- struct{}{}
}
