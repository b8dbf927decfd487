package duckdb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"github.com/millrace/millrace/pkg/store/answer"
)

// Query runs one SELECT, or EXPLAIN of one, that someone outside has written: read only, within its limits, over one state of
// the tables and of history. Errors to test for: those of package answer. The result must be closed, and soon: it holds one of
// the few readers.
func (db *DB) Query(ctx context.Context, req answer.Request) (answer.Result, error) {
	if len(req.SQL) > answer.QueryBytesMax {
		return nil, fmt.Errorf("query: %w: %d bytes, want at most %d", answer.ErrNotAllowed, len(req.SQL), answer.QueryBytesMax)
	}
	rows, timeout := req.Limits()
	result, err := db.query(ctx, db.readers, timeout, req.Params, func(ctx context.Context, r *reader) (string, int, error) {
		explained, err := r.check(ctx, req.SQL)
		if err != nil || explained {
			return req.SQL, rows, err
		}
		// One row more than wanted tells that there are more. The line break ends a comment at the end of the query.
		inner := strings.TrimRight(strings.TrimSpace(req.SQL), "; \t\r\n")
		if strings.Contains(inner, ";") { // perhaps the statement's own end, with a comment after it
			if inner, err = r.parse(ctx, `SELECT json_deserialize_sql(json_serialize_sql(?::VARCHAR))`, req.SQL); err != nil {
				return "", 0, err
			}
		}
		return fmt.Sprintf("FROM (\n%s\n) LIMIT %d", inner, rows+1), rows, nil
	})
	if err != nil {
		return nil, err // and no nil pointer in an interface
	}
	return result, nil
}

// Rows runs a statement of our own, without Query's checks and limits, over the same state; only ctx bounds it. The query
// interface uses it: it must never hold text from outside, which belongs into args.
func (db *DB) Rows(ctx context.Context, statement string, args ...any) (*Result, error) {
	return db.query(ctx, db.own, 0, args, func(context.Context, *reader) (string, int, error) { return statement, 0, nil })
}

// Ping tells whether the database answers. After a fatal error (a full disk in the middle of a checkpoint, a damaged block) DuckDB
// refuses everything until the file is opened anew; then Ping returns that error.
func (db *DB) Ping(ctx context.Context) error {
	r, err := db.Rows(ctx, `SELECT 1`)
	if err != nil {
		return fmt.Errorf("duckdb %s: %w", db.cfg.Path, err)
	}
	r.Close() //nolint:contextcheck // ending the transaction is not cut short by the caller's end
	return nil
}

// query takes a reader, lets decide say what to run, and runs it.
func (db *DB) query(ctx context.Context, from chan *reader, timeout time.Duration, args []any,
	decide func(ctx context.Context, r *reader) (statement string, maxRows int, err error),
) (*Result, error) {
	for again := 0; ; again++ {
		result, doubted, err := db.queryOnce(ctx, from, timeout, args, decide)
		if !doubted || again >= doubtsMax {
			return result, err
		}
	}
}

// doubtsMax is how many times a query is made again since a file that it read was set aside.
const doubtsMax = 8

// doubter is a snapshot that looks at its files when a query over them went wrong, and says whether there is another state now without
// those that are damaged.
type doubter interface {
	Doubt(reason error) (setAside bool, err error)
}

// queryOnce is one attempt; doubted says that the next one sees other files.
func (db *DB) queryOnce(ctx context.Context, from chan *reader, timeout time.Duration, args []any,
	decide func(ctx context.Context, r *reader) (statement string, maxRows int, err error),
) (result *Result, doubted bool, err error) {
	r, err := db.take(ctx, from)
	if err != nil {
		return nil, false, fmt.Errorf("query: %w", err)
	}
	result = &Result{db: db, reader: r, from: from, parent: ctx}
	work := ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		work, cancel = context.WithTimeout(ctx, timeout)
		defer cancel() // what is left then is to read the rows
	}
	if err := result.run(work, args, decide); err != nil {
		if d, ok := result.snapshot.(doubter); ok && work.Err() == nil {
			var fault error
			if doubted, fault = d.Doubt(err); fault != nil {
				db.cfg.Log.Error("a file of history cannot be looked at", "error", fault)
			}
		}
		err = classify(work, ctx, err)
		result.Close() //nolint:contextcheck // ending the transaction is not cut short by the caller's end
		return nil, doubted, fmt.Errorf("query: %w", err)
	}
	return result, false, nil
}

// take waits for a reader.
func (db *DB) take(ctx context.Context, from chan *reader) (*reader, error) {
	select {
	case r := <-from:
		return r, nil
	default:
	}
	wait := time.NewTimer(db.cfg.QueryWait)
	defer wait.Stop()
	select {
	case r := <-from:
		return r, nil
	case <-wait.C:
		return nil, answer.ErrBusy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// run executes the statement; on return, r has its rows, in memory or in DuckDB's temporary files.
func (r *Result) run(ctx context.Context, args []any, decide func(context.Context, *reader) (string, int, error)) error {
	if h := r.db.cfg.History; h != nil {
		snapshot, err := h.Snapshot()
		if err != nil {
			return fmt.Errorf("history: %w", err)
		}
		r.snapshot = snapshot
	}
	ctx, err := r.reader.begin(ctx, r.snapshot)
	if err != nil {
		return err
	}
	statement, maxRows, err := decide(ctx, r.reader)
	if err != nil {
		return err
	}
	r.maxRows = maxRows
	if r.stmt, err = r.reader.prepare(ctx, statement); err != nil {
		return err
	}
	if err := r.avoidOddTypes(ctx, statement); err != nil {
		return err
	}
	rows, err := r.stmt.QueryContext(ctx, named(args))
	if err != nil {
		return fmt.Errorf("%w: %w", answer.ErrInvalid, err)
	}
	return r.open(rows)
}

// prepare takes SELECT and EXPLAIN only: a second look, besides the guard's.
func (r *reader) prepare(ctx context.Context, statement string) (*duckdb.Stmt, error) {
	s, err := r.conn.PrepareContext(ctx, statement)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", answer.ErrInvalid, err)
	}
	stmt, ok := s.(*duckdb.Stmt)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%T is no statement of DuckDB", s), s.Close())
	}
	kind, err := stmt.StatementType()
	if err != nil {
		return nil, errors.Join(err, stmt.Close())
	}
	if kind != duckdb.STATEMENT_TYPE_SELECT && kind != duckdb.STATEMENT_TYPE_EXPLAIN {
		return nil, errors.Join(fmt.Errorf("%w: statement type %d", answer.ErrNotAllowed, kind), stmt.Close())
	}
	return stmt, nil
}

// named returns args as the driver wants them.
func named(args []any) []driver.NamedValue {
	values := make([]driver.NamedValue, len(args))
	for i, a := range args {
		values[i] = driver.NamedValue{Ordinal: i + 1, Value: a}
	}
	return values
}

// classify says of an error what a caller must know: the deadline, the caller's own end, the memory, or the query itself.
func classify(work, caller context.Context, err error) error {
	var e *duckdb.Error
	switch {
	case caller.Err() != nil:
		return fmt.Errorf("%w: %w", caller.Err(), err)
	case work.Err() != nil:
		return answer.ErrTimeout
	case errors.As(err, &e) && (e.Type == duckdb.ErrorTypeOutOfMemory || strings.Contains(e.Msg, "max_temp_directory_size")):
		return fmt.Errorf("%w: %w", answer.ErrResources, err)
	}
	return err
}
