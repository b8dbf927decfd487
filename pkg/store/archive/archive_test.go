package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/archive"
	"github.com/millrace/millrace/pkg/store/archive/bucket"
	"github.com/millrace/millrace/pkg/store/storetest"
	"github.com/millrace/millrace/pkg/telemetry"
)

func TestArchiveKeepsItsPromises(t *testing.T) {
	for kind, openBucket := range kinds() {
		t.Run(kind, func(t *testing.T) {
			var harness func(t *testing.T, b bucket.Bucket) storetest.HistoryStore
			harness = func(t *testing.T, b bucket.Bucket) storetest.HistoryStore {
				t.Helper()
				a := open(t, config(b))
				return storetest.HistoryStore{
					HistoryWriter: a,
					Read: func(t *testing.T) []store.MessageRow {
						t.Helper()
						return append(visible(t, b), a.Memory()...)
					},
					Crash: func(t *testing.T) storetest.HistoryStore {
						t.Helper()
						crash(t, a)
						return harness(t, b)
					},
				}
			}
			storetest.History(t, func(t *testing.T) storetest.HistoryStore { t.Helper(); return harness(t, openBucket(t)) })
		})
	}
}

func TestRowsAreFlushedBySizeAndByAge(t *testing.T) {
	for name, change := range map[string]func(*archive.Config){
		"size": func(c *archive.Config) { c.FileBytes = 1 },
		"age":  func(c *archive.Config) { c.FileAge = time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			b := inFolder(t)
			cfg := config(b)
			change(&cfg)
			a := open(t, cfg)
			write(t, a, commit(0, 0, 1), messages(0, 100))
			eventually(t, "the rows are in files", func() bool { return len(a.Memory()) == 0 })
			wantOnce(t, b, 0, 100)
		})
	}
}

func TestAFileIsOfOneHourHoweverManyThereAre(t *testing.T) {
	b := inFolder(t)
	a := open(t, config(b))
	const n = 200
	rows := messages(0, n)
	for i := range rows {
		rows[i].EventTime -= telemetry.Time(int64(i*7919%n) * int64(time.Hour))
	}
	write(t, a, commit(0, 0, 1), rows)
	flush(t, a)
	wantOnce(t, b, 0, n)
	files := 0
	for o, err := range archive.Files(t.Context(), b) {
		if err != nil {
			t.Fatal(err)
		}
		files++
		for row, err := range archive.ReadFile(t.Context(), b, o.Key) {
			if err != nil {
				t.Fatal(err)
			}
			if want := time.Unix(0, int64(row.EventTime)).UTC().Format("dt=2006-01-02/hour=15/"); !strings.HasPrefix(o.Key, want) {
				t.Fatalf("a row of %s lies in %s", want, o.Key)
			}
		}
	}
	if files < n-1 {
		t.Errorf("%d files, want one for each of about %d hours", files, n)
	}
}

func TestAnotherReplicaGoesOnWhereOneEnded(t *testing.T) {
	for kind, openBucket := range kinds() {
		t.Run(kind, func(t *testing.T) {
			b := openBucket(t)
			first, second := open(t, config(b)), open(t, config(b))
			if at := progressOf(t, second, 0); at != 0 {
				t.Fatalf("progress of an empty bucket is %d", at)
			}
			write(t, first, commit(0, 0, 5), messages(0, 50))
			write(t, first, commit(1, 0, 5), messages(50, 100))
			flush(t, first)
			// The share moves: its new owner takes what was in memory of neither.
			write(t, first, commit(0, 5, 7), messages(100, 150))
			third := open(t, config(b))
			if at := progressOf(t, third, 0); at != 5 {
				t.Fatalf("the new owner begins at %d, want 5", at)
			}
			write(t, third, commit(0, 5, 6), messages(100, 120))
			flush(t, third)
			write(t, first, commit(1, 5, 6), messages(150, 160)) // of a share that is still its own
			flush(t, first)
			wantNoneTwice(t, visible(t, b))
			if err := first.Write(t.Context(), commit(0, 7, 8), messages(170, 180)); !errors.Is(err, store.ErrFenced) {
				t.Errorf("the stale owner's write: %v, want ErrFenced", err)
			}
			write(t, third, commit(0, 6, 7), messages(120, 150))
			flush(t, third)
			wantOnce(t, b, 0, 160)
			if p0, p1 := progressOf(t, third, 0), progressOf(t, first, 1); p0 != 7 || p1 != 6 {
				t.Errorf("progress is %d and %d, want 7 and 6", p0, p1)
			}
		})
	}
}

