package duckdb_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/duckdb"
	"github.com/millrace/millrace/pkg/store/storetest"
	"github.com/millrace/millrace/pkg/telemetry"
)

// wholeDatabase is a folder with a database of 20 writes in its file and 5 in its write-ahead log, as a kill leaves it.
func wholeDatabase(t *testing.T) (dir string) {
	t.Helper()
	live := t.TempDir()
	open := func() *duckdb.DB { return openAt(t, live, func(c *duckdb.Config) { c.CheckpointBytes = 1 << 30 }) }
	db := open()
	fillDatabase(t, db, 1, 20)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open()
	fillDatabase(t, db, 21, 25)
	dir = t.TempDir()
	copyInto(t, live, dir)
	return dir
}

func copyInto(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func fillDatabase(t *testing.T, db *duckdb.DB, from, to int) {
	t.Helper()
	for seq := from; seq <= to; seq++ {
		rows := make([]store.MessageRow, 3000)
		for i := range rows {
			rows[i] = storetest.LogLine(seq*3000 + i)
		}
		c := commitOf(seq)
		if err := db.Logs().Write(t.Context(), c, rows); err != nil {
			t.Fatal(err)
		}
		if err := db.State().Write(t.Context(), c, stateRows(seq)); err != nil {
			t.Fatal(err)
		}
		c.Checkpoint, c.Task = bytes.Repeat([]byte{byte(seq)}, 100_000), "0"
		if err := db.Aggregates().Write(t.Context(), c, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// checkStore wants of a store either what its progress says, or nothing at all.
func checkStore(t *testing.T, db *duckdb.DB, m *duckdb.Mended) {
	t.Helper()
	p := bus.PartitionID{Topic: "logs"}
	for name, s := range map[string]interface {
		store.Writer[store.MessageRow]
	}{"logs": db.Logs(), "state": db.State()} {
		progress, ok, err := s.Progress(t.Context(), "w", p)
		if err != nil {
			t.Fatal(err)
		}
		seq := int(progress.Through.Seq)
		switch {
		case m == nil && seq < 20, m != nil && ok != slices.Contains(m.Kept, name), m != nil && ok == slices.Contains(m.Lost, name), ok && seq < 20:
			t.Errorf("%s: progress %d (%v), mended %+v", name, seq, ok, m)
		}
		if name == "logs" {
			wantRows(t, db, `SELECT count(*), count(DISTINCT message) FROM logs`, fmt.Sprintf("%d|%d", seq*3000, seq*3000))
		} else if ok {
			wantRows(t, db, `SELECT count(*), min(value), max(value) FROM device_state`, fmt.Sprintf("50|%d|%d", seq, seq))
		} else {
			wantRows(t, db, `SELECT count(*) FROM device_state`, "0")
		}
	}
}

func TestADamagedDatabaseIsSetAsideAndWhatCanBeReadOfItIsKept(t *testing.T) {
	whole := wholeDatabase(t)
	const main, wal = "millrace.duckdb", "millrace.duckdb.wal"
	flip := func(name string, at int) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			for i := range 8 {
				b[(at+i)%len(b)] ^= 0xff
			}
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	cut := func(name string, percent int64) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			st, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(filepath.Join(dir, name), st.Size()*percent/100); err != nil {
				t.Fatal(err)
			}
		}
	}
	directory := func(name string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(filepath.Join(dir, name), 0o750); err != nil {
				t.Fatal(err)
			}
		}
	}
	type damage struct {
		name string
		do   func(t *testing.T, dir string)
		keep int // stores at least
	}
	damages := []damage{
		{"nothing", func(*testing.T, string) {}, 5},
		{"empty", cut(main, 0), 0},
		{"cut in the middle", cut(main, 50), 0},
		{"cut at its end", cut(main, 85), 1},
		{"a directory", directory(main), 0},
		{"main header", flip(main, 10), 0},
		{"first header", flip(main, 4096+20), 0},
		{"second header", flip(main, 8192+20), 0},
		{"write-ahead log flipped", flip(wal, 700_000), 5},
		{"write-ahead log a directory", directory(wal), 5},
	}
	st, err := os.Stat(filepath.Join(whole, main))
	if err != nil {
		t.Fatal(err)
	}
	for at := 12288; at < int(st.Size()); at += 262144 {
		damages = append(damages, damage{fmt.Sprintf("block at %d", at), flip(main, at+5000), 0})
	}
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			dir := t.TempDir()
			copyInto(t, whole, dir)
			d.do(t, dir)
			aside := filepath.Join(dir, "set-aside", "x")
			db, mended, err := duckdb.OpenMended(t.Context(), duckdb.Config{Path: filepath.Join(dir, main), Threads: 1}, aside)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			}()
			checkStore(t, db, mended)
			if mended == nil {
				return
			}
			if len(mended.Kept) < d.keep || len(mended.Kept)+len(mended.Lost) != len(duckdb.Stores()) {
				t.Errorf("kept %v, want %d stores at least", mended.Kept, d.keep)
			}
			if _, err := os.Lstat(filepath.Join(aside, main)); err != nil {
				t.Errorf("the damaged file is not kept: %v", err)
			}
			if slices.Contains(mended.Stateless, "aggregates") { // an older row names a checkpoint that was replaced
				if err := db.BeginAnew(t.Context(), "aggregates", 0); err != nil {
					t.Error(err)
				}
				_, started, err := db.Aggregates().Progress(t.Context(), "w", bus.PartitionID{Topic: "logs"})
				if _, ok, err2 := db.Aggregates().Checkpoint(t.Context(), "w", "0"); started || ok || err != nil || err2 != nil {
					t.Errorf("begun anew there is a progress (%v) or a checkpoint (%v), %v, %v", started, ok, err, err2)
				}
			} else if slices.Contains(mended.Kept, "aggregates") {
				if state, ok, err := db.Aggregates().Checkpoint(t.Context(), "w", "0"); err != nil || !ok || len(state) != 100_000 {
					t.Errorf("checkpoint: %d bytes, %v, %v", len(state), ok, err)
				}
			}
			// It is an ordinary database from then on.
			if slices.Contains(mended.Lost, "logs") {
				if err := db.Logs().Write(t.Context(), commitOf(1), []store.MessageRow{storetest.LogLine(1)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestADamagedCheckpointIsSetAsideAndItsStoreBeginsAnew(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"cut":   func(path string) error { return os.Truncate(path, 1000) },
		"empty": func(path string) error { return os.Truncate(path, 0) },
		"gone":  os.Remove,
		"flipped": func(path string) error {
			return os.WriteFile(path, bytes.Repeat([]byte{99}, 100_000), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			db := openAt(t, dir, nil)
			fillDatabase(t, db, 1, 2)
			var windows [2]store.AggregateRow
			for i := range windows {
				windows[i].Tenant, windows[i].DeviceID, windows[i].ChannelKey = "t", "d", "c"
				windows[i].WindowStart, windows[i].WindowLength, windows[i].Count = telemetry.Time(i+1)*1e10, 1e10, 3
			}
			c := commitOf(3)
			c.Checkpoint, c.Task = bytes.Repeat([]byte{3}, 100_000), "0"
			if err := db.Aggregates().Write(t.Context(), c, windows[:]); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			files, err := filepath.Glob(filepath.Join(dir, "millrace.duckdb.checkpoints", "*"))
			if err != nil || len(files) != 1 {
				t.Fatalf("checkpoints %v, %v", files, err)
			}
			if err := damage(files[0]); err != nil {
				t.Fatal(err)
			}
			db, mended, err := duckdb.OpenMended(t.Context(), duckdb.Config{Path: filepath.Join(dir, "millrace.duckdb")}, filepath.Join(dir, "aside"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			}()
			if mended == nil || mended.Reason != "" || !slices.Equal(mended.Stateless, []string{"aggregates"}) || !slices.Equal(mended.Files, []string{filepath.Base(files[0])}) {
				t.Fatalf("mended %+v", mended)
			}
			if err := db.BeginAnew(t.Context(), "aggregates", windows[1].WindowStart); err != nil {
				t.Fatal(err)
			}
			wantRows(t, db, `SELECT count(*) FROM aggregates`, "1")
			if _, started, err := db.Aggregates().Progress(t.Context(), "w", bus.PartitionID{Topic: "logs"}); started || err != nil {
				t.Errorf("it goes on from its old progress (%v)", err)
			}
			if _, kept, err := db.Logs().Progress(t.Context(), "w", bus.PartitionID{Topic: "logs"}); !kept || err != nil {
				t.Errorf("logs begin anew too (%v)", err)
			}
		})
	}
}

func TestADamagedCheckpointInItsTableLeavesTheFilesOfOthers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "millrace.duckdb")
	db := openAt(t, dir, nil)
	fillDatabase(t, db, 1, 1) // aggregates have a checkpoint in a file
	c := commitOf(1)
	c.Checkpoint, c.Task = []byte("rules"), "0"
	if err := db.Alarms().Write(t.Context(), c, nil); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := sql.Open("duckdb", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := raw.ExecContext(t.Context(), `UPDATE internal.checkpoints_alarms SET crc = crc + 1`); err != nil {
		t.Fatal(err)
	}
	if err := raw.Close(); err != nil {
		t.Fatal(err)
	}
	db, mended, err := duckdb.OpenMended(t.Context(), duckdb.Config{Path: path}, filepath.Join(dir, "aside"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	if mended == nil || !slices.Equal(mended.Stateless, []string{"alarms"}) || !slices.Equal(mended.Files, []string{"w 0"}) {
		t.Errorf("mended %+v", mended)
	}
	if state, ok, err := db.Aggregates().Checkpoint(t.Context(), "w", "0"); !ok || err != nil || len(state) != 100_000 {
		t.Errorf("the checkpoint of aggregates: %d bytes, %v, %v", len(state), ok, err)
	}
}

func TestAWindowMadeAgainFromPartOfItsMessagesDoesNotReplaceTheWholeOne(t *testing.T) {
	dir := t.TempDir()
	window := func(at telemetry.Time, count uint64, revision uint32) store.AggregateRow {
		var r store.AggregateRow
		r.Tenant, r.DeviceID, r.ChannelKey = "t", "d", "c"
		r.WindowStart, r.WindowLength, r.Count, r.Revision, r.State = at*1e10, 1e10, count, revision, []byte("state")
		return r
	}
	db := openAt(t, dir, nil)
	if err := db.Aggregates().Write(t.Context(), commitOf(1), []store.AggregateRow{window(1, 9, 3), window(2, 7, 1), window(3, 5, 1)}); err != nil {
		t.Fatal(err)
	}
	if err := db.BeginAnew(t.Context(), "aggregates", 3e10); err != nil {
		t.Fatal(err)
	}
	if err := db.Aggregates().Write(t.Context(), commitOf(1), []store.AggregateRow{window(1, 4, 1), window(2, 7, 1), window(3, 4, 1)}); err != nil {
		t.Fatal(err)
	}
	wantRows(t, db, `SELECT epoch(window_start)::BIGINT, count, revision FROM aggregates ORDER BY 1`, "10|9|3", "20|7|1", "30|4|1")
	if got, err := db.Aggregates().Windows(t.Context(), []store.WindowKey{{Tenant: "t", DeviceID: "d", ChannelKey: "c", WindowStart: 1e10, WindowLength: 1e10}}); err != nil || len(got[0].State) > 0 {
		t.Errorf("the whole window can still be corrected: %q, %v", got[0].State, err)
	}
}
