package parquet_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/parquet"
	"github.com/millrace/millrace/pkg/store/storetest"
	"github.com/millrace/millrace/pkg/telemetry"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		victim(dir) // never returns: it is killed
	}
	goleak.VerifyTestMain(m)
}

const worker = "history-writer"

// config is one that does nothing by itself: tests say when.
func config(dir string) parquet.Config {
	return parquet.Config{
		Dir: filepath.Join(dir, "archive"), SegmentAge: time.Hour, MaintainEvery: -1, Grace: -1, MergeRest: -1,
		Free: func(string) (uint64, uint64, error) { return 0, 0, errors.ErrUnsupported },
		Now:  time.Now,
	}
}

func open(t *testing.T, cfg parquet.Config) *parquet.History {
	t.Helper()
	h, err := parquet.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { crash(t, h) })
	return h
}

// crash leaves the files as they are.
func crash(t *testing.T, h *parquet.History) {
	t.Helper()
	if err := h.Abandon(); err != nil && !errors.Is(err, parquet.ErrClosed) {
		t.Error(err)
	}
}

// readAll returns every row of a snapshot.
func readAll(t *testing.T, h *parquet.History) []store.MessageRow {
	t.Helper()
	s, err := h.Take()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	var rows []store.MessageRow
	for _, path := range s.Files() {
		rows = append(rows, readFile(t, path)...)
	}
	inMemory := 0
	s.Rows(func(run []store.MessageRow) bool {
		rows = append(rows, run...)
		inMemory += len(run)
		return true
	})
	if inMemory != s.RowCount() {
		t.Errorf("RowCount is %d, and there are %d", s.RowCount(), inMemory)
	}
	return rows
}

