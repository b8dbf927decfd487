package worker_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
)

// sum is a task with a state: the running sum of what the records say. It makes a row of the sum on an idle tick that finds
// it changed.
type sum struct {
	total, told int
	ticks       []bool // idle, by tick
}

func (s *sum) Add(_ *worker.Output[text], _ string, r bus.Record) error {
	n, err := strconv.Atoi(string(r.Value))
	if err != nil {
		return err
	}
	if s.total += n; n == 13 {
		s.total += 1_000_000 // a panic leaves rubbish behind
		panic("thirteen")
	}
	return nil
}

func (s *sum) Tick(out *worker.Output[text], now, through telemetry.Time) {
	idle := through == now
	s.ticks = append(s.ticks, idle)
	if idle && s.told != s.total {
		s.told = s.total
		out.Rows = append(out.Rows, strconv.Itoa(s.total))
	}
}

func (s *sum) Snapshot(dst []byte) ([]byte, error) {
	return fmt.Appendf(dst, "%d %d", s.total, s.told), nil
}

func (s *sum) Restore(state []byte) error {
	_, err := fmt.Sscanf(string(state), "%d %d", &s.total, &s.told)
	return err
}

func newSummer(t *testing.T) *tester {
	t.Helper()
	w := newTester(t)
	w.loop.Checkpoints = w.table
	w.loop.NewTask = func(int) (worker.Task[text], error) { return new(sum), nil }
	return w
}

func TestAStateSurvivesACrashWithExactlyTheRecordsItCovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSummer(t)
		w.start()
		w.send("1", "2")
		settle(3 * time.Second)
		w.wantRows("3")
		w.send("10", "20") // taken and not told: the process dies first
		synctest.Wait()
		w.crash()
		w.start()
		w.send("100")
		settle(3 * time.Second)
		w.wantRows("3", "133")
		w.wantStop()
	})
}

func TestAStateThatIsGoneIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSummer(t)
		var said bytes.Buffer
		w.loop.Log = slog.New(slog.NewTextHandler(&said, nil))
		w.start()
		w.send("1", "2")
		settle(3 * time.Second)
		w.wantStop()
		if said.Len() > 0 {
			t.Errorf("before it said %q", said.String())
		}
		w.table.set(func() { clear(w.table.checkpoints) })
		w.start()
		settle(time.Second)
		w.wantStop()
		if !strings.Contains(said.String(), "progress and no checkpoint") {
			t.Errorf("it said %q", said.String())
		}
	})
}

func TestAPanicLeavesNoTraceInTheState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSummer(t)
		w.start()
		w.send("1", "2", "13", "4")
		settle(10 * time.Second)
		w.wantRows("7")
		if n := len(w.letters()); n != 1 {
			t.Fatalf("%d dead letters, want 1", n)
		}
		w.wantStop()
	})
}

func TestAStateIsFencedAlsoWhereNoRecordCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSummer(t)
		w.start()
		w.send("1")
		settle(10 * time.Millisecond)
		// Another owner took record 2 and told the sum, before this one's tick.
		w.table.set(func() {
			w.table.progress[bus.PartitionID{Topic: bus.Telemetry}] = bus.Progress{Through: bus.Position{Seq: 2}}
			w.table.checkpoints["0"] = []byte("6 6")
		})
		settle(2 * time.Second)
		w.wantRows()
		w.wantStop()
	})
}

func TestAStateIsFencedAlsoWhereOnlyTimeHasPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newSummer(t)
		w.start()
		w.send("1")
		settle(10 * time.Millisecond)
		// Another owner told the sum by its own clock, before this one's tick: the log has not moved.
		w.table.set(func() {
			state := bus.PartitionID{Topic: "state"}
			w.table.progress[state] = bus.Progress{Through: bus.Position{Seq: w.table.progress[state].Through.Seq + 1, Index: 4}}
			w.table.checkpoints["0"] = []byte("1 1")
		})
		settle(5 * time.Second)
		w.wantRows()
		w.wantStop()
	})
}

func TestATickIsIdleOnlyWhenNothingIsUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		task := new(sum)
		w.loop.NewTask = func(int) (worker.Task[text], error) { return task, nil }
		release := make(chan struct{})
		w.log.SetFaults(mem.Faults{BeforeRead: func(ctx context.Context, _ bus.PartitionID, _ bus.Position) error {
			select {
			case <-release:
			case <-ctx.Done():
			}
			return nil
		}})
		w.send("1")
		w.start()
		settle(2*time.Second + time.Millisecond)
		close(release)
		settle(3 * time.Second)
		w.wantStop()
		if want := []bool{false, false, false, true, true}; !slices.Equal(task.ticks, want) {
			t.Fatalf("idle %v, want %v", task.ticks, want)
		}
	})
}

func TestPrepareCompletesTheRowsBeforeTheyArePublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		tries := 0
		w.loop.Prepare = func(_ context.Context, out *worker.Output[text]) error {
			if tries++; tries < 3 {
				return errBroken
			}
			for i := range out.Rows {
				out.Rows[i] += "!"
				out.Publish = append(out.Publish, worker.Publication{Topic: bus.Critical, Record: bus.Record{Value: []byte(out.Rows[i])}})
			}
			return nil
		}
		w.start()
		w.send("a")
		settle(10 * time.Second)
		w.wantRows("a!")
		if got := published(w.log, bus.Critical); !slices.Equal(got, []string{"a!"}) {
			t.Fatalf("published %q", got)
		}
		w.wantStop()
	})
}

