package duckdb

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/pkg/telemetry"
)

// Retention says, for each table, before which time rows are dropped; zero keeps all.
type Retention struct {
	Logs        telemetry.Time // by ingest time
	DeadLetters telemetry.Time // by the time they were received
	Aggregates  telemetry.Time // by window start
	Alarms      telemetry.Time // by the time they were cleared; others stay
}

// Trim drops the rows that are older than keep says, and returns how many. The space in the file is used again.
func (db *DB) Trim(ctx context.Context, keep Retention) (dropped int64, err error) {
	for _, t := range []struct {
		lane   *lane
		before telemetry.Time
		query  string
	}{
		{db.logs.lane, keep.Logs, `DELETE FROM logs WHERE ingest_time < ?`},
		{db.deadLetters.lane, keep.DeadLetters, `DELETE FROM dead_letters WHERE received_at < ?`},
		{db.aggregates.lane, keep.Aggregates, `DELETE FROM aggregates WHERE window_start < ?`},
		{db.alarms.lane, keep.Alarms, `DELETE FROM alarms WHERE cleared_at < ?`},
	} {
		if t.before == 0 {
			continue
		}
		n, err := t.lane.delete(ctx, t.query, t.before)
		dropped += n
		if err != nil {
			return dropped, err
		}
	}
	return dropped, nil
}

// delete runs a DELETE with one time as its parameter, between two writes.
func (l *lane) delete(ctx context.Context, query string, before telemetry.Time) (rows int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.ready(ctx); err != nil {
		return 0, fmt.Errorf("trim %s: %w", l.name, err)
	}
	err = l.transact(ctx, func(tx *tx) error {
		r, err := tx.conn.ExecContext(tx.ctx, query, before.Std())
		if err != nil {
			return err
		}
		rows, err = r.RowsAffected()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("trim %s: %w", l.name, err)
	}
	return rows, nil
}