func readFile(t *testing.T, path string) []store.MessageRow {
	t.Helper()
	var rows []store.MessageRow
	for row, err := range parquet.ReadFile(path) {
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	return rows
}

func commit(number int, after, through uint64) store.Commit {
	span := store.Span{Partition: bus.PartitionID{Topic: bus.Telemetry, Number: number}}
	span.After.Seq, span.Through.Through.Seq = after, through
	span.Through.Origins = bus.Origins{{Partition: int32(number), Position: bus.Position{Seq: through}}}
	return store.Commit{Worker: worker, Spans: []store.Span{span}}
}

func messages(from, to int) []store.MessageRow {
	var rows []store.MessageRow
	for i := from; i < to; i++ {
		rows = append(rows, storetest.Message(i))
	}
	return rows
}

func write(t *testing.T, h *parquet.History, c store.Commit, rows []store.MessageRow) {
	t.Helper()
	if err := h.Write(t.Context(), c, rows); err != nil {
		t.Fatal(err)
	}
}

func flush(t *testing.T, h *parquet.History) {
	t.Helper()
	if err := h.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// wantOnce checks that the messages from..to are there, each once, and nothing else.
func wantOnce(t *testing.T, rows []store.MessageRow, from, to int) {
	t.Helper()
	seen := map[string]int{}
	for i := range rows {
		seen[rows[i].MessageID]++
	}
	for i := from; i < to; i++ {
		if n := seen[fmt.Sprintf("id-%d", i)]; n != 1 {
			t.Fatalf("message %d is there %d times (of %d rows), want once", i, n, len(rows))
		}
	}
	if len(rows) != to-from {
		t.Errorf("%d rows, want %d", len(rows), to-from)
	}
}

func TestHistoryKeepsItsPromises(t *testing.T) {
	var harness func(t *testing.T, cfg parquet.Config) storetest.HistoryStore
	harness = func(t *testing.T, cfg parquet.Config) storetest.HistoryStore {
		t.Helper()
		h := open(t, cfg)
		return storetest.HistoryStore{
			HistoryWriter: h,
			Read:          func(t *testing.T) []store.MessageRow { t.Helper(); return readAll(t, h) },
			Crash: func(t *testing.T) storetest.HistoryStore {
				t.Helper()
				crash(t, h)
				return harness(t, cfg)
			},
		}
	}
	storetest.History(t, func(t *testing.T) storetest.HistoryStore {
		t.Helper()
		return harness(t, config(t.TempDir()))
	})
}

func TestRowsCloseBySizeAndByAge(t *testing.T) {
	for name, change := range map[string]func(*parquet.Config){
		"size": func(c *parquet.Config) { c.SegmentRows = 100 },
		"age":  func(c *parquet.Config) { c.SegmentAge = time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t.TempDir())
			change(&cfg)
			h := open(t, cfg)
			write(t, h, commit(0, 0, 1), messages(0, 100))
			eventually(t, "the rows are in files", func() bool { return h.Status().MemoryRows == 0 })
			wantOnce(t, readAll(t, h), 0, 100)
		})
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func TestWritersAndReadersTogetherSeeEveryRowOnce(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.SegmentRows, cfg.MaintainEvery = 500, time.Millisecond
	cfg.Now = func() time.Time { return time.Now().Add(time.Hour) } // every hour is settled
	cfg.MergeDelay = time.Nanosecond
	h := open(t, cfg)
	const partitions, writes, each = 3, 40, 50
	var wg sync.WaitGroup
	for p := range partitions {
		wg.Go(func() {
			for i := range writes {
				first := (p*writes + i) * each
				if err := h.Write(t.Context(), commit(p, uint64(i), uint64(i+1)), messages(first, first+each)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		seen := map[string]bool{}
		for _, r := range readAll(t, h) {
			if seen[r.MessageID] {
				t.Fatalf("%s is there twice", r.MessageID)
			}
			seen[r.MessageID] = true
		}
		for p := range partitions { // whole writes, in their order
			n := 0
			for seen[fmt.Sprintf("id-%d", p*writes*each+n)] && n < writes*each {
				n++
			}
			if n%each != 0 {
				t.Fatalf("partition %d shows %d rows, half of a write", p, n)
			}
		}
	}
	wantOnce(t, readAll(t, h), 0, partitions*writes*each)
}

func TestANewOwnerBeginsAgainAtWhatIsOnDisk(t *testing.T) {
	h := open(t, config(t.TempDir()))
	write(t, h, commit(0, 0, 10), messages(0, 10))
	write(t, h, commit(1, 0, 1), messages(100, 105))
	flush(t, h)
	write(t, h, commit(0, 10, 20), messages(10, 20))
	write(t, h, commit(1, 1, 2), messages(105, 110))
	write(t, h, commit(0, 10, 15), messages(10, 15)) // reads from Progress on
	if err := h.Write(t.Context(), commit(0, 20, 30), messages(20, 30)); !errors.Is(err, store.ErrFenced) {
		t.Errorf("the earlier owner's write: %v, want ErrFenced", err)
	}
	write(t, h, commit(0, 15, 20), messages(15, 20))
	flush(t, h)
	var zero []store.MessageRow
	for _, r := range readAll(t, h) {
		if r.Origin.Seq < 20 {
			zero = append(zero, r)
		}
	}
	wantOnce(t, zero, 0, 20)
	if got := len(readAll(t, h)); got != 30 {
		t.Errorf("%d rows, want 30: those of the other share stay", got)
	}
}

func TestMemoryIsBoundedWhileTheDiskRefuses(t *testing.T) {
	disk := &faults{at: 5}
	cfg := config(t.TempDir())
	cfg.MemoryBytes, cfg.FS = 1<<20, disk
	h := open(t, cfg)
	disk.refuse(true)
	var err error
	n := uint64(0)
	for ; err == nil && n < 1000; n++ {
		err = h.Write(t.Context(), commit(0, n, n+1), messages(int(n)*100, int(n)*100+100))
	}
	if !errors.Is(err, errDisk) {
		t.Fatalf("after %d writes: %v, want the disk's refusal", n, err)
	}
	n--
	if got := h.Status(); got.MemoryBytes > 2<<20 || got.Closing == nil {
		t.Errorf("%d bytes are held (limit %d); closing: %v", got.MemoryBytes, 1<<20, got.Closing)
	}
	disk.refuse(false)
	eventually(t, "the same write is taken once the disk takes files", func() bool {
		err := h.Write(t.Context(), commit(0, n, n+1), messages(int(n)*100, int(n)*100+100))
		return err == nil
	})
	wantOnce(t, readAll(t, h), 0, int(n+1)*100)
}

func TestRowsThatNoFileCanHoldAreRefused(t *testing.T) {
	h := open(t, config(t.TempDir()))
	rows := messages(0, 5)
	rows[1].ChannelValue = []byte{0xff, 0xfe}
	rows[2].ChannelKey = "\xff"
	rows[4].Origin.Seq = 1 << 60
	err := h.Write(t.Context(), commit(0, 0, 1), rows)
	refused := (*store.Refused)(nil)
	if !errors.As(err, &refused) || fmt.Sprint(refused.Rows) != "[1 2 4]" {
		t.Fatalf("%v, want rows 1, 2 and 4 refused", err)
	}
	if got := len(readAll(t, h)); got != 0 {
		t.Errorf("%d rows are there, want none before the refused ones are dead letters", got)
	}
	flush(t, h)
	if p, known, err := h.Progress(t.Context(), worker, commit(0, 0, 1).Spans[0].Partition); err != nil || known {
		t.Errorf("progress %v (%v), want none: a crash here must read the refused rows again", p, err)
	}
	write(t, h, commit(0, 0, 1), []store.MessageRow{rows[0], rows[3]})
	if got := len(readAll(t, h)); got != 2 {
		t.Errorf("%d rows are there, want the other 2", got)
	}
	flush(t, h)
	if got := len(readAll(t, h)); got != 2 {
		t.Errorf("%d rows are in files, want the other 2", got)
	}
	if p, _, err := h.Progress(t.Context(), worker, commit(0, 0, 1).Spans[0].Partition); err != nil || p.Through.Seq != 1 {
		t.Errorf("progress %v (%v), want 1", p, err)
	}
}

func TestARefusedWriteLeavesEarlierRowsAsTheyAre(t *testing.T) {
	h := open(t, config(t.TempDir()))
	write(t, h, commit(0, 0, 1), messages(0, 100))
	snapshot, err := h.Take()
	if err != nil {
		t.Fatal(err)
	}
	defer snapshot.Release()
	bad := messages(100, 9000) // beyond one chunk
	for i := range bad {
		bad[i].ChannelKey = fmt.Sprint("new-", i%7)
	}
	bad[len(bad)-1].ChannelValue = []byte{0xff}
	if err := h.Write(t.Context(), commit(0, 1, 2), bad); !errors.As(err, new(*store.Refused)) {
		t.Fatalf("%v, want a row refused", err)
	}
	write(t, h, commit(0, 1, 2), messages(100, 200))
	if n := snapshot.RowCount(); n != 100 {
		t.Errorf("the snapshot has %d rows, want 100", n)
	}
	wantOnce(t, readAll(t, h), 0, 200)
	flush(t, h)
	wantOnce(t, readAll(t, h), 0, 200)
}

func TestFilesArePickedByDeviceAndTime(t *testing.T) {
	h := open(t, config(t.TempDir()))
	for d := range uint64(3) {
		rows := messages(int(d)*100, int(d)*100+100)
		for i := range rows {
			rows[i].DeviceID = fmt.Sprintf("house-%d", d)
			rows[i].EventTime = telemetry.Time(d) * telemetry.Time(24*time.Hour)
		}
		write(t, h, commit(0, d, d+1), rows)
		flush(t, h)
	}
	s, err := h.Take()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	day := telemetry.Time(24 * time.Hour)
	for _, c := range []struct {
		name   string
		filter parquet.Filter
		want   int
	}{
		{"all", parquet.Filter{}, 3},
		{"one device", parquet.Filter{Tenant: "default", DeviceID: "house-1"}, 1},
		{"no such device", parquet.Filter{Tenant: "default", DeviceID: "mill"}, 0},
		{"another tenant", parquet.Filter{Tenant: "acme"}, 0},
		{"from inclusive", parquet.Filter{From: day}, 2},
		{"to exclusive", parquet.Filter{From: 1, To: day}, 0},
		{"one day", parquet.Filter{From: day, To: 2 * day}, 1},
	} {
		if got := s.FilesOf(c.filter); len(got) != c.want {
			t.Errorf("%s: %d files, want %d", c.name, len(got), c.want)
		}
	}
}

func TestOneFolderIsOneProcess(t *testing.T) {
	cfg := config(t.TempDir())
	h := open(t, cfg)
	if _, err := parquet.Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second Open: %v, want its refusal", err)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	open(t, cfg)
}

func TestCloseFlushesAndEndsEverything(t *testing.T) {
	cfg := config(t.TempDir())
	h := open(t, cfg)
	write(t, h, commit(0, 0, 1), messages(0, 10))
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.Write(t.Context(), commit(0, 1, 2), nil); !errors.Is(err, parquet.ErrClosed) {
		t.Errorf("a write after Close: %v", err)
	}
	if _, err := h.Snapshot(); !errors.Is(err, parquet.ErrClosed) {
		t.Errorf("a snapshot after Close: %v", err)
	}
	wantOnce(t, readAll(t, open(t, cfg)), 0, 10)
}

func TestFlushEndsWithItsContext(t *testing.T) {
	disk := &faults{}
	cfg := config(t.TempDir())
	cfg.FS = disk
	h := open(t, cfg)
	disk.hold()
	defer disk.release()
	write(t, h, commit(0, 0, 1), messages(0, 10))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Flush(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("flush: %v, want the context's end", err)
	}
}