func TestTwoOwnersOfTheSameRecordsWriteThemOnce(t *testing.T) {
	b := inFolder(t)
	first, second := open(t, config(b)), open(t, config(b))
	write(t, first, commit(0, 0, 5), messages(0, 50))
	write(t, second, commit(0, 0, 5), messages(0, 50))
	flush(t, first)
	flush(t, second)
	wantOnce(t, b, 0, 50)
	write(t, second, commit(0, 5, 6), messages(50, 60))
	flush(t, second)
	wantOnce(t, b, 0, 60)
}

func TestManyReplicasCommitAtOnce(t *testing.T) {
	for kind, openBucket := range kinds() {
		t.Run(kind, func(t *testing.T) {
			b := openBucket(t)
			const replicas, rounds, each = 5, 6, 7
			var wg sync.WaitGroup
			errs := make([]error, replicas)
			for r := range replicas {
				a := open(t, config(b))
				wg.Go(func() {
					for i := range rounds {
						at := (r*rounds + i) * each
						err := a.Write(t.Context(), commit(r, uint64(i), uint64(i+1)), hours(messages(at, at+each)))
						errs[r] = errors.Join(errs[r], err, a.Flush(t.Context()))
					}
				})
			}
			wg.Wait()
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
			wantOnce(t, b, 0, replicas*rounds*each)
			last := open(t, config(b))
			for r := range replicas {
				if at := progressOf(t, last, r); at != rounds {
					t.Errorf("progress of %d is %d, want %d", r, at, rounds)
				}
			}
			if staged := keys(t, b, "_millrace/archive-writer/staged/"); len(staged) > 0 {
				t.Errorf("left behind: %v", staged)
			}
			if records := keys(t, b, "_millrace/archive-writer/records/"); len(records) > 20 {
				t.Errorf("%d records are kept", len(records))
			}
		})
	}
}

func TestMemoryIsBoundedWhileTheBucketRefuses(t *testing.T) {
	folder := inFolder(t)
	broken := &faults{Bucket: folder}
	cfg := config(broken)
	cfg.FileBytes, cfg.MemoryBytes = 1<<16, 1<<18
	a := open(t, cfg)
	progressOf(t, a, 0)
	broken.mu.Lock()
	broken.at, broken.dead = broken.steps+1, true
	broken.mu.Unlock()
	n, err := uint64(0), error(nil)
	for ; err == nil && n < 1000; n++ {
		err = a.Write(t.Context(), commit(0, n, n+1), messages(int(n)*100, int(n)*100+100))
	}
	if !errors.Is(err, errBroken) {
		t.Fatalf("after %d writes: %v, want the reason why nothing can be flushed", n, err)
	}
	broken.mu.Lock()
	broken.dead = false
	broken.mu.Unlock()
	n--
	eventually(t, "there is room again", func() bool {
		return a.Write(t.Context(), commit(0, n, n+1), messages(int(n)*100, int(n)*100+100)) == nil
	})
	flush(t, a)
	wantOnce(t, folder, 0, int(n+1)*100)
}

// ignorant is a server that does not know If-None-Match.
type ignorant struct{ archive.Bucket }

func (i ignorant) Write(ctx context.Context, key string, _ bool, fill func(io.Writer) error) error {
	return i.Bucket.Write(ctx, key, false, fill)
}

func TestOpenRefusesAServerThatOverwrites(t *testing.T) {
	_, err := archive.Open(t.Context(), config(ignorant{inFolder(t)}))
	if err == nil || !strings.Contains(err.Error(), "If-None-Match") {
		t.Errorf("got %v, want an error that names If-None-Match", err)
	}
}

