package duckdb

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// aggregateSeriesMax bounds the series whose newest window is remembered (about 200 bytes each). Beyond it all are forgotten,
// which costs a join for each until its windows are newer than all there were.
const aggregateSeriesMax = 1 << 20

// aggregateStore keeps aggregates. Nearly every row is a new window, newer than all of its series, and is appended; only for
// others is the table searched for the row that they replace. So no index is needed.
type aggregateStore struct {
	*lane
	newest map[series]telemetry.Time // the newest window start of each series that was written since the start
	// before is the newest window start of any series when newest was empty, by the windows' length. Of a series that is not in newest
	// nothing newer is stored; that one row of it was written since says nothing of what was stored before.
	before map[int64]telemetry.Time
}

// series is what the windows of one length of one channel share.
type series struct {
	tenant, device, channel string
	length                  int64
}

func newAggregateStore(l *lane) *aggregateStore {
	s := &aggregateStore{lane: l, newest: make(map[series]telemetry.Time)}
	l.load = s.look
	return s
}

// look forgets what was written and finds out what the table has: after a commit of unknown outcome, newer windows perhaps.
func (s *aggregateStore) look(ctx context.Context, c *sql.Conn) error {
	rows, err := c.QueryContext(ctx, `SELECT window_length_ns, epoch_ns(max(window_start)) FROM aggregates GROUP BY 1`)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	before := make(map[int64]telemetry.Time)
	for rows.Next() {
		var length, newest int64
		if err := rows.Scan(&length, &newest); err != nil {
			return err
		}
		before[length] = telemetry.Time(newest)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	clear(s.newest)
	s.before = before
	return nil
}

// mayBeStored reports whether the table may have the window of key.
func (s *aggregateStore) mayBeStored(key store.WindowKey, of series) bool {
	newest, known := s.newest[of]
	before, some := s.before[of.length]
	return known && key.WindowStart <= newest || some && key.WindowStart <= before
}

func seriesOf(a *telemetry.Aggregate) series {
	return series{a.Tenant, a.DeviceID, a.ChannelKey, a.WindowLength}
}

// Write implements store.Writer. Of several rows with one key the last counts. A first revision never replaces a row that counts more: a
// worker that lost its state makes windows again from a log that may begin in the middle of them.
func (s *aggregateStore) Write(ctx context.Context, commit store.Commit, rows []store.AggregateRow) error {
	var written []int
	fill := func(tx *tx) error {
		if len(rows) == 0 {
			return nil
		}
		var old []store.WindowKey
		written, old = s.sort(rows)
		var err error
		if written, old, err = withoutPoorer(tx, rows, written, old); err != nil {
			return err
		}
		if err := s.remove(tx, old); err != nil {
			return err
		}
		if err := appendAggregates(tx, rows, written); err != nil {
			return err
		}
		return appendStates(tx, rows, written)
	}
	return s.write(ctx, commit, fill, func(done bool) {
		if done {
			s.remember(rows, written)
		}
	})
}

// sort returns the rows to write, one a key, and the keys that may be stored already.
func (s *aggregateStore) sort(rows []store.AggregateRow) (written []int, old []store.WindowKey) {
	last := make(map[store.WindowKey]int, len(rows))
	for i := range rows {
		last[store.KeyOf(&rows[i].Aggregate)] = i
	}
	for i := range rows {
		key := store.KeyOf(&rows[i].Aggregate)
		if last[key] != i {
			continue
		}
		written = append(written, i)
		if s.mayBeStored(key, seriesOf(&rows[i].Aggregate)) {
			old = append(old, key)
		}
	}
	return written, old
}

// withoutPoorer leaves out first revisions of windows of which the table has more.
func withoutPoorer(tx *tx, rows []store.AggregateRow, written []int, old []store.WindowKey) ([]int, []store.WindowKey, error) {
	first := make(map[store.WindowKey]uint64)
	for _, i := range written {
		if rows[i].Revision <= 1 {
			first[store.KeyOf(&rows[i].Aggregate)] = rows[i].Count
		}
	}
	var keys []store.WindowKey
	for _, k := range old {
		if _, ok := first[k]; ok {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return written, old, nil
	}
	found := make([]store.AggregateRow, len(keys))
	if err := readWindows(tx, keys, found); err != nil {
		return nil, nil, fmt.Errorf("look for richer windows: %w", err)
	}
	poorer := make(map[store.WindowKey]bool)
	for i, k := range keys {
		if found[i].Count > first[k] {
			poorer[k] = true
		}
	}
	if len(poorer) == 0 {
		return written, old, nil
	}
	written = slices.DeleteFunc(written, func(i int) bool { return poorer[store.KeyOf(&rows[i].Aggregate)] })
	return written, slices.DeleteFunc(old, func(k store.WindowKey) bool { return poorer[k] }), nil
}

func (s *aggregateStore) remember(rows []store.AggregateRow, written []int) {
	if len(s.newest) > aggregateSeriesMax {
		for of, newest := range s.newest {
			if before, some := s.before[of.length]; !some || newest > before {
				s.before[of.length] = newest
			}
		}
		clear(s.newest)
	}
	for _, i := range written {
		a := &rows[i].Aggregate
		key := seriesOf(a)
		if newest, known := s.newest[key]; !known || a.WindowStart > newest {
			s.newest[ownSeries(key)] = a.WindowStart
		}
	}
}

// ForgetStates implements store.AggregateWriter.
func (s *aggregateStore) ForgetStates(ctx context.Context, now telemetry.Time) error {
	_, err := s.delete(ctx, `DELETE FROM internal.aggregate_states WHERE state_until < ?`, now)
	return err
}
