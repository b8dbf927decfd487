package parquet_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/parquet"
	"github.com/millrace/millrace/pkg/telemetry"
)

// clock is a clock that a test turns.
type clock struct{ nanos atomic.Int64 }

func newClock(at time.Time) *clock {
	c := new(clock)
	c.nanos.Store(at.UnixNano())
	return c
}

func (c *clock) Now() time.Time       { return time.Unix(0, c.nanos.Load()) }
func (c *clock) turn(d time.Duration) { c.nanos.Add(int64(d)) }

func maintain(t *testing.T, h *parquet.History) {
	t.Helper()
	if err := h.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// writeFiles writes and closes n times, in one hour.
func writeFiles(t *testing.T, h *parquet.History, n, rows int) {
	t.Helper()
	for i := range n {
		write(t, h, commit(0, uint64(i), uint64(i+1)), messages(i*rows, i*rows+rows))
		flush(t, h)
	}
}

func TestAnHourThatSettledIsMergedIntoOneSortedFile(t *testing.T) {
	clock := newClock(time.Now())
	cfg := config(t.TempDir())
	cfg.Now, cfg.RowGroupRows = clock.Now, 64
	h := open(t, cfg)
	writeFiles(t, h, 5, 100) // of two seconds each: within one hour
	maintain(t, h)
	if got := h.Status().Files; got != 5 {
		t.Fatalf("%d files before the hour has settled, want 5", got)
	}
	before, err := h.Take()
	if err != nil {
		t.Fatal(err)
	}
	clock.turn(6 * time.Minute)
	maintain(t, h)
	after, err := h.Take()
	if err != nil {
		t.Fatal(err)
	}
	defer after.Release()
	if len(after.Files()) != 1 {
		t.Fatalf("%d files, want 1", len(after.Files()))
	}
	wantOnce(t, readAll(t, h), 0, 500)
	wantSorted(t, readFile(t, after.Files()[0]))
	if i := after.Info()[0]; i.Rows != 500 || i.First.ID != "device-0" || i.Last.ID != "device-9" {
		t.Errorf("the manifest says %+v", i)
	}
	for _, path := range before.Files() {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("a snapshot still reads it: %v", err)
		}
	}
	before.Release()
	before.Release() // harmless
	maintain(t, h)
	for _, path := range before.Files() {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is still there, and nobody reads it", path)
		}
	}
}

func wantSorted(t *testing.T, rows []store.MessageRow) {
	t.Helper()
	key := func(r store.MessageRow) string {
		return fmt.Sprintf("%s\x00%s\x00%s\x00%020d\x00%05d%020d", r.Tenant, r.DeviceID, r.ChannelKey, r.EventTime, r.Origin.Partition, r.Origin.Seq)
	}
	if !slices.IsSortedFunc(rows, func(a, b store.MessageRow) int { return strings.Compare(key(a), key(b)) }) {
		t.Error("the rows are not in the order of device, channel, time and origin")
	}
}

func TestAMergeBecomesSeveralFilesAtItsLimit(t *testing.T) {
	clock := newClock(time.Now())
	cfg := config(t.TempDir())
	cfg.Now, cfg.MergeRows = clock.Now, 256
	h := open(t, cfg)
	writeFiles(t, h, 6, 100)
	clock.turn(time.Hour)
	maintain(t, h)
	s, err := h.Take()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	var all []store.MessageRow
	for i, f := range s.Info() {
		if f.Rows > 256 {
			t.Errorf("a file of %d rows, limit 256", f.Rows)
		}
		all = append(all, readFile(t, s.Files()[i])...)
	}
	wantSorted(t, all) // one after the other
	wantOnce(t, all, 0, 600)
	if len(s.Files()) != 3 {
		t.Errorf("%d files, want 3", len(s.Files()))
	}
}

func TestMergePlan(t *testing.T) {
	const minute = telemetry.Time(time.Minute)
	const hour = 60 * minute
	cfg := parquet.Config{MergeRows: 1000, MergeBytes: 1 << 30, MergeDelay: 5 * time.Minute, SegmentRows: 1000}
	files := func(rows ...int64) (all []parquet.FileInfo) {
		for i, n := range rows {
			all = append(all, parquet.FileInfo{Path: fmt.Sprintf("dt=1970-01-01/hour=00/close-%010d.parquet", i), Rows: n, Closed: 50 * minute})
		}
		return all
	}
	for _, c := range []struct {
		name  string
		files []parquet.FileInfo
		now   telemetry.Time
		want  string // the rows of what is merged
	}{
		{"a few of an hour under way stay", files(10, 10, 10), 55 * minute, "[]"},
		{"eight of like size do not wait", files(10, 10, 10, 10, 10, 10, 10, 10), 55 * minute, "[10 10 10 10 10 10 10 10]"},
		{"when the hour has settled, all", files(10, 20, 300), hour + 6*minute, "[10 20]"},
		{"of like size, however large", files(100, 100, 300), hour + 6*minute, "[100 100 300]"},
		{"a straggler waits for others", files(1, 400), hour + 6*minute, "[]"},
		{"and is taken in when the hour is cold", files(1, 400), 26 * hour, "[1 400]"},
		{"a straggler does not keep others", files(1, 100, 110), hour + 6*minute, "[100 110]"},
		{"large ones stay for good", files(900, 800), 26 * hour, "[]"},
		{"one is none", files(10), 26 * hour, "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := []int64{}
			for _, f := range parquet.PlanMerge(&cfg, c.files, c.now) {
				got = append(got, f.Rows)
			}
			if fmt.Sprint(got) != c.want {
				t.Errorf("merges %v, want %s", got, c.want)
			}
		})
	}
}

