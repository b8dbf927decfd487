package standalone

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/duckdb"
	"github.com/millrace/millrace/pkg/store/parquet"
	"github.com/millrace/millrace/pkg/store/storetest"
)

// TestAQueryOverADamagedFileIsAnsweredFromTheOthers flips bytes all over a file while the stores are open. A query that cannot be answered
// because of that is answered without the file; none fails twice.
func TestAQueryOverADamagedFileIsAnsweredFromTheOthers(t *testing.T) {
	const rows, places = 2000, 12
	failed := 0
	for place := range places {
		dir := t.TempDir()
		archive := filepath.Join(dir, "archive")
		var found []parquet.Finding
		history, err := parquet.Open(t.Context(), parquet.Config{
			Dir: archive, Manifest: filepath.Join(dir, "manifest.json"), Aside: filepath.Join(dir, "aside"), SegmentAge: time.Hour, MaintainEvery: -1, Now: time.Now,
			Found: func(f parquet.Finding) { found = append(found, f) },
			Free:  func(string) (uint64, uint64, error) { return 0, 0, errors.ErrUnsupported },
		})
		if err != nil {
			t.Fatal(err)
		}
		db, err := duckdb.Open(t.Context(), duckdb.Config{Path: filepath.Join(dir, "x.duckdb"), MemoryLimit: 256 << 20, Threads: 1, ArchiveDir: archive, History: history})
		if err != nil {
			t.Fatal(err)
		}
		for n := range 2 {
			writeFile(t, history, uint64(n), rows)
		}
		snapshot, err := history.Take()
		if err != nil {
			t.Fatal(err)
		}
		victim, whole := snapshot.Files()[0], int64(0)
		for _, f := range snapshot.Info()[1:] {
			whole += f.Rows
		}
		snapshot.Release()
		flipBytes(t, victim, place, places)
		answer, err := db.Rows(t.Context(), `SELECT count(*), count(DISTINCT hash(m)) FROM device_messages AS m`)
		if err != nil {
			t.Errorf("place %d of %d: %v", place, places, err)
		} else {
			for row, err := range answer.Rows() {
				if n, ok := row[0].(int64); err != nil || !ok || len(found) > 0 && n != whole {
					t.Errorf("place %d: %v rows, want %d of the whole files (%v)", place, row, whole, err)
				}
			}
			answer.Close()
		}
		failed += len(found)
		// What a query did not notice, upkeep does.
		if err := history.Maintain(t.Context()); err != nil {
			t.Error(err)
		}
		if len(found) != 1 || found[0].Path != victim {
			t.Errorf("place %d: found %+v, want %s", place, found, victim)
		}
		if err := errors.Join(db.Close(), history.Close(context.WithoutCancel(t.Context()))); err != nil {
			t.Error(err)
		}
	}
	if failed == 0 {
		t.Error("no query met the damage: the test does not reach what it is for")
	}
	t.Logf("%d of %d queries met the damage", failed, places)
}

func writeFile(t *testing.T, history *parquet.History, n uint64, count int) {
	t.Helper()
	var rows []store.MessageRow
	for i := range count {
		rows = append(rows, storetest.Message(int(n)*count+i))
	}
	span := store.Span{Partition: bus.PartitionID{Topic: bus.Telemetry}, Through: bus.Progress{Through: bus.Position{Seq: n + 1}}}
	if n > 0 {
		span.After = bus.Position{Seq: n}
	}
	if err := history.Write(t.Context(), store.Commit{Worker: "w", Spans: []store.Span{span}}, rows); err != nil {
		t.Fatal(err)
	}
	if err := history.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func flipBytes(t *testing.T, path string, place, places int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		b[(len(b)*place/places+i)%len(b)] ^= 0x55
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(fmt.Errorf("damage %s: %w", path, err))
	}
}
