package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/worker"
)

var errBroken = errors.New("connection refused")

// forward publishes every record to Critical and keeps it as a row.
func forward(out *worker.Output[text], _ string, r bus.Record) error {
	out.Rows = append(out.Rows, string(r.Value))
	out.Publish = append(out.Publish, worker.Publication{Topic: bus.Critical, Record: r})
	return nil
}

func published(log *mem.Log, topic string) []string {
	var origins bus.Origins // a reader drops doubles
	var values []string
	for _, r := range log.Records(bus.PartitionID{Topic: topic}) {
		if origins.Take(r.Origin) {
			values = append(values, string(r.Value))
		}
	}
	return values
}

func TestACrashAtAnyStepLosesNothingAndDoublesNothing(t *testing.T) {
	// Each case arms a crash in one step of the commit that holds "b".
	cases := map[string]func(w *tester, crash func() error){
		"before publishing": func(w *tester, crash func() error) {
			w.log.SetFaults(mem.Faults{BeforeAppend: func(_ context.Context, id bus.PartitionID, _ []bus.Record) error {
				return when(id.Topic == bus.Critical, crash)
			}})
		},
		"after publishing": func(w *tester, crash func() error) {
			w.log.SetFaults(mem.Faults{AfterAppend: func(_ context.Context, id bus.PartitionID, _ []bus.Record) error {
				return when(id.Topic == bus.Critical, crash)
			}})
		},
		"before the write": func(w *tester, crash func() error) {
			w.table.before = func(context.Context, store.Commit, []text) error { return crash() }
		},
		"after the write": func(w *tester, crash func() error) {
			w.table.after = func(context.Context, store.Commit, []text) error { return crash() }
		},
		"before the bus commit": func(w *tester, crash func() error) {
			w.log.SetFaults(mem.Faults{BeforeCommit: func(context.Context, string, bus.PartitionID, bus.Progress) error { return crash() }})
		},
		"after the bus commit": func(w *tester, crash func() error) {
			w.log.SetFaults(mem.Faults{AfterCommit: func(context.Context, string, bus.PartitionID, bus.Progress) error { return crash() }})
		},
	}
	for name, arm := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTester(t)
				w.loop.NewTask = func(int) (worker.Task[text], error) { return worker.Decide[text](forward), nil }
				w.start()
				w.send("a")
				settle(3 * time.Second)
				var crashed atomic.Bool
				log := w.log
				arm(w, func() error {
					crashed.Store(true)
					log.Crash()
					return mem.ErrCrashed
				})
				w.send("b", "c")
				settle(12 * time.Second)
				if !crashed.Load() {
					t.Fatal("the crash did not happen")
				}
				_ = w.stop()
				w.log.SetFaults(mem.Faults{})
				w.table.set(func() { w.table.before, w.table.after = nil, nil })
				w.log = w.log.Open()
				w.loop.Bus = w.log
				w.start()
				w.send("d")
				settle(5 * time.Second)
				w.wantRows("a", "b", "c", "d")
				if got := published(w.log, bus.Critical); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
					t.Fatalf("published %q", got)
				}
				w.wantStop()
			})
		})
	}
}

func when(yes bool, f func() error) error {
	if yes {
		return f()
	}
	return nil
}

func TestAStoreThatFailsIsTriedUntilItWorksWhileMemoryStaysBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		var got atomic.Int64 // values given to the task
		w.loop.NewTask = func(int) (worker.Task[text], error) {
			return worker.Decide[text](func(out *worker.Output[text], topic string, r bus.Record) error {
				got.Add(1)
				return keep(out, topic, r)
			}), nil
		}
		w.loop.BatchRecords = 10
		w.table.before = func(context.Context, store.Commit, []text) error { return errBroken }
		w.start()
		var want []string
		for i := range 100 {
			want = append(want, fmt.Sprint(i))
			w.send(want[i])
		}
		settle(time.Hour)
		if n := got.Load(); n > 10 {
			t.Fatalf("%d records were taken while the store was down, want at most 10", n)
		}
		st := w.loop.Metrics.Statuses()
		if len(st) != 1 || st[0].LagSeconds < 3599 || !strings.Contains(st[0].Retrying, "write: connection refused") {
			t.Fatalf("status %+v", st)
		}
		if tries := w.table.writes; tries < 400 || tries > 1200 {
			t.Fatalf("%d tries in an hour by two shares, want one of each in about 10 s", tries)
		}
		w.table.set(func() { w.table.before = nil })
		settle(time.Minute)
		w.wantRows(want...)
		if st := w.loop.Metrics.Statuses()[0]; st.Retrying != "" || st.LagSeconds != 0 || st.Records != 100 || st.Behind != 0 {
			t.Fatalf("status %+v", st)
		}
		w.wantStop()
	})
}