func TestARecordThatCannotBeTrustedStopsTheWork(t *testing.T) {
	dir := t.TempDir()
	b := openBucket(t, bucket.Config{URL: "file://" + dir})
	a := open(t, config(b))
	write(t, a, commit(0, 0, 1), messages(0, 10))
	flush(t, a)
	record := filepath.Join(dir, "_millrace", worker, "records", fmt.Sprintf("%020d.json", 1))
	good, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func([]byte) []byte
		want   string
	}{
		"cut off":        {func(b []byte) []byte { return b[:len(b)/2] }, "not JSON"},
		"of the future":  {func(b []byte) []byte { return bytes.Replace(b, []byte(`"version":1`), []byte(`"version":2`), 1) }, "newer program"},
		"misnamed":       {func(b []byte) []byte { return bytes.Replace(b, []byte(`"number":1`), []byte(`"number":7`), 1) }, "its number is 7"},
		"leads elsehere": {func(b []byte) []byte { return bytes.Replace(b, []byte(`"to":"dt=`), []byte(`"to":"../dt=`), 1) }, "publish"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(record, c.change(good), 0o600); err != nil {
				t.Fatal(err)
			}
			_, _, err := open(t, config(b)).Progress(t.Context(), worker, commit(0, 0, 1).Spans[0].Partition)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestADayAfterACrashItsFilesAreRemoved(t *testing.T) {
	b := inFolder(t)
	broken := &faults{Bucket: b}
	a := open(t, config(broken))
	progressOf(t, a, 0)
	write(t, a, commit(0, 0, 1), messages(0, 10))
	broken.at, broken.dead = broken.count()+3, true // a list, the file, and then the record
	if err := a.Flush(t.Context()); !errors.Is(err, errBroken) {
		t.Fatalf("flush: %v", err)
	}
	crash(t, a)
	if n := len(keys(t, b, "_millrace/archive-writer/staged/")); n != 1 {
		t.Fatalf("%d files are staged, want 1", n)
	}
	for _, c := range []struct {
		later time.Duration
		want  int
	}{{23 * time.Hour, 1}, {25 * time.Hour, 0}} {
		cfg := config(b)
		cfg.Now = func() time.Time { return time.Now().Add(c.later) }
		next := open(t, cfg)
		progressOf(t, next, 0)
		if err := next.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := len(keys(t, b, "_millrace/archive-writer/staged/")); n != c.want {
			t.Errorf("%v later %d files are staged, want %d", c.later, n, c.want)
		}
	}
}

func TestRetentionRemovesDaysThatAreOver(t *testing.T) {
	for kind, openBucket := range kinds() {
		t.Run(kind, func(t *testing.T) {
			b := openBucket(t)
			cfg := config(b)
			start := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
			cfg.Now = func() time.Time { return start.AddDate(0, 0, 4) }
			cfg.Retention = 48 * time.Hour
			a := open(t, cfg)
			rows := messages(0, 4)
			for i := range rows {
				rows[i].EventTime = telemetry.At(start.AddDate(0, 0, i))
			}
			write(t, a, commit(0, 0, 1), rows)
			flush(t, a)
			if err := a.Maintain(t.Context()); err != nil {
				t.Fatal(err)
			}
			wantOnce(t, b, 2, 4) // of the 12th and 13th; the 11th has been over for 60 hours
		})
	}
}

func TestAnArchiveIsCountedByItsFooters(t *testing.T) {
	for kind, openBucket := range kinds() {
		t.Run(kind, func(t *testing.T) {
			b := openBucket(t)
			a := open(t, config(b))
			rows := messages(0, 300)
			start := time.Date(2026, 3, 10, 23, 30, 0, 0, time.UTC)
			for i := range rows {
				rows[i].EventTime = telemetry.At(start.Add(time.Duration(i) * 12 * time.Second)) // an hour, half of it tomorrow
			}
			write(t, a, commit(0, 0, 1), rows[:200])
			flush(t, a)
			write(t, a, commit(0, 1, 2), rows[200:])
			flush(t, a)
			var got []string
			for d, err := range archive.Days(t.Context(), b) {
				if err != nil {
					t.Fatal(err)
				}
				if d.Bytes == 0 {
					t.Errorf("%s has no bytes", d.Day)
				}
				got = append(got, fmt.Sprint(d.Day, " ", d.Files, " ", d.Rows))
			}
			if want := "[2026-03-10 1 150 2026-03-11 2 150]"; fmt.Sprint(got) != want {
				t.Errorf("got %v, want %s", got, want)
			}
		})
	}
}

func TestCloseFlushesAndEndsEverything(t *testing.T) {
	b := inFolder(t)
	a := open(t, config(b))
	write(t, a, commit(0, 0, 1), messages(0, 10))
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantOnce(t, b, 0, 10)
	if err := a.Close(t.Context()); !errors.Is(err, archive.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
	if err := a.Write(t.Context(), commit(0, 1, 2), nil); !errors.Is(err, archive.ErrClosed) {
		t.Errorf("a write after the end: %v", err)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"version":1,"number":1,"written":"2026-02-03T04:05:06Z","progress":[{"worker":"w","topic":"telemetry","partition":0,"through":"5.0",` +
		`"origins":[{"partition":0,"position":"7.1"}]}],"publish":[{"from":"_millrace/w/staged/x-0","to":"dt=2026-02-03/hour=04/x-0.parquet"}]}`))
	f.Fuzz(func(_ *testing.T, body []byte) {
		_ = archive.ParseRecord(body) // it must not panic
	})
}