func TestAWorkerWithoutAStoreGoesOnFromTheBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.loop.Store, w.loop.CommitEvery, w.loop.Topics = nil, 0, []string{bus.Ingested}
		w.loop.NewTask = func(int) (worker.Task[text], error) { return worker.Decide[text](forward), nil }
		ingest := func(values ...string) {
			for _, v := range values {
				if err := w.log.Append(t.Context(), bus.PartitionID{Topic: bus.Ingested}, []bus.Record{{Value: []byte(v)}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.start()
		ingest("a", "b")
		settle(5 * time.Second)
		ingest("c")
		settle(time.Millisecond)
		w.crash() // "c" is published and not committed
		w.start()
		ingest("d")
		settle(time.Second)
		if got := published(w.log, bus.Critical); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
			t.Fatalf("published %q", got)
		}
		recs := w.log.Records(bus.PartitionID{Topic: bus.Critical})
		if o := recs[len(recs)-1].Origin; o != (bus.Origin{Position: bus.Position{Seq: 4}}) {
			t.Fatalf("origin %v, want the position in ingested", o)
		}
		w.wantStop()
	})
}

func TestALateComerMayBeginAtTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.loop.Store, w.loop.Start = nil, bus.Start{Newest: true}
		w.loop.NewTask = func(int) (worker.Task[text], error) { return worker.Decide[text](forward), nil }
		w.send("old")
		w.start()
		settle(time.Second)
		w.wantStop()
		w.send("missed meanwhile") // by a worker that has begun before
		w.start()
		w.send("new")
		settle(time.Second)
		if got := published(w.log, bus.Critical); !slices.Equal(got, []string{"missed meanwhile", "new"}) {
			t.Fatalf("published %q", got)
		}
		w.wantStop()
	})
}

func TestALateComerToAnEmptyTopicMissesNothingOfWhatComesNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.loop.Store, w.loop.Start = nil, bus.Start{Newest: true}
		w.loop.NewTask = func(int) (worker.Task[text], error) { return worker.Decide[text](forward), nil }
		w.start()
		settle(time.Second)
		w.wantStop()
		w.send("first", "second") // while it is away
		w.start()
		settle(time.Second)
		if got := published(w.log, bus.Critical); !slices.Equal(got, []string{"first", "second"}) {
			t.Fatalf("published %q", got)
		}
		w.wantStop()
	})
}

func TestDearWritesComeFurtherApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.table.before = func(context.Context, store.Commit, []text) error {
			<-time.After(2 * time.Second)
			return nil
		}
		w.start()
		for range 1200 {
			w.send("a")
			settle(100 * time.Millisecond)
		}
		if n := w.table.commitCount(); n < 9 || n > 11 {
			t.Fatalf("%d writes of 2 s in 2 minutes, want one in 12 s", n)
		}
		w.wantStop()
	})
}

// buffer is a table that holds rows back until it is flushed.
type buffer struct {
	*table[text]
	mu   sync.Mutex
	disk map[bus.PartitionID]bus.Progress
}

func (b *buffer) Flush(context.Context) error {
	b.table.mu.Lock()
	defer b.table.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, p := range b.progress {
		b.disk[id] = p.Clone()
	}
	return nil
}

func (b *buffer) Progress(_ context.Context, _ string, p bus.PartitionID) (bus.Progress, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	progress, ok := b.disk[p]
	return progress.Clone(), ok, nil
}

func TestOfABufferingStoreOnlyWhatIsOnDiskIsCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.loop.Store = &buffer{table: w.table, disk: make(map[bus.PartitionID]bus.Progress)}
		var commits atomic.Int32
		w.log.SetFaults(mem.Faults{AfterCommit: func(context.Context, string, bus.PartitionID, bus.Progress) error {
			commits.Add(1)
			return nil
		}})
		w.start()
		w.send("a")
		settle(time.Minute)
		w.wantRows("a")
		if n := commits.Load(); n != 0 {
			t.Fatalf("%d commits before a flush", n)
		}
		w.wantStop()
		if at := w.committed(); at != (bus.Position{Seq: 1}) {
			t.Fatalf("committed %v after the drain, want 1.0", at)
		}
	})
}

func TestAPanicDoesNotWriteTwiceWhatABufferingStoreHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.loop.Store = &buffer{table: w.table, disk: make(map[bus.PartitionID]bus.Progress)}
		w.loop.NewTask = func(int) (worker.Task[text], error) {
			return worker.Decide[text](func(out *worker.Output[text], topic string, r bus.Record) error {
				if string(r.Value) == "poison" {
					panic("poison")
				}
				return keep(out, topic, r)
			}), nil
		}
		w.start()
		w.send("a")
		settle(time.Second)
		w.send("poison")
		w.send("b")
		settle(10 * time.Second)
		w.wantRows("a", "b")
		w.wantStop()
	})
}
