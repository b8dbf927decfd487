package storetest

import (
	"fmt"
	"testing"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// AggregateStore is a store of aggregates under test.
type AggregateStore struct {
	store.AggregateWriter
	Read  func(t *testing.T) []telemetry.Aggregate // all rows, Final set
	Crash func(t *testing.T) AggregateStore
}

const second = 1_000_000_000

// Aggregates holds a store.AggregateWriter to its promises.
func Aggregates(t *testing.T, open func(t *testing.T) AggregateStore) {
	var wrap func(s AggregateStore) harness[store.AggregateRow]
	wrap = func(s AggregateStore) harness[store.AggregateRow] {
		return harness[store.AggregateRow]{
			Writer: s.AggregateWriter,
			row:    aggregate,
			count:  func(t *testing.T) int { return different(t, s.Read(t), aggregateText) },
			crash:  func(t *testing.T) harness[store.AggregateRow] { return wrap(s.Crash(t)) },
			flush:  func(*testing.T) {},
		}
	}
	writerPromises(t, func(t *testing.T) harness[store.AggregateRow] { return wrap(open(t)) })
	checkpointPromises(t, func(t *testing.T) harness[store.AggregateRow] { return wrap(open(t)) })
	replacing(t, open)
	windows(t, open)
}

func replacing(t *testing.T, open func(t *testing.T) AggregateStore) {
	want := func(t *testing.T, s AggregateStore, rows ...store.AggregateRow) {
		t.Helper()
		var all []telemetry.Aggregate
		for _, r := range rows {
			all = append(all, r.Aggregate)
		}
		wantSame(t, s.Read(t), all, aggregateText)
	}
	revised := func(i int) store.AggregateRow {
		r := aggregate(i)
		r.Revision, r.Count, r.Sum, r.P50, r.State = 2, r.Count+1, r.Sum+9, 9, append(r.State, '2')
		return r
	}
	t.Run("a row replaces the one with its key", func(t *testing.T) {
		s := open(t)
		writeAggregates(t, s, aggregate(0), aggregate(1), aggregate(2))
		writeAggregates(t, s, revised(1), aggregate(3))
		want(t, s, aggregate(0), revised(1), aggregate(2), aggregate(3))
		s = s.Crash(t)
		want(t, s, aggregate(0), revised(1), aggregate(2), aggregate(3))
		writeAggregates(t, s, revised(0), revised(2))
		want(t, s, revised(0), revised(1), revised(2), aggregate(3))
	})
	t.Run("the same row again, after a restart that forgot what it wrote", func(t *testing.T) {
		s := open(t)
		writeAggregates(t, s, aggregate(0), aggregate(1))
		s = s.Crash(t)
		writeAggregates(t, s, aggregate(0), aggregate(1), aggregate(2))
		want(t, s, aggregate(0), aggregate(1), aggregate(2))
	})
	t.Run("an older window is corrected after a restart, and then a newer one", func(t *testing.T) {
		s := open(t)
		writeAggregates(t, s, aggregate(0), aggregate(7), aggregate(14))
		s = s.Crash(t)
		writeAggregates(t, s, revised(0))
		writeAggregates(t, s, revised(7))
		writeAggregates(t, s, revised(14))
		want(t, s, revised(0), revised(7), revised(14))
	})
	t.Run("of two rows with one key in one write the last counts", func(t *testing.T) {
		s := open(t)
		writeAggregates(t, s, aggregate(0), revised(0))
		want(t, s, revised(0))
	})
	t.Run("a late window, older than what was written", func(t *testing.T) {
		s := open(t)
		writeAggregates(t, s, aggregate(70))
		writeAggregates(t, s, aggregate(0))
		writeAggregates(t, s, revised(0))
		want(t, s, aggregate(70), revised(0))
	})
	t.Run("windows of several lengths have rows of their own", func(t *testing.T) {
		s := open(t)
		a, b, c := aggregate(0), aggregate(0), aggregate(0)
		b.WindowLength, c.WindowLength = 60*second, second/2
		writeAggregates(t, s, a, b, c)
		want(t, s, a, b, c)
	})
	t.Run("an empty window has no numbers", func(t *testing.T) {
		s := open(t)
		r := aggregate(0)
		r.Aggregate = telemetry.Aggregate{Tenant: r.Tenant, DeviceID: r.DeviceID, WindowStart: r.WindowStart, WindowLength: r.WindowLength, Final: true}
		writeAggregates(t, s, r)
		want(t, s, r)
	})
}

func windows(t *testing.T, open func(t *testing.T) AggregateStore) {
	key := func(i int) store.WindowKey {
		a := aggregate(i)
		return store.WindowKey{
			Tenant: a.Tenant, DeviceID: a.DeviceID, ChannelKey: a.ChannelKey, WindowStart: a.WindowStart, WindowLength: a.WindowLength,
		}
	}
	read := func(t *testing.T, s AggregateStore, keys ...store.WindowKey) []store.AggregateRow {
		t.Helper()
		rows, err := s.Windows(t.Context(), keys)
		if err != nil {
			t.Fatalf("windows: %v", err)
		}
		if len(rows) != len(keys) {
			t.Fatalf("%d windows for %d keys", len(rows), len(keys))
		}
		return rows
	}
	full := func(r store.AggregateRow) string { return aggregateText(r.Aggregate) + string(r.State) }
	t.Run("windows come back beside their keys, with their states", func(t *testing.T) {
		s := open(t)
		writeAggregates(t, s, aggregate(0), aggregate(1), aggregate(2))
		for range 2 {
			got := read(t, s, key(2), key(7), key(0), key(2))
			for i, want := range []store.AggregateRow{aggregate(2), {}, aggregate(0), aggregate(2)} {
				if got[i].Count != want.Count || want.Count > 0 && full(got[i]) != full(want) {
					t.Errorf("window %d is %s, want %s", i, full(got[i]), full(want))
				}
			}
			s = s.Crash(t)
		}
		if got := read(t, s); len(got) != 0 {
			t.Errorf("no keys give %d windows", len(got))
		}
	})
	t.Run("forgetting states keeps the rows and the states of newer windows", func(t *testing.T) {
		s := open(t)
		writeAggregates(t, s, aggregate(0), aggregate(50))
		if err := s.ForgetStates(t.Context(), aggregate(50).StateUntil); err != nil {
			t.Fatal(err)
		}
		got := read(t, s, key(0), key(50))
		if aggregateText(got[0].Aggregate) != aggregateText(aggregate(0).Aggregate) || len(got[0].State) != 0 || full(got[1]) != full(aggregate(50)) {
			t.Errorf("windows are %v and %v, want the older without its state and the newer", got[0], got[1])
		}
		if n := len(s.Read(t)); n != 2 {
			t.Errorf("%d rows, want 2", n)
		}
	})
}

func writeAggregates(t *testing.T, s AggregateStore, rows ...store.AggregateRow) {
	t.Helper()
	p, _, err := s.Progress(t.Context(), worker, partition(0))
	if err != nil {
		t.Fatal(err)
	}
	at := int(p.Through.Seq)
	if err := s.Write(t.Context(), commit(span(0, at, at+1)), rows); err != nil {
		t.Fatalf("write: %v", err)
	}
}

// aggregate returns the i-th of many windows of ten seconds, of seven channels.
func aggregate(i int) store.AggregateRow {
	start := telemetry.Time(1_492_016_720*second + int64(i/7)*10*second)
	return store.AggregateRow{
		Aggregate: telemetry.Aggregate{
			Tenant: "default", DeviceID: "d", DeviceType: "T", ChannelKey: fmt.Sprintf("c-%d", i%7), WindowStart: start, WindowLength: 10 * second,
			Count: uint64(i + 1), Min: -1.5, Max: float64(i), Sum: float64(i * 3), First: 1, Last: 2, P50: 0.5, P95: 0.95, P99: 0.99,
			Revision: 1, Final: true, FirstTime: start + 1, LastTime: start + 9,
		},
		State: fmt.Appendf(nil, "state\x00%d", i), StateUntil: start + 10*second,
	}
}

func aggregateText(a telemetry.Aggregate) string { return fmt.Sprintf("%+v avg %v", a, a.Avg()) }
