package duckdb

import (
	"database/sql/driver"
	"fmt"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"github.com/millrace/millrace/pkg/store"
)

func keyColumns() []column {
	return []column{
		{"tenant", duckdb.TYPE_VARCHAR},
		{"device_id", duckdb.TYPE_VARCHAR},
		{"channel_key", duckdb.TYPE_VARCHAR},
		{"window_start", duckdb.TYPE_TIMESTAMP_NS},
		{"window_length_ns", duckdb.TYPE_BIGINT},
	}
}

const sameWindow = `t.window_start = s.window_start AND t.device_id = s.device_id AND t.channel_key = s.channel_key
	AND t.window_length_ns = s.window_length_ns AND t.tenant = s.tenant`

func addKeys(add func(...driver.Value) error, keys []store.WindowKey) error {
	for _, k := range keys {
		if err := add(text(k.Tenant), text(k.DeviceID), text(k.ChannelKey), moment(k.WindowStart), k.WindowLength); err != nil {
			return err
		}
	}
	return nil
}

// remove deletes the rows of keys; the join's range of window_start spares the scan of all other row groups.
func (s *aggregateStore) remove(tx *tx, keys []store.WindowKey) error {
	if len(keys) == 0 {
		return nil
	}
	for _, table := range []string{"aggregates", "internal.aggregate_states"} {
		err := tx.join(`DELETE FROM `+table+` AS t USING s WHERE `+sameWindow, keyColumns(), func(add func(...driver.Value) error) error {
			return addKeys(add, keys)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func appendAggregates(tx *tx, rows []store.AggregateRow, written []int) error {
	return tx.appendRows("main", "aggregates", func(add func(...driver.Value) error) error {
		for _, i := range written {
			a := &rows[i].Aggregate
			some := a.Count > 0
			err := add(text(a.Tenant), text(a.DeviceID), text(a.ChannelKey), moment(a.WindowStart), float64(a.WindowLength)/1e9,
				int64(a.Count), number(a.Min, some), number(a.Max, some), number(a.Sum, some), number(a.Avg(), some), //nolint:gosec // below 2^63
				number(a.First, some), number(a.Last, some), number(a.P50, some), number(a.P95, some), number(a.P99, some),
				int32(a.Revision), text(a.DeviceType), momentOrNull(a.FirstTime), momentOrNull(a.LastTime), a.WindowLength) //nolint:gosec // below 2^31
			if err != nil {
				return fmt.Errorf("row %d: %w", i, err)
			}
		}
		return nil
	})
}

func appendStates(tx *tx, rows []store.AggregateRow, written []int) error {
	return tx.appendRows("internal", "aggregate_states", func(add func(...driver.Value) error) error {
		for _, i := range written {
			r := &rows[i]
			if len(r.State) == 0 {
				continue
			}
			err := add(text(r.Tenant), text(r.DeviceID), text(r.ChannelKey), moment(r.WindowStart), r.WindowLength, moment(r.StateUntil), r.State)
			if err != nil {
				return fmt.Errorf("state of row %d: %w", i, err)
			}
		}
		return nil
	})
}
