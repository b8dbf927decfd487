package gather_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/gather"
	"github.com/millrace/millrace/pkg/store/storetest"
)

const worker = "w"

func source(n int) gather.Source {
	return gather.Source{Worker: worker, Partition: bus.PartitionID{Topic: bus.Telemetry, Number: n}}
}

func commit(n int, after, through uint64) store.Commit {
	s := store.Span{Partition: source(n).Partition}
	s.After.Seq, s.Through.Through.Seq = after, through
	return store.Commit{Worker: worker, Spans: []store.Span{s}}
}

// files is a store that makes batches durable when it is told to.
type files struct {
	*gather.Rows
	mu     sync.Mutex
	errs   []error // of the next closes, in turn
	fenced []gather.Source
	closed []int // rows of each batch
}

// start begins to close; in a synctest bubble, so that time passes by itself.
func start(t *testing.T, cfg gather.Config) *files {
	t.Helper()
	f := new(files)
	cfg.Now = time.Now
	f.Rows = gather.New(&f.mu, cfg)
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { f.CloseLoop(ctx, f.put) })
	t.Cleanup(func() {
		f.Stop()
		stop()
		done.Wait()
	})
	return f
}

func (f *files) put(_ context.Context, b *gather.Batch) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.errs) > 0 {
		err := f.errs[0]
		f.errs = f.errs[1:]
		return err
	}
	durable := map[gather.Source]bus.Progress{}
	for from, taken := range b.Covers {
		durable[from] = taken.Through
	}
	f.closed = append(f.closed, b.Rows)
	f.Settle(durable, f.fenced)
	return nil
}

func (f *files) rows(t *testing.T) (closed []int, held int) {
	t.Helper()
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed, f.Held().Rows
}

func message() []store.MessageRow { return []store.MessageRow{storetest.Message(1)} }

func mustWrite(t *testing.T, f *files, c store.Commit) {
	t.Helper()
	if err := f.Write(t.Context(), c, message()); err != nil {
		t.Fatal(err)
	}
}

var roomy = gather.Config{Rows: 1000, Bytes: 1 << 30, Age: time.Hour, MemoryBytes: 1 << 30}

func TestRowsCloseWhenTheyAreManyLargeOrOld(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*gather.Config)
		after  time.Duration
	}{
		{"many", func(c *gather.Config) { c.Rows = 2 }, 0},
		{"large", func(c *gather.Config) { c.Bytes = 1 }, 0},
		{"old", func(c *gather.Config) { c.Age = time.Minute }, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := roomy
				c.change(&cfg)
				f := start(t, cfg)
				mustWrite(t, f, commit(0, 0, 1))
				mustWrite(t, f, commit(0, 1, 2))
				if c.after > 0 {
					if closed, held := f.rows(t); len(closed) != 0 || held != 2 {
						t.Errorf("too early: %v are closed, %d held", closed, held)
					}
					<-time.After(c.after)
				}
				if _, held := f.rows(t); held != 0 {
					t.Errorf("%d rows are held", held)
				}
			})
		})
	}
}

func TestACloseThatGoesWrongIsTriedAgainAndFlushSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		f := start(t, roomy)
		f.errs = []error{broken, broken, broken}
		mustWrite(t, f, commit(0, 0, 1))
		if err := f.Flush(t.Context()); !errors.Is(err, broken) {
			t.Errorf("flush: %v", err)
		}
		<-time.After(time.Minute)
		if closed, held := f.rows(t); len(closed) != 1 || held != 0 {
			t.Errorf("%v are closed, %d held", closed, held)
		}
		if err := f.Flush(t.Context()); err != nil {
			t.Errorf("flush: %v", err)
		}
	})
}

func TestWhatAnotherHasWrittenIsDroppedAndItsOwnerFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, roomy)
		mustWrite(t, f, commit(0, 0, 1))
		mustWrite(t, f, commit(1, 0, 1))
		f.mu.Lock()
		f.fenced = []gather.Source{source(0)}
		f.mu.Unlock()
		if err := f.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.mu.Lock()
		f.SetDurable(source(0), bus.Progress{Through: bus.Position{Seq: 9}}) // what the other has written
		f.mu.Unlock()
		if err := f.Write(t.Context(), commit(0, 1, 2), message()); !errors.Is(err, store.ErrFenced) {
			t.Errorf("the stale owner: %v, want ErrFenced", err)
		}
		mustWrite(t, f, commit(0, 9, 10))
		mustWrite(t, f, commit(1, 1, 2))
	})
}

func TestWriteWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := roomy
		cfg.MemoryBytes = 1
		f := start(t, cfg)
		mustWrite(t, f, commit(0, 0, 1))
		waiting, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := f.Write(waiting, commit(0, 1, 2), message()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a write without room: %v", err)
		}
		if err := f.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, f, commit(0, 1, 2))
	})
}
