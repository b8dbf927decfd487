package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// windowsAtOnce is how many keys go into one query: about 100 bytes of it each.
const windowsAtOnce = 2000

// Windows implements store.AggregateWriter. Of the versions of a window it returns the newest that the progress covers: one beyond it is
// from a write that was cut short, or from another owner, and what it has counted is going to be read, and counted, again.
func (s *aggregateStore) Windows(ctx context.Context, keys []store.WindowKey) ([]store.AggregateRow, error) {
	found := make([]store.AggregateRow, len(keys))
	ctx, cancel := s.db.bounded(ctx)
	defer cancel()
	for at := 0; at < len(keys); at += windowsAtOnce {
		end := min(at+windowsAtOnce, len(keys))
		if err := s.windows(ctx, keys[at:end], found[at:end]); err != nil {
			return nil, fmt.Errorf("read windows: %w", err)
		}
	}
	return found, nil
}

func (s *aggregateStore) windows(ctx context.Context, keys []store.WindowKey, found []store.AggregateRow) error {
	newest, unborn, err := s.readStates(ctx, keys)
	if err != nil {
		return fmt.Errorf("states: %w", err)
	}
	var bare []store.WindowKey // those whose state was forgotten, or that do not exist
	for _, k := range keys {
		if _, ok := newest[k]; !ok && !unborn[k] {
			unborn[k] = true
			bare = append(bare, k)
		}
	}
	if len(bare) > 0 {
		if err := s.readBare(ctx, bare, newest); err != nil {
			return err
		}
	}
	for i, k := range keys {
		found[i] = newest[k].AggregateRow
	}
	return nil
}

// stored is a row with what it depends on.
type stored struct {
	store.AggregateRow
	version uint64
}

// readStates returns, by window, the newest row that the progress covers; and the windows that have only one beyond it which is
// their first, and so are not there yet.
func (s *aggregateStore) readStates(
	ctx context.Context, keys []store.WindowKey,
) (newest map[store.WindowKey]stored, unborn map[store.WindowKey]bool, err error) {
	rows, err := s.db.query(ctx, "SELECT tenant, device_id, channel_key, window_start, window_length_ns, version, worker, topic, partition, "+
		"through, device_type, count, min, max, sum, first, last, p50, p95, p99, revision, first_time, last_time, state FROM "+
		s.db.cfg.internal()+".aggregate_states FINAL WHERE "+among(keys))
	if err != nil {
		return nil, nil, err
	}
	newest, unborn = make(map[store.WindowKey]stored, len(keys)), make(map[store.WindowKey]bool)
	covered := make(map[markKey]int64) // the progress, packed; -1: none
	for rows.Next() {
		r, by, through, err := scanState(rows)
		if err != nil {
			return nil, nil, errors.Join(err, rows.Close())
		}
		have, known := covered[by]
		if !known {
			if have, err = s.covered(ctx, by); err != nil {
				return nil, nil, errors.Join(err, rows.Close())
			}
			covered[by] = have
		}
		key := store.KeyOf(&r.Aggregate)
		old, ok := newest[key]
		switch {
		case through > have:
			unborn[key] = unborn[key] || r.Revision <= 1
		case !ok || r.version >= old.version:
			newest[key] = r
		}
	}
	return newest, unborn, errors.Join(rows.Err(), rows.Close())
}

func scanState(rows driver.Rows) (r stored, by markKey, through int64, err error) {
	var start time.Time
	var partition, revision int32
	var count, first, last int64
	var state string
	err = rows.Scan(&r.Tenant, &r.DeviceID, &r.ChannelKey, &start, &r.WindowLength, &r.version, &by.worker, &by.partition.Topic, &partition,
		&through, &r.DeviceType, &count, &r.Min, &r.Max, &r.Sum, &r.First, &r.Last, &r.P50, &r.P95, &r.P99, &revision, &first, &last, &state)
	by.partition.Number = int(partition)
	r.WindowStart, r.FirstTime, r.LastTime = telemetry.At(start), telemetry.Time(first), telemetry.Time(last)
	r.Count, r.Revision, r.Final, r.State = uint64(count), uint32(revision), true, []byte(state) //nolint:gosec // as it was written
	return r, by, through, err
}