func TestAWriteOfUnknownOutcomeIsRepeatedUnderTheSameCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		failures := 3
		w.table.after = func(context.Context, store.Commit, []text) error {
			if failures--; failures >= 0 {
				return errBroken
			}
			return nil
		}
		w.start()
		w.send("a", "b")
		settle(10 * time.Second)
		w.wantRows("a", "b")
		w.wantStop()
	})
}

func TestAFullLogIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.loop.NewTask = func(int) (worker.Task[text], error) { return worker.Decide[text](forward), nil }
		w.log.SetFaults(mem.Faults{BeforeAppend: func(_ context.Context, id bus.PartitionID, _ []bus.Record) error {
			return when(id.Topic == bus.Critical, func() error { return bus.ErrFull })
		}})
		w.start()
		w.send("a")
		settle(time.Minute)
		w.wantRows()
		w.log.SetFaults(mem.Faults{})
		settle(2 * time.Second) // while others fill the room, it must not sleep for half a minute
		w.wantRows("a")
		if got := published(w.log, bus.Critical); !slices.Equal(got, []string{"a"}) {
			t.Fatalf("published %q", got)
		}
		w.wantStop()
	})
}

func TestMoreThanALogHoldsIsPublishedAsItsReadersMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.log = mem.New(mem.Config{BytesMax: 1 << 20, Now: time.Now, Readers: map[string][]string{bus.Critical: {"reader"}}})
		w.loop.Bus, w.loop.Store = w.log, nil
		w.loop.NewTask = func(int) (worker.Task[text], error) {
			return worker.Decide[text](func(out *worker.Output[text], _ string, r bus.Record) error {
				r.Value = append(bytes.Repeat([]byte("x"), 100<<10), r.Value...)
				out.Publish = append(out.Publish, worker.Publication{Topic: bus.Critical, Record: r})
				return nil
			}), nil
		}
		var want, got []string
		for i := range 40 { // four times of what the partition holds, in one commit
			want = append(want, fmt.Sprint(i))
		}
		w.send(want...)
		w.start()
		reader := worker.Loop[text]{
			Worker: "reader", Topics: []string{bus.Critical}, Bus: w.log, Now: time.Now,
			NewTask: func(int) (worker.Task[text], error) {
				return worker.Decide[text](func(_ *worker.Output[text], _ string, r bus.Record) error {
					got = append(got, strings.TrimLeft(string(r.Value), "x"))
					return nil
				}), nil
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- reader.Run(ctx) }()
		settle(10 * time.Minute)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("read %q", got)
		}
		w.wantStop()
	})
}

func TestAFencedWorkerJoinsAgainFromWhatTheStoreHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.start()
		w.send("a")
		settle(time.Second)
		// Another owner wrote "b", which is record 2, meanwhile.
		id := bus.PartitionID{Topic: bus.Telemetry}
		w.table.set(func() {
			w.table.rows = append(w.table.rows, "b")
			w.table.progress[id] = bus.Progress{Through: bus.Position{Seq: 2}, Origins: bus.Origins{{Position: bus.Position{Seq: 2}}}}
		})
		w.send("b")
		w.send("c")
		settle(10 * time.Second)
		w.wantRows("a", "b", "c")
		w.wantStop()
	})
}

