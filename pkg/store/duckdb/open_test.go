package duckdb_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/duckdb"
	"github.com/millrace/millrace/pkg/store/storetest"
	"github.com/millrace/millrace/pkg/telemetry"
)

const childVariable = "MILLRACE_DUCKDB_CHILD"

// TestMain is also the process that TestKilled kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		writeForEver(dir)
		return
	}
	os.Exit(m.Run())
}

// writeForEver writes logs and state under one progress each and prints the sequence of every write that has returned.
func writeForEver(dir string) {
	ctx := context.Background()
	db, err := duckdb.Open(ctx, duckdb.Config{Path: filepath.Join(dir, "millrace.duckdb"), CheckpointBytes: 1 << 20})
	if err != nil {
		fmt.Println("open:", err)
		return
	}
	for seq := 1; ; seq++ {
		rows := make([]store.MessageRow, 100)
		for i := range rows {
			rows[i] = storetest.LogLine(seq*100 + i)
		}
		c := commitOf(seq)
		c.Checkpoint, c.Task = nil, ""
		err := errors.Join(db.Logs().Write(ctx, c, rows), db.State().Write(ctx, c, stateRows(seq)))
		c.Checkpoint, c.Task = bytes.Repeat([]byte(strconv.Itoa(seq%10)), 100_000), "0"
		err = errors.Join(err, db.Aggregates().Write(ctx, c, nil))
		if err != nil {
			fmt.Println("write:", err)
			return
		}
		fmt.Println(seq)
	}
}

func stateRows(seq int) []store.MessageRow {
	rows := make([]store.MessageRow, 50)
	for i := range rows {
		rows[i] = storetest.Message(i)
		rows[i].ChannelKey = strconv.Itoa(i)
		rows[i].EventTime += telemetry.Time(seq)
		rows[i].Value = float64(seq)
	}
	return rows
}

func commitOf(seq int) store.Commit {
	span := store.Span{Partition: bus.PartitionID{Topic: "logs"}, Through: bus.Progress{Through: bus.Position{Seq: uint64(seq)}}}
	if seq > 1 {
		span.After = bus.Position{Seq: uint64(seq - 1)}
	}
	return store.Commit{Worker: "w", Spans: []store.Span{span}}
}

func TestKilledProcessLosesNothingThatReturned(t *testing.T) {
	for round := range 3 {
		dir := t.TempDir()
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), childVariable+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		returned, lines := 0, bufio.NewScanner(out)
		for lines.Scan() {
			n, err := strconv.Atoi(strings.TrimSpace(lines.Text()))
			if err != nil {
				t.Fatalf("the writer says %q", lines.Text())
			}
			if returned = n; n == 20+round*37 {
				if _, err := duckdb.Open(t.Context(), duckdb.Config{Path: filepath.Join(dir, "millrace.duckdb")}); !errors.Is(err, duckdb.ErrInUse) {
					t.Errorf("open beside another process: %v, want ErrInUse", err)
				}
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // it was killed
		checkKilled(t, openAt(t, dir, nil), returned)
	}
}

func checkKilled(t *testing.T, db *duckdb.DB, returned int) {
	t.Helper()
	p, ok, err := db.Logs().Progress(t.Context(), "w", bus.PartitionID{Topic: "logs"})
	if err != nil || !ok {
		t.Fatalf("progress: %v, %v", ok, err)
	}
	seq := int(p.Through.Seq)
	if seq < returned || seq > returned+1 {
		t.Errorf("progress is %d after %d writes that returned", seq, returned)
	}
	wantRows(t, db, `SELECT count(*), count(DISTINCT message) FROM logs`, fmt.Sprintf("%d|%d", seq*100, seq*100))
	p, _, err = db.State().Progress(t.Context(), "w", bus.PartitionID{Topic: "logs"})
	if err != nil {
		t.Fatal(err)
	}
	wantRows(t, db, `SELECT count(*), min(value), max(value) FROM device_state`, fmt.Sprintf("50|%d|%d", p.Through.Seq, p.Through.Seq))
	p, _, err = db.Aggregates().Progress(t.Context(), "w", bus.PartitionID{Topic: "logs"})
	if err != nil {
		t.Fatal(err)
	}
	state, ok, err := db.Aggregates().Checkpoint(t.Context(), "w", "0")
	if err != nil || !ok || len(state) != 100_000 || string(state[:1]) != strconv.FormatUint(p.Through.Seq%10, 10) {
		t.Errorf("checkpoint: %v, %v, %d bytes, %.1q, want that of write %d", ok, err, len(state), state, p.Through.Seq)
	}
}

func TestOpenAgainKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	for round := range 3 {
		db := openAt(t, dir, nil)
		if err := db.State().Write(t.Context(), commitOf(round+1), stateRows(round+1)); err != nil {
			t.Fatal(err)
		}
		wantRows(t, db, `SELECT count(*), min(value), max(value) FROM device_state`, fmt.Sprintf("50|%d|%d", round+1, round+1))
		if err := db.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if err := db.State().Write(t.Context(), commitOf(9), nil); err == nil {
			t.Error("a closed database takes a write")
		}
	}
}

