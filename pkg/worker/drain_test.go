package worker_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/store"
)

// startInHand starts a worker that has written a, and has b in hand.
func (w *tester) startInHand() {
	w.t.Helper()
	w.loop.CommitEvery = time.Hour
	w.start()
	w.send("a")
	settle(time.Second)
	w.send("b")
	settle(time.Second)
	w.wantRows("a")
}

func TestADrainFinishesWhatIsInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.startInHand()
		w.table.set(func() { // slow, but within the Drain
			w.table.before = func(ctx context.Context, _ store.Commit, _ []text) error {
				<-time.After(5 * time.Second)
				return ctx.Err()
			}
		})
		w.wantStop()
		w.wantRows("a", "b")
		if at := w.committed(); at != (bus.Position{Seq: 2}) {
			t.Fatalf("committed %v on the bus, want 2.0", at)
		}
	})
}

func TestADrainDoesNotWaitOutThePauseAfterAnOutageThatIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.table.before = func(context.Context, store.Commit, []text) error { return errBroken }
		w.start()
		w.send("a")
		settle(2 * time.Minute) // the pauses are long by now
		w.table.set(func() { w.table.before = nil })
		began := time.Now()
		w.wantStop()
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the drain took %v", took)
		}
		w.wantRows("a")
	})
}

func TestADrainThatCannotFinishSaysWhyAndEnds(t *testing.T) {
	for told, most := range map[time.Duration]time.Duration{0: 21 * time.Second, 48 * time.Second: 49 * time.Second} {
		t.Run(told.String(), func(t *testing.T) { drainThatCannotFinish(t, told, most) })
	}
}

func drainThatCannotFinish(t *testing.T, told, most time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.loop.Metrics.DrainWithin(told)
		w.table.before = func(context.Context, store.Commit, []text) error { return errBroken }
		w.start()
		w.send("a")
		settle(time.Second)
		began := time.Now()
		err := w.stop()
		if took := time.Since(began); !errors.Is(err, errBroken) || took > most || took < most-2*time.Second {
			t.Fatalf("stop after %v: %v", time.Since(began), err)
		}
	})
}

// The group was dealt anew while the worker drained: there is nothing that it could still do, and nothing that is not done.
func TestADrainWhoseShareIsAnothersByNowIsACleanEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.startInHand()
		w.log.SetFaults(mem.Faults{BeforeCommit: func(context.Context, string, bus.PartitionID, bus.Progress) error { return bus.ErrLost }})
		began := time.Now()
		w.wantStop()
		if took := time.Since(began); took > time.Second {
			t.Errorf("the drain took %v", took)
		}
		w.wantRows("a", "b")
	})
}

// A process takes context.Canceled after a signal for a clean end, and a write that was cut short is none.
func TestADrainThatWasCutShortIsNoCleanEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.table.before = func(ctx context.Context, _ store.Commit, _ []text) error { <-ctx.Done(); return ctx.Err() }
		w.start()
		w.send("a")
		settle(time.Second)
		if err := w.stop(); err == nil || errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "not all was finished") {
			t.Fatalf("stop: %v, want an error that is not context.Canceled", err)
		}
	})
}
