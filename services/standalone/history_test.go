package standalone

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/duckdb"
	"github.com/millrace/millrace/pkg/store/parquet"
	"github.com/millrace/millrace/pkg/store/storetest"
	"github.com/millrace/millrace/pkg/telemetry"
)

// TestHistoryAsSQLShowsIt holds the two embedded drivers to the promises of a history together: what one writes to Parquet or
// holds in memory, the other shows as the table device_messages. Neither may know the other, so the test is here.
func TestHistoryAsSQLShowsIt(t *testing.T) {
	storetest.History(t, func(t *testing.T) storetest.HistoryStore {
		t.Helper()
		return openHistory(t, t.TempDir())
	})
}

func openHistory(t *testing.T, dir string) storetest.HistoryStore {
	t.Helper()
	archive := filepath.Join(dir, "archive")
	history, err := parquet.Open(t.Context(), parquet.Config{
		Dir: archive, Manifest: filepath.Join(dir, "manifest.json"), SegmentAge: time.Hour, MaintainEvery: -1, Now: time.Now,
		Free: func(string) (uint64, uint64, error) { return 0, 0, errors.ErrUnsupported },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := history.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	db, err := duckdb.Open(t.Context(), duckdb.Config{
		Path: filepath.Join(dir, "millrace.duckdb"), MemoryLimit: 256 << 20, Threads: 1, ArchiveDir: archive, History: history,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return storetest.HistoryStore{
		HistoryWriter: history,
		Read:          func(t *testing.T) []store.MessageRow { t.Helper(); return selectHistory(t, db) },
		// The files as they are now are all that a killed process leaves.
		Crash: func(t *testing.T) storetest.HistoryStore {
			t.Helper()
			left := t.TempDir()
			for _, what := range []string{"archive", "manifest.json"} {
				copyTree(t, filepath.Join(dir, what), filepath.Join(left, what))
			}
			return openHistory(t, left)
		},
	}
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	info, err := os.Stat(from)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return
	case err != nil:
		t.Fatal(err)
	case info.IsDir():
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
		return
	}
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func selectHistory(t *testing.T, db *duckdb.DB) []store.MessageRow {
	t.Helper()
	result, err := db.Rows(t.Context(), "SELECT * FROM device_messages")
	if err != nil {
		t.Fatal(err)
	}
	defer result.Close()
	var rows []store.MessageRow
	for r, err := range result.Rows() {
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, messageRow(t, r))
	}
	return rows
}

// messageRow reads a row of the columns of store.HistoryColumns.
func messageRow(t *testing.T, r []any) store.MessageRow {
	t.Helper()
	if len(r) != len(store.HistoryColumns()) {
		t.Fatalf("%d columns, want %d", len(r), len(store.HistoryColumns()))
	}
	text := func(v any) string { s, _ := v.(string); return s } // null is nothing
	at := func(v any) telemetry.Time {
		if v == nil {
			return 0
		}
		return telemetry.At(v.(time.Time))
	}
	value, known := r[6].(float64)
	properties, err := store.ParseProperties(nil, []byte(text(r[12])))
	if err != nil {
		t.Fatal(err)
	}
	return store.MessageRow{
		Message: telemetry.Message{
			Tenant: text(r[0]), DeviceID: text(r[1]), DeviceType: text(r[2]), ChannelKey: text(r[3]), ChannelType: text(r[4]),
			ChannelValue: []byte(text(r[5])), Value: value, HasValue: known, EventTime: at(r[7]), IngestTime: at(r[8]),
			MessageID: text(r[9]), Kind: store.ParseKind(text(r[10])), DeviceTime: at(r[11]), Properties: properties,
			Attributes: []byte(text(r[13])), Source: text(r[14]), Credential: text(r[15]), Codec: text(r[16]),
		},
		Origin: bus.Origin{Partition: r[17].(int32), Position: store.UnpackPosition(r[18].(int64))},
	}
}
