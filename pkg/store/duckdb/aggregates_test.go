package duckdb

import (
	"maps"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

func aggregateWrite(n uint64) store.Commit {
	return store.Commit{Worker: "w", Spans: []store.Span{{
		Partition: bus.PartitionID{Topic: "telemetry"}, After: bus.Position{Seq: n - 1}, Through: bus.Progress{Through: bus.Position{Seq: n}},
	}}}
}

func TestACommitOfUnknownOutcomeLeavesNoWindowTwice(t *testing.T) {
	db, err := Open(t.Context(), Config{Path: filepath.Join(t.TempDir(), "millrace.duckdb"), Threads: 2, MemoryLimit: 256 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	rowAt := func(start telemetry.Time, revision uint32) []store.AggregateRow {
		return []store.AggregateRow{{Aggregate: telemetry.Aggregate{
			Tenant: "t", DeviceID: "d", ChannelKey: "c", WindowStart: start, WindowLength: 10, Count: 1, Revision: revision,
		}}}
	}
	write := func(n uint64, rows []store.AggregateRow) {
		t.Helper()
		if err := db.Aggregates().Write(t.Context(), aggregateWrite(n), rows); err != nil {
			t.Fatal(err)
		}
	}
	write(1, rowAt(100, 1))
	before := maps.Clone(db.aggregates.newest)
	write(2, rowAt(110, 1))
	// What a commit that is on disk and came back with an error leaves in memory.
	db.aggregates.newest, db.aggregates.stale = before, true
	write(2, rowAt(110, 1))
	write(3, rowAt(110, 2))
	r, err := db.Rows(t.Context(), `SELECT window_start FROM aggregates WHERE device_id = 'd'`)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n := 0
	for _, err := range r.Rows() {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 2 {
		t.Errorf("%d rows of 2 windows", n)
	}
}