func TestOpenRefusesADamagedFile(t *testing.T) {
	whole := t.TempDir()
	db := openAt(t, whole, nil)
	if err := db.State().Write(t.Context(), commitOf(1), stateRows(1)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(whole, "millrace.duckdb"))
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func(b []byte) []byte{
		"no database":       func([]byte) []byte { return bytes.Repeat([]byte("hello "), 10_000) },
		"short":             func(b []byte) []byte { return b[:5000] },
		"cut in the middle": func(b []byte) []byte { return b[:len(b)/2] },
		"a header is wrong": func(b []byte) []byte { clear(b[4096:12288]); return b },
		"blocks are zero":   func(b []byte) []byte { clear(b[12288:]); return b },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "millrace.duckdb")
			if err := os.WriteFile(path, damage(bytes.Clone(good)), 0o600); err != nil {
				t.Fatal(err)
			}
			db, err := duckdb.Open(t.Context(), duckdb.Config{Path: path})
			if err == nil {
				_ = db.Close()
			}
			if !errors.Is(err, duckdb.ErrDamaged) || !strings.Contains(err.Error(), path) {
				t.Errorf("open: %v, want ErrDamaged with the path", err)
			}
		})
	}
}

func TestTrimDropsWhatIsOlder(t *testing.T) {
	db := openAt(t, t.TempDir(), nil)
	rows := make([]store.MessageRow, 100)
	for i := range rows {
		rows[i] = storetest.LogLine(i)
	}
	if err := db.Logs().Write(t.Context(), commitOf(1), rows); err != nil {
		t.Fatal(err)
	}
	n, err := db.Trim(t.Context(), duckdb.Retention{Logs: rows[40].IngestTime})
	if err != nil || n != 40 {
		t.Errorf("dropped %d, %v, want 40", n, err)
	}
	wantRows(t, db, `SELECT count(*) FROM logs`, "60")
	if n, err := db.Trim(t.Context(), duckdb.Retention{}); err != nil || n != 0 {
		t.Errorf("dropped %d, %v, want nothing", n, err)
	}
}

func TestRowsOfAPositionBeyondTheColumnAreRefused(t *testing.T) {
	db := openAt(t, t.TempDir(), nil)
	rows := stateRows(1)[:3]
	rows[1].Origin.Seq = 1 << 60
	for range 2 { // and again when the write is repeated
		var refused *store.Refused
		if err := db.State().Write(t.Context(), commitOf(1), rows); !errors.As(err, &refused) || len(refused.Rows) != 1 || refused.Rows[0] != 1 {
			t.Errorf("write: %v, want row 1 refused", err)
		}
	}
	var refused *store.Refused
	if err := db.Logs().Write(t.Context(), commitOf(1), rows); !errors.As(err, &refused) {
		t.Errorf("write of logs: %v, want row 1 refused", err)
	}
	// A crash here must read the refused row again: it is no dead letter yet.
	wantRows(t, db, `SELECT count(*) FROM device_state`, "0")
	for _, s := range []store.Writer[store.MessageRow]{db.State(), db.Logs()} {
		commit := commitOf(1)
		if p, known, err := s.Progress(t.Context(), commit.Worker, commit.Spans[0].Partition); known || err != nil {
			t.Errorf("progress %v, %v, want none", p, err)
		}
	}
	if err := db.State().Write(t.Context(), commitOf(1), []store.MessageRow{rows[0], rows[2]}); err != nil {
		t.Fatal(err)
	}
	wantRows(t, db, `SELECT count(*) FROM device_state`, "2")
}

func TestNamesThatAreNoTextAreKeptReadable(t *testing.T) {
	db := openAt(t, t.TempDir(), nil)
	rows := stateRows(1)[:1]
	rows[0].ChannelValue = []byte("a\xffb\x00c")
	if err := db.State().Write(t.Context(), commitOf(1), rows); err != nil {
		t.Fatal(err)
	}
	wantRows(t, db, `SELECT channel_value FROM device_state`, "a\uFFFDb\x00c")
}