// covered returns how far a worker has come, as this process knows it, else as the table has it.
func (s *aggregateStore) covered(ctx context.Context, by markKey) (packed int64, err error) {
	spans := []store.Span{{Partition: by.partition}}
	marks, err := s.take(ctx, by.worker, spans)
	if err != nil {
		return 0, err
	}
	defer release(marks)
	if !marks[0].known {
		if err := s.readMarks(ctx, by.worker, spans, marks); err != nil {
			return 0, err
		}
	}
	if !marks[0].written {
		return -1, nil
	}
	return store.PackPosition(marks[0].progress.Through)
}

// readBare adds the rows of windows that have no state.
func (s *aggregateStore) readBare(ctx context.Context, keys []store.WindowKey, into map[store.WindowKey]stored) error {
	rows, err := s.db.query(ctx, "SELECT tenant, device_id, channel_key, window_start, window_length_ns, device_type, count, min, max, sum, "+
		"first, last, p50, p95, p99, revision, first_time, last_time FROM "+s.db.cfg.internal()+".aggregates FINAL WHERE "+among(keys))
	if err != nil {
		return err
	}
	for rows.Next() {
		var r stored
		var start time.Time
		var count int64
		var revision int32
		var v [8]*float64
		var first, last *time.Time
		err := rows.Scan(&r.Tenant, &r.DeviceID, &r.ChannelKey, &start, &r.WindowLength, &r.DeviceType, &count, &v[0], &v[1], &v[2], &v[3], &v[4],
			&v[5], &v[6], &v[7], &revision, &first, &last)
		if err != nil {
			return errors.Join(err, rows.Close())
		}
		for i, to := range [...]*float64{&r.Min, &r.Max, &r.Sum, &r.First, &r.Last, &r.P50, &r.P95, &r.P99} {
			if v[i] != nil {
				*to = *v[i]
			}
		}
		r.WindowStart, r.FirstTime, r.LastTime = telemetry.At(start), timeOf(first), timeOf(last)
		r.Count, r.Revision, r.Final = uint64(count), uint32(revision), true //nolint:gosec // as it was written
		into[store.KeyOf(&r.Aggregate)] = r
	}
	return errors.Join(rows.Err(), rows.Close())
}

func timeOf(t *time.Time) telemetry.Time {
	if t == nil {
		return 0
	}
	return telemetry.At(*t)
}

// among is the condition that a row is of one of keys; a subquery, since a list of calls is slow to parse.
func among(keys []store.WindowKey) string {
	var s strings.Builder
	s.WriteString("(tenant, device_id, channel_key, window_length_ns, window_start) IN (SELECT k.1, k.2, k.3, k.4, " +
		"fromUnixTimestamp64Nano(k.5, 'UTC') FROM (SELECT arrayJoin([")
	for i, k := range keys {
		if i > 0 {
			s.WriteByte(',')
		}
		fmt.Fprintf(&s, "(%s,%s,%s,toInt64(%d),toInt64(%d))", quote(text(k.Tenant)), quote(text(k.DeviceID)), quote(text(k.ChannelKey)),
			k.WindowLength, int64(k.WindowStart))
	}
	s.WriteString("]) AS k))")
	return s.String()
}

func (s *aggregateStore) forget(ctx context.Context, now telemetry.Time) error {
	table := s.db.cfg.internal() + ".aggregate_states"
	due := fmt.Sprintf("fromUnixTimestamp64Nano(toInt64(%d), 'UTC')", int64(now))
	rows, err := s.db.query(ctx, "SELECT DISTINCT _partition_id FROM "+table+" WHERE toStartOfHour(state_until) < toStartOfHour("+due+")")
	if err != nil {
		return err
	}
	var hours []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return errors.Join(err, rows.Close())
		}
		hours = append(hours, id)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for _, id := range hours {
		if err := s.db.conn.Exec(ctx, "ALTER TABLE "+table+" DROP PARTITION ID "+quote(id)); err != nil {
			return fmt.Errorf("drop hour %s: %w", id, err)
		}
	}
	return s.db.conn.Exec(ctx, "DELETE FROM "+table+" WHERE state_until < "+due)
}
