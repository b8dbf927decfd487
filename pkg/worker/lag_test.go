package worker_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/worker"
)

// wantLag holds what the status says against what is known from outside: how old the oldest record is that is not in the store,
// within tolerance, and how many positions of the log that is.
func (w *tester) wantLag(what string, oldest, tolerance time.Duration, behind uint64) {
	w.t.Helper()
	all := w.loop.Metrics.Statuses()
	if len(all) != 1 {
		w.t.Fatalf("%s: %d workers are known, want 1", what, len(all))
	}
	lag := time.Duration(all[0].LagSeconds * float64(time.Second))
	if lag < oldest-tolerance || lag > oldest+tolerance || all[0].Behind != behind {
		w.t.Errorf("%s: lag %v, behind %d; want %v within %v, and %d", what, lag, all[0].Behind, oldest, tolerance, behind)
	}
}

// sendFor appends a record a second.
func (w *tester) sendFor(seconds int) {
	w.t.Helper()
	for range seconds {
		w.send("x")
		settle(time.Second)
	}
}

func TestTheLagIsTrueWhileTheStoreIsDown(t *testing.T) {
	for name, write := range map[string]func(context.Context, store.Commit, []text) error{
		"it refuses": func(context.Context, store.Commit, []text) error { return errors.New("connection refused") },
		"it hangs":   func(ctx context.Context, _ store.Commit, _ []text) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTester(t)
				w.loop.Drain = time.Second
				w.start()
				w.sendFor(10)
				settle(10 * time.Second)
				w.wantLag("all is well", 0, 0, 0)

				w.table.set(func() { w.table.before = write })
				settle(10 * time.Minute) // a pause must not make the first record after it look ten minutes old
				w.send("x")
				settle(5 * time.Second)
				w.wantLag("the first record is not stored", 5*time.Second, 2*time.Second, 1)
				w.sendFor(120)
				w.wantLag("two minutes later", 125*time.Second, 10*time.Second, 121)

				w.table.set(func() { w.table.before = nil })
				if name == "it refuses" {
					settle(40 * time.Second) // a retry and a look
					w.wantLag("it takes again", 0, 0, 0)
					w.wantStop()
				} else {
					_ = w.stop() // what hangs ends with the drain
				}
			})
		})
	}
}

// deaf is a store that cannot even say how far it has come.
type deaf struct{ *table[text] }

func (deaf) Progress(context.Context, string, bus.PartitionID) (bus.Progress, bool, error) {
	return bus.Progress{}, false, errors.New("connection refused")
}

func TestTheLagIsTrueWhereTheStoreIsDownFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.start()
		w.sendFor(20)
		settle(10 * time.Second)
		w.wantStop()
		w.sendFor(300) // nobody reads
		w.loop.Store = deaf{w.table}
		w.start()
		settle(5 * time.Second)
		w.wantLag("after the start", 305*time.Second, 3*time.Second, 300)
		settle(time.Minute)
		w.wantLag("a minute later", 365*time.Second, 3*time.Second, 300)
		w.wantStop()
	})
}

func TestTheLagIsTrueBeforeTheFirstCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.loop.Drain = time.Second
		w.sendFor(300)
		w.table.set(func() {
			w.table.before = func(context.Context, store.Commit, []text) error { return errors.New("connection refused") }
		})
		w.start()
		settle(3 * time.Second)
		w.wantLag("after the start", 303*time.Second, 2*time.Second, 300)
		_ = w.stop()
	})
}

func TestTheLagIsTrueWhileReadingIsBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.start()
		w.sendFor(10)
		settle(10 * time.Minute)
		w.wantLag("all is read", 0, 0, 0)
		wait, mend := context.WithCancel(t.Context())
		w.log.SetFaults(mem.Faults{BeforeRead: func(ctx context.Context, _ bus.PartitionID, _ bus.Position) error {
			select { // it hangs, without any error
			case <-wait.Done():
			case <-ctx.Done():
			}
			return nil
		}})
		w.sendFor(60)
		// The look at the log's end is up to five seconds old, and so is what it knows of the moment when all was read.
		w.wantLag("a minute later", 60*time.Second, 10*time.Second, 60)
		mend()
		settle(10 * time.Second)
		w.wantLag("it reads again", 0, 0, 0)
		w.wantStop()
	})
}

func TestTroubleWithReadingIsOverWhereNothingComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.start()
		w.sendFor(3)
		w.log.SetFaults(mem.Faults{BeforeRead: func(_ context.Context, _ bus.PartitionID, after bus.Position) error {
			return when(after.Seq > 3, func() error { return errors.New("connection refused") })
		}})
		w.send("x") // after which reading breaks, with nothing unread
		settle(time.Second)
		if st := w.loop.Metrics.Statuses(); !strings.Contains(st[0].Retrying, "connection refused") {
			t.Errorf("%+v, want that reading is tried again", st)
		}
		w.log.SetFaults(mem.Faults{})
		settle(time.Minute)
		if st := w.loop.Metrics.Statuses(); st[0].Retrying != "" {
			t.Errorf("%+v, want that all is well again, though nothing came", st)
		}
		w.wantStop()
	})
}

func TestAWorkerThatHasEndedIsShownUntilItRunsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.loop.Metrics.Ended("keeper", errors.New("no such table"))
		down := w.loop.Metrics.Statuses()
		if len(down) != 1 || down[0].Shares != 0 || !strings.Contains(down[0].Retrying, "no such table") {
			t.Errorf("%+v, want that the worker has ended, and why", down)
		}
		w.start()
		settle(time.Second)
		up := w.loop.Metrics.Statuses()
		if i := slices.IndexFunc(up, func(s worker.Status) bool { return s.Retrying != "" || s.Shares == 0 }); len(up) != 1 || i >= 0 {
			t.Errorf("%+v, want one that runs", up)
		}
		w.wantStop()
	})
}
