package duckdb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// Windows implements store.AggregateWriter.
func (s *aggregateStore) Windows(ctx context.Context, keys []store.WindowKey) ([]store.AggregateRow, error) {
	found := make([]store.AggregateRow, len(keys))
	if len(keys) == 0 {
		return found, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ready(ctx); err != nil {
		return nil, fmt.Errorf("read windows: %w", err)
	}
	err := s.transact(ctx, func(tx *tx) error { return readWindows(tx, keys, found) })
	if err != nil {
		return nil, fmt.Errorf("read windows: %w", err)
	}
	return found, nil
}

// readWindows stages the keys in a temporary table of the connection and joins.
func readWindows(tx *tx, keys []store.WindowKey, found []store.AggregateRow) error {
	const staging = `CREATE TEMP TABLE IF NOT EXISTS wanted_windows (tenant VARCHAR, device_id VARCHAR, channel_key VARCHAR,
		window_start TIMESTAMP_NS, window_length_ns BIGINT)`
	if err := tx.exec(staging); err != nil {
		return err
	}
	if err := tx.exec(`DELETE FROM wanted_windows`); err != nil {
		return err
	}
	err := tx.appendRows("", "wanted_windows", func(add func(...driver.Value) error) error { return addKeys(add, keys) })
	if err != nil {
		return err
	}
	at := make(map[store.WindowKey][]int, len(keys))
	for i, k := range keys {
		at[k] = append(at[k], i)
	}
	const state = `s.window_start = b.window_start AND s.device_id = b.device_id AND s.channel_key = b.channel_key
		AND s.window_length_ns = b.window_length_ns AND s.tenant = b.tenant`
	rows, err := tx.conn.QueryContext(tx.ctx, `SELECT t.tenant, t.device_id, t.device_type, t.channel_key, t.window_start, t.window_length_ns, t.count,
		t.min, t.max, t.sum, t.first, t.last, t.p50, t.p95, t.p99, t.revision, t.first_time, t.last_time, b.state
		FROM wanted_windows s JOIN aggregates t ON `+sameWindow+` LEFT JOIN internal.aggregate_states b ON `+state)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		r, err := scanWindow(rows)
		if err != nil {
			return err
		}
		for _, i := range at[store.KeyOf(&r.Aggregate)] {
			found[i] = r
		}
	}
	return rows.Err()
}

func scanWindow(rows *sql.Rows) (store.AggregateRow, error) {
	var r store.AggregateRow
	var start time.Time
	var first, last sql.NullTime
	var v [8]sql.NullFloat64
	err := rows.Scan(&r.Tenant, &r.DeviceID, &r.DeviceType, &r.ChannelKey, &start, &r.WindowLength, &r.Count,
		&v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7], &r.Revision, &first, &last, &r.State)
	if err != nil {
		return r, err
	}
	r.WindowStart = telemetry.At(start)
	r.Min, r.Max, r.Sum, r.First, r.Last = v[0].Float64, v[1].Float64, v[2].Float64, v[3].Float64, v[4].Float64
	r.P50, r.P95, r.P99 = v[5].Float64, v[6].Float64, v[7].Float64
	if first.Valid {
		r.FirstTime = telemetry.At(first.Time)
	}
	if last.Valid {
		r.LastTime = telemetry.At(last.Time)
	}
	r.Final = true
	return r, nil
}

// ownSeries copies the strings, which may alias a record's bytes.
func ownSeries(k series) series {
	k.tenant, k.device, k.channel = strings.Clone(k.tenant), strings.Clone(k.device), strings.Clone(k.channel)
	return k
}
