package stores

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/answer"
)

// Queries answers SQL from outside.
type Queries interface {
	// Query runs one read-only statement; see the errors of package answer. The caller closes the result.
	Query(ctx context.Context, r answer.Request) (answer.Result, error)
}

// Reader returns what answers for table; nil where nothing does that can be reached from here. Its engine is opened with the first
// question, so that one engine that is down keeps nobody from asking the others.
func (s *Set) Reader(table string) store.Reader {
	name := s.cfg.Tables.engineOf(table)
	if name == "" || name == Embedded {
		return nil
	}
	return lazyReader{s, name}
}

// Progress returns how far a worker's writes into table cover a partition; nil where that cannot be reached from here.
func (s *Set) Progress(table string) func(ctx context.Context, worker string, p bus.PartitionID) (bus.Progress, bool, error) {
	name := s.cfg.Tables.engineOf(table)
	if name == "" || name == Embedded {
		return nil
	}
	return func(ctx context.Context, worker string, p bus.PartitionID) (bus.Progress, bool, error) {
		e, err := s.engine(ctx, name)
		if err != nil {
			return bus.Progress{}, false, err
		}
		switch table {
		case store.TableMessages:
			return e.history.Progress(ctx, worker, p)
		case store.TableLogs:
			return e.logs.Progress(ctx, worker, p)
		default:
			return bus.Progress{}, false, fmt.Errorf("progress of %s: %w", table, errors.ErrUnsupported)
		}
	}
}

// SQL returns what answers SQL over the tables of ClickHouse; nil where it keeps none. The other engines speak none, or not ours.
func (s *Set) SQL() Queries {
	if !s.cfg.Tables.Uses(ClickHouse) {
		return nil
	}
	return lazyReader{s, ClickHouse}
}

type lazyReader struct {
	set  *Set
	name string
}

// Select implements store.Reader.
func (r lazyReader) Select(ctx context.Context, selection store.Selection, each func(row []any) error) error {
	e, err := r.set.engine(ctx, r.name)
	if err != nil {
		return fmt.Errorf("select from %s: %w", selection.Table, err)
	}
	return e.reader.Select(ctx, selection, each)
}

// Count implements store.Counter, where the engine does.
func (r lazyReader) Count(ctx context.Context, q store.CountQuery, each func(store.DeviceCount) error) error {
	e, err := r.set.engine(ctx, r.name)
	if err != nil {
		return fmt.Errorf("count %s: %w", q.Table, err)
	}
	if c, ok := e.reader.(store.Counter); ok {
		return c.Count(ctx, q, each)
	}
	return fmt.Errorf("count %s: %s: %w", q.Table, r.name, errors.ErrUnsupported)
}

// Query implements Queries.
func (r lazyReader) Query(ctx context.Context, q answer.Request) (answer.Result, error) {
	e, err := r.set.engine(ctx, r.name)
	if err != nil {
		return nil, err
	}
	return e.sql.Query(ctx, q)
}