func TestAStoreThatWasEmptiedOrSetBackIsFilledAgainAndSaysSo(t *testing.T) {
	for _, through := range []uint64{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			w := newTester(t)
			var said bytes.Buffer
			w.loop.Log = slog.New(slog.NewTextHandler(&said, nil))
			w.start()
			w.send("a")
			w.send("b")
			settle(5 * time.Second)
			w.wantStop()
			if said.Len() > 0 {
				t.Errorf("before it said %q", said.String())
			}
			before := w.table
			w.table = newTable[text]()
			if through > 0 {
				w.table.rows = before.rows[:through]
				w.table.progress[bus.PartitionID{Topic: bus.Telemetry}] = bus.Progress{Through: bus.Position{Seq: through}}
			}
			w.loop.Store = w.table
			w.start()
			settle(time.Second)
			w.wantRows("a", "b")
			w.wantStop()
			if !strings.Contains(said.String(), "the store has less than the group committed") {
				t.Errorf("it said %q", said.String())
			}
		})
	}
}

func TestWhereTheStoreKeepsNoProgressTheBusDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.loop.ProgressOnBus = true
		w.start()
		w.send("a", "b")
		settle(time.Second)
		w.wantStop()
		if at := w.committed(); at != (bus.Position{Seq: 1, Index: 1}) {
			t.Fatalf("committed %v", at)
		}
		w.table.set(func() {
			w.table.progress = map[bus.PartitionID]bus.Progress{{Topic: bus.Telemetry}: {Through: bus.Position{Seq: 1, Index: 1}}}
		})
		w.send("c")
		w.start()
		settle(time.Second)
		w.wantRows("a", "b", "c")
		w.wantStop()
	})
}

func TestReadingGoesOnWhereItBroke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		broken := true
		w.log.SetFaults(mem.Faults{BeforeRead: func(_ context.Context, id bus.PartitionID, _ bus.Position) error {
			if id.Topic != bus.Telemetry {
				return nil
			}
			broken = !broken
			return when(broken, func() error { return errBroken })
		}})
		w.start()
		for _, v := range []string{"a", "b", "c"} {
			w.send(v)
			settle(time.Minute)
		}
		w.wantRows("a", "b", "c")
		w.wantStop()
	})
}

func TestAWorkerWhoseLogWasWipedStopsAndSkipsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.start()
		w.send("a")
		w.send("b")
		settle(time.Second)
		w.wantStop()
		w.log = mem.New(mem.Config{Now: time.Now})
		w.loop.Bus, w.next = w.log, 0
		w.send("c")
		w.start()
		settle(time.Second)
		w.send("d")
		w.send("e")
		settle(time.Minute)
		w.wantRows("a", "b")
		if err := w.stop(); !errors.Is(err, bus.ErrAhead) {
			t.Fatalf("%v, want bus.ErrAhead", err)
		}
	})
}

func TestAWorkerThatCannotFindItsStartStopsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.loop.Warm = func(context.Context, worker.Task[text], bus.Share, []bus.Progress) error { return errBroken }
		w.start()
		settle(time.Minute)
		began := time.Now()
		if err := w.stop(); err != nil || time.Since(began) > time.Second {
			t.Fatalf("stop after %v: %v", time.Since(began), err)
		}
	})
}

func TestARecordOnWhichTheTaskPanicsTwiceIsADeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		tasks := 0
		w.loop.NewTask = func(int) (worker.Task[text], error) {
			tasks++
			return worker.Decide[text](func(out *worker.Output[text], topic string, r bus.Record) error {
				if string(r.Value) == "poison" {
					var none []int
					_ = none[len(r.Value)]
				}
				return keep(out, topic, r)
			}), nil
		}
		w.start()
		w.send("a", "poison", "b")
		settle(10 * time.Second)
		w.wantRows("a", "b")
		letters := w.letters()
		if len(letters) != 1 || string(letters[0].Payload) != "poison" {
			t.Fatalf("dead letters %+v", letters)
		}
		for _, part := range []string{"panicked on it 2 times", "index out of range", "fault_test.go"} {
			if !strings.Contains(letters[0].Reason, part) {
				t.Errorf("reason %q lacks %q", letters[0].Reason, part)
			}
		}
		if tasks != 3 {
			t.Errorf("%d tasks, want 3", tasks)
		}
		w.wantStop()
	})
}

func TestAPanicThatPassesCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		panics := 1
		w.loop.NewTask = func(int) (worker.Task[text], error) {
			return worker.Decide[text](func(out *worker.Output[text], topic string, r bus.Record) error {
				if panics--; panics == 0 {
					panic("once")
				}
				return keep(out, topic, r)
			}), nil
		}
		w.start()
		w.send("a", "b")
		settle(10 * time.Second)
		w.wantRows("a", "b")
		if l := w.letters(); len(l) != 0 {
			t.Fatalf("dead letters %+v", l)
		}
		w.wantStop()
	})
}

func TestAPanicBesideTheTaskEndsNoOtherWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		panics := 3
		w.loop.Prepare = func(context.Context, *worker.Output[text]) error {
			if panics--; panics >= 0 {
				panic("prepare")
			}
			return nil
		}
		w.start()
		w.send("a")
		settle(10 * time.Second)
		w.wantRows("a")
		w.wantStop()
	})
}

func TestAPublicationThatIsTooLargeIsADeadLetterAndTheOthersKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.log = mem.New(mem.Config{RecordBytesMax: 200, Now: time.Now})
		w.loop.Bus = w.log
		w.loop.NewTask = func(int) (worker.Task[text], error) {
			return worker.Decide[text](func(out *worker.Output[text], topic string, r bus.Record) error {
				if string(r.Value) == "wide" {
					r.Value = []byte(strings.Repeat("w", 300))
				}
				return forward(out, topic, r)
			}), nil
		}
		w.start()
		w.send("a", "b", "wide", "c", "d", "wide", "e")
		settle(time.Second)
		if got := published(w.log, bus.Critical); !slices.Equal(got, []string{"a", "b", "c", "d", "e"}) {
			t.Fatalf("published %q", got)
		}
		letters := w.letters()
		if len(letters) != 2 || !strings.Contains(letters[0].Reason, "publish to critical") || letters[1].Position != "6.0" ||
			len(letters[0].Payload) == 0 {
			t.Fatalf("dead letters %+v", letters)
		}
		w.wantStop()
	})
}

func TestADeadLetterThatCannotBeReadMakesNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.loop.Topics = []string{bus.DeadLetters}
		w.start()
		if err := w.log.Append(t.Context(), bus.PartitionID{Topic: bus.DeadLetters}, []bus.Record{{Value: []byte("bad")}, {Value: []byte("a")}}); err != nil {
			t.Fatal(err)
		}
		settle(time.Minute)
		w.wantRows("a")
		if n := len(w.log.Records(bus.PartitionID{Topic: bus.DeadLetters})); n != 2 {
			t.Fatalf("%d dead letters, want the 2 that were sent", n)
		}
		w.wantStop()
	})
}

func TestAShareThatWasLostBeforeItsWorkCouldBeFinishedIsNoFaultOfTheWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.log = mem.New(mem.Config{Partitions: 2, Now: time.Now})
		w.loop.Bus = w.log
		w.table.before = func(context.Context, store.Commit, []text) error { return errBroken }
		w.start()
		id := bus.PartitionID{Topic: bus.Telemetry, Number: 1} // which goes to the second member
		if err := w.log.Append(t.Context(), id, []bus.Record{{Value: []byte("a")}}); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		second := *w.loop
		second.Bus = w.log.Open()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- second.Run(ctx) }()
		settle(time.Minute)
		w.table.set(func() { w.table.before = nil })
		settle(time.Minute)
		w.wantRows("a")
		w.wantStop()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestABufferingStoreKeepsItsOwnProgress(t *testing.T) {
	w := newTester(t)
	w.loop.Store = &buffer{table: w.table}
	w.loop.ProgressOnBus = true
	if err := w.loop.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "ProgressOnBus") {
		t.Errorf("%v, want that the bus would keep progress that is not on disk", err)
	}
}
