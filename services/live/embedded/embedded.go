// Package embedded lets live ask the embedded database. Only `millrace run` imports it, so that the other binaries stay free of cgo.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/millrace/millrace/pkg/store/duckdb"
	"github.com/millrace/millrace/services/live"
)

// New returns db as live asks it. The caller closes db, once nothing asks any more.
func New(db *duckdb.DB) live.Store { return &store{db} }

type store struct{ db *duckdb.DB }

// Rows implements live.Store.
func (s *store) Rows(ctx context.Context, statement string, args []any, each func(row []any) error) error {
	result, err := s.db.Rows(ctx, statement, args...)
	if err != nil {
		return explain(err)
	}
	defer result.Close() //nolint:contextcheck // it gives its connection back also when ctx has ended
	for row, err := range result.Rows() {
		if err != nil {
			return explain(err)
		}
		if err := each(row); err != nil {
			return err
		}
	}
	return nil
}

// Query implements live.Store.
func (s *store) Query(ctx context.Context, q live.Query, begin func(mediaType string) io.Writer) (truncated bool, err error) {
	form, err := duckdb.EncodingFor(q.Accept)
	if err != nil {
		return false, explain(err)
	}
	result, err := s.db.Query(ctx, duckdb.QueryRequest{SQL: q.SQL, Params: q.Params, MaxRows: q.MaxRows, Timeout: q.Timeout})
	if err != nil {
		return false, explain(err)
	}
	defer result.Close() //nolint:contextcheck // it gives its connection back also when ctx has ended
	if err := form.Write(begin(form.MediaType), result); err != nil {
		return false, explain(err)
	}
	return result.Truncated(), nil
}

// explain adds to an error of the database what it says about the query.
func explain(err error) error {
	for _, of := range []struct{ from, to error }{
		{duckdb.ErrInvalid, live.ErrQuery},
		{duckdb.ErrNotAllowed, live.ErrQuery},
		{duckdb.ErrTimeout, live.ErrLimit},
		{duckdb.ErrResources, live.ErrLimit},
		{duckdb.ErrBusy, live.ErrBusy},
		{duckdb.ErrNotAcceptable, live.ErrAccept},
	} {
		if errors.Is(err, of.from) {
			return &explained{err, of.to}
		}
	}
	return fmt.Errorf("the embedded database: %w", err)
}

// explained is an error of the database in its own words, which is one of live's as well.
type explained struct {
	error
	kind error
}

// Unwrap gives both.
func (e *explained) Unwrap() []error { return []error{e.error, e.kind} }
