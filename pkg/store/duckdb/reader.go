package duckdb

import (
	"context"
	"fmt"
	"slices"
	"strings"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"github.com/millrace/millrace/pkg/store"
)

// reader is a connection for queries, used by one at a time. Its views of history show the files of the snapshot that it was
// last bound to.
type reader struct {
	conn  *duckdb.Conn
	files []string
	bound bool
}

func (db *DB) newReader(ctx context.Context) (*reader, error) {
	c, err := db.connector.Connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	conn, ok := c.(*duckdb.Conn)
	if !ok {
		return nil, fmt.Errorf("connect: %T is no connection of DuckDB", c)
	}
	return &reader{conn: conn}, nil
}

func (r *reader) exec(ctx context.Context, statement string) error {
	_, err := r.conn.ExecContext(ctx, statement, nil)
	return err
}

// bind makes the views of history show files, and the rows in memory of the snapshot that the query's context has.
func (r *reader) bind(ctx context.Context, files []string) error {
	if r.bound && slices.Equal(r.files, files) {
		return nil
	}
	r.bound = false
	for _, statement := range historyViews(files) {
		if err := r.exec(ctx, statement); err != nil {
			return fmt.Errorf("show %d files of history: %w", len(files), err)
		}
	}
	r.files, r.bound = files, true
	return nil
}

// historyViews returns the statements that define device_messages, archive and history. The columns are listed, so that they
// are the same with and without files, and folder names such as dt=2026-01-01 add none.
func historyViews(files []string) []string {
	names := make([]string, 0, 20)
	for _, c := range store.HistoryColumns() {
		names = append(names, c.Name)
	}
	columns := strings.Join(names, ", ")
	recent := "SELECT " + columns + " FROM " + recentRows + "()"
	closed := recent + " WHERE false"
	all := recent
	if len(files) > 0 {
		quoted := make([]string, len(files))
		for i, f := range files {
			quoted[i] = quote(f)
		}
		closed = "SELECT " + columns + " FROM read_parquet([" + strings.Join(quoted, ", ") + "], hive_partitioning = false)"
		all = closed + " UNION ALL " + recent
	}
	return []string{
		"CREATE OR REPLACE TEMP VIEW archive AS " + closed,
		"CREATE OR REPLACE TEMP VIEW device_messages AS " + all,
		"CREATE OR REPLACE TEMP VIEW history AS FROM device_messages",
	}
}

// begin starts a read-only transaction over a snapshot of history; the context it returns is the one to query with.
func (r *reader) begin(ctx context.Context, snapshot store.HistorySnapshot) (context.Context, error) {
	var files []string
	if snapshot != nil {
		files = snapshot.Files()
		ctx = context.WithValue(ctx, snapshotKey{}, snapshot)
	}
	if err := r.bind(ctx, files); err != nil {
		return ctx, err
	}
	if err := r.exec(ctx, `BEGIN TRANSACTION READ ONLY`); err != nil {
		return ctx, fmt.Errorf("begin: %w", err)
	}
	return ctx, nil
}