func TestADeviceThatSendsThousandsOfHoursMakesFewFilesAtOnceAndOneAnHourLater(t *testing.T) {
	clock := newClock(time.Now())
	cfg := config(t.TempDir())
	cfg.Now, cfg.HoursMax = clock.Now, 10
	h := open(t, cfg)
	rows := messages(0, 400)
	for i := range rows {
		if i < 300 {
			rows[i].EventTime -= telemetry.Time(int64(i) * int64(time.Hour))
		}
	}
	write(t, h, commit(0, 0, 1), rows)
	flush(t, h)
	if got := h.Status().Files; got != 10 {
		t.Errorf("%d files after the close, want 10", got)
	}
	wantOnce(t, readAll(t, h), 0, 400)
	clock.turn(10 * time.Minute)
	maintain(t, h)
	wantOnce(t, readAll(t, h), 0, 400)
	s, err := h.Take()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	for i, f := range s.Info() {
		for _, r := range readFile(t, s.Files()[i]) {
			if want := r.EventTime.Std().Format("dt=2006-01-02/hour=15"); filepath.ToSlash(filepath.Dir(f.Path)) != want {
				t.Fatalf("%s holds a row of %s", f.Path, want)
			}
		}
	}
	if got := len(s.Files()); got < 300 {
		t.Errorf("%d files, want one for each hour", got)
	}
}

func TestRetentionRemovesWhatIsOlder(t *testing.T) {
	clock := newClock(messages(0, 1)[0].EventTime.Std())
	cfg := config(t.TempDir())
	cfg.Now, cfg.Retention = clock.Now, 48*time.Hour
	h := open(t, cfg)
	write(t, h, commit(0, 0, 1), messages(0, 10))
	flush(t, h)
	young := messages(10, 20)
	for i := range young {
		young[i].EventTime += telemetry.Time(24 * time.Hour)
	}
	write(t, h, commit(0, 1, 2), young)
	flush(t, h)
	clock.turn(47 * time.Hour)
	maintain(t, h)
	wantOnce(t, readAll(t, h), 0, 20)
	clock.turn(2 * time.Hour)
	maintain(t, h)
	wantOnce(t, readAll(t, h), 10, 20)
	crash(t, h)
	wantOnce(t, readAll(t, open(t, cfg)), 10, 20)
}

func TestADiskThatFillsIsSaidLongBefore(t *testing.T) {
	clock := newClock(time.Now())
	free := uint64(500)
	var said []string
	cfg := config(t.TempDir())
	cfg.Now = clock.Now
	cfg.Free = func(string) (uint64, uint64, error) { return free, 1000, nil }
	cfg.Health = func(h parquet.Health) {
		said = append(said, fmt.Sprintf("%s %v", h.Level, h.FullIn.Round(time.Minute)))
	}
	h := open(t, cfg)
	pass := func(d time.Duration, left uint64) {
		clock.turn(d)
		free = left
		maintain(t, h)
	}
	pass(0, 500)
	pass(time.Minute, 149)   // little is left
	pass(9*time.Minute, 149) // and
	pass(time.Minute, 140)   // 360 were taken in 11 minutes
	pass(time.Minute, 600)
	pass(2*time.Hour, 40)
	pass(2*time.Hour, 600)
	want := "[warning 0s critical 4m0s ok 0s critical 11m0s ok 0s]"
	if got := fmt.Sprint(said); got != want {
		t.Errorf("it said %s, want %s", got, want)
	}
	if got := h.Status().Health; got.Level != parquet.HealthOK || got.Free != 600 {
		t.Errorf("at last %+v, want ok", got)
	}
}

func TestADamagedFileIsNamedAndSetAside(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, path string){
		"cut off": func(t *testing.T, path string) {
			t.Helper()
			if err := os.Truncate(path, 100); err != nil {
				t.Fatal(err)
			}
		},
		"gone": func(t *testing.T, path string) {
			t.Helper()
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			cfg := config(t.TempDir())
			cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
			h := open(t, cfg)
			writeFiles(t, h, 2, 10)
			s, err := h.Take()
			if err != nil {
				t.Fatal(err)
			}
			first := s.Files()[0]
			s.Release()
			crash(t, h)
			damage(t, first)
			h = open(t, cfg)
			wantOnce(t, readAll(t, h), 10, 20)
			if d := h.Status().Damaged; len(d) != 1 || d[0].Rows != 10 || filepath.Base(d[0].Path) != filepath.Base(first) {
				t.Errorf("the damage is remembered as %+v", d)
			}
			if !strings.Contains(log.String(), first) {
				t.Errorf("the log does not name %s:\n%s", first, &log)
			}
			if _, err := os.Stat(first + ".damaged"); name == "cut off" && err != nil {
				t.Errorf("it was not kept: %v", err)
			}
			crash(t, h)
			wantOnce(t, readAll(t, open(t, cfg)), 10, 20) // once is enough
		})
	}
}

func TestAFileThatIsFoundDamagedByAMergeIsSetAsideAndTheOthersAreMerged(t *testing.T) {
	clock := newClock(time.Now())
	cfg := config(t.TempDir())
	cfg.Now = clock.Now
	h := open(t, cfg)
	writeFiles(t, h, 3, 200)
	s, err := h.Take()
	if err != nil {
		t.Fatal(err)
	}
	path := s.Files()[1]
	s.Release()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 4; i < len(b)-600; i++ {
		b[i] ^= 0x5a
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	clock.turn(time.Hour)
	maintain(t, h)
	if got := h.Status(); got.Files != 1 || got.FileRows != 400 || len(got.Damaged) != 1 {
		t.Errorf("%d files of %d rows, %d damaged; want 1 of 400, 1", got.Files, got.FileRows, len(got.Damaged))
	}
}

func TestTwoManifestsThatCannotBeTrustedStopTheOpening(t *testing.T) {
	for _, c := range []struct {
		name, want string
		change     func(b []byte) []byte
	}{
		{"a bit flipped", "damaged", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }},
		{"cut", "cut off", func(b []byte) []byte { return b[:len(b)/2] }},
		{"empty", "cut off", func([]byte) []byte { return nil }},
		{"lost", "only a manifest can vouch", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := config(t.TempDir())
			h := open(t, cfg)
			writeFiles(t, h, 2, 10)
			crash(t, h)
			path := filepath.Join(cfg.Dir, "manifest.json")
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{path, filepath.Join(cfg.Dir, ".manifest.copy")} {
				if c.change == nil {
					err = os.Remove(path)
				} else {
					err = os.WriteFile(path, c.change(bytes.Clone(b)), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if _, err := parquet.Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("open: %v, want %q", err, c.want)
			}
			if n, _ := filepath.Glob(filepath.Join(cfg.Dir, "dt=*", "hour=*", "*.parquet")); len(n) != 2 {
				t.Errorf("%d files are left, want 2: none may be removed", len(n))
			}
		})
	}
}

func TestForeignFilesAreLeftAlone(t *testing.T) {
	cfg := config(t.TempDir())
	h := open(t, cfg)
	writeFiles(t, h, 1, 10)
	crash(t, h)
	foreign := filepath.Join(cfg.Dir, "dt=2017-04-12", "notes.parquet")
	if err := os.WriteFile(foreign, []byte("PAR1"), 0o600); err != nil {
		t.Fatal(err)
	}
	stray := filepath.Join(cfg.Dir, "dt=2017-04-12", "close-0000000099.parquet")
	if err := os.WriteFile(stray, []byte("PAR1"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantOnce(t, readAll(t, open(t, cfg)), 0, 10)
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("the foreign file: %v", err)
	}
	if _, err := os.Stat(stray); err == nil {
		t.Error("a file of ours that no manifest names is still there")
	}
}

func FuzzManifest(f *testing.F) {
	cfg := config(f.TempDir())
	h, err := parquet.Open(f.Context(), cfg)
	if err != nil {
		f.Fatal(err)
	}
	if err := h.Close(f.Context()); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(cfg.Dir, "manifest.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("{}\ncrc32c 00000000\n"))
	f.Fuzz(func(_ *testing.T, b []byte) { _ = parquet.ParseManifest(b) }) // it must not panic
}

func FuzzReadFile(f *testing.F) {
	cfg := config(f.TempDir())
	h, err := parquet.Open(f.Context(), cfg)
	if err != nil {
		f.Fatal(err)
	}
	if err := h.Write(f.Context(), commit(0, 0, 1), messages(0, 20)); err != nil {
		f.Fatal(err)
	}
	if err := h.Close(f.Context()); err != nil {
		f.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(cfg.Dir, "dt=*", "hour=*", "*.parquet"))
	if err != nil || len(files) != 1 {
		f.Fatal(files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("PAR1PAR1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "x.parquet")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, err := range parquet.ReadFile(path) { // an error, never a panic, never without an end
			if n++; err != nil || n > 1<<20 {
				return
			}
		}
	})
}
