package worker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
)

// numbers returns the texts of from to to, with poison in the place of some.
func numbers(from, to int, poison ...int) (sent, good []string) {
	for i := from; i <= to; i++ {
		if slices.Contains(poison, i) {
			sent = append(sent, "poison")
			continue
		}
		sent, good = append(sent, fmt.Sprint(i)), append(good, fmt.Sprint(i))
	}
	return sent, good
}

// wantPoison looks for as many letters of poison, and nothing else, that say a part of the reason.
func (w *tester) wantPoison(n int, says string) {
	w.t.Helper()
	letters := w.letters()
	for _, d := range letters {
		if string(d.Payload) != "poison" || !strings.Contains(d.Reason, says) || d.Worker != "keeper" || d.Topic != bus.Telemetry || d.Position == "" {
			w.t.Errorf("letter %+v", d)
		}
	}
	if len(letters) != n {
		w.t.Fatalf("%d letters, want %d", len(letters), n)
	}
}

var errOdd = errors.New("internal error: assertion failed")

// failPoison fails as an engine does that has met a row of which it makes nothing, and names none.
func failPoison(_ context.Context, _ store.Commit, rows []text) error {
	return when(slices.Contains(rows, "poison"), func() error { return errOdd })
}

func TestARowThatTheStoreCannotWriteIsFoundAndSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.table.before = failPoison
		sent, good := numbers(1, 500, 7, 8, 333)
		w.send(sent...)
		w.start()
		settle(time.Hour)
		w.wantRows(good...)
		w.wantPoison(3, "the store cannot write what comes of it")
		w.wantStop()
	})
}

func TestAStoreThatIsDownSetsNothingAside(t *testing.T) {
	for name, before := range map[string]func(context.Context, store.Commit, []text) error{
		"down":                     func(context.Context, store.Commit, []text) error { return errOdd },
		"down, and poison besides": func(context.Context, store.Commit, []text) error { return errors.New("connection refused") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTester(t)
				w.table.before = before
				sent, good := numbers(1, 50)
				w.send(sent...)
				w.start()
				settle(5 * time.Hour)
				w.wantRows()
				w.wantPoison(0, "")
				w.table.set(func() { w.table.before = nil })
				settle(time.Minute)
				w.wantRows(good...)
				w.wantPoison(0, "")
				w.wantStop()
			})
		})
	}
}

func TestARecordOfWhichACommitPanicsIsFoundAndSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.loop.Prepare = func(_ context.Context, out *worker.Output[text]) error {
			if slices.Contains(out.Rows, "poison") {
				panic("out of range")
			}
			return nil
		}
		sent, good := numbers(1, 100, 40)
		w.send(sent...)
		w.start()
		settle(time.Hour)
		w.wantRows(good...)
		w.wantPoison(1, "the worker panicked on what came of it 4 times: out of range")
		w.wantStop()
	})
}

func TestCommitsThatAlwaysPanicDoNotEmptyTheLogIntoDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.loop.Prepare = func(context.Context, *worker.Output[text]) error { panic("always") }
		sent, _ := numbers(1, 100)
		w.send(sent...)
		w.start()
		settle(5 * time.Hour)
		if n := len(w.letters()); n > 3 {
			t.Errorf("%d letters of records that are not at fault", n)
		}
		if s := w.loop.Metrics.Statuses(); len(s) != 1 || !strings.Contains(s[0].Retrying, "always") {
			t.Errorf("statuses %+v, want the reason", s)
		}
		w.wantStop()
	})
}

func TestARecordFromWhichTheTaskDoesNotComeBackIsADeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		release := make(chan struct{})
		w.loop.NewTask = func(int) (worker.Task[text], error) {
			return worker.Decide[text](func(out *worker.Output[text], topic string, r bus.Record) error {
				if string(r.Value) == "poison" {
					<-release
				}
				return keep(out, topic, r)
			}), nil
		}
		sent, good := numbers(1, 20, 11)
		w.send(sent...)
		w.start()
		settle(10 * time.Minute)
		w.wantRows(good...)
		w.wantPoison(1, "the worker did not come back from it 2 times: nothing for 1m0s")
		if d := w.letters()[0]; !strings.Contains(d.Reason, "care_test.go") {
			t.Errorf("the reason does not say where: %s", d.Reason)
		}
		close(release) // what was given up comes back, without any effect
		settle(time.Minute)
		w.wantRows(good...)
		w.wantStop()
	})
}

// ticking panics in each tick.
type ticking struct{ worker.Decide[text] }

func (ticking) Tick(*worker.Output[text], telemetry.Time, telemetry.Time) { panic("tick") }

func TestATickThatPanicsShowsItsReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.loop.NewTask = func(int) (worker.Task[text], error) { return ticking{keep}, nil }
		w.start()
		w.send("a")
		settle(10 * time.Minute)
		w.wantRows("a")
		shows := func(s []worker.Status) bool { return len(s) == 1 && strings.Contains(s[0].Retrying, "panic: tick") }
		s := w.loop.Metrics.Statuses()
		for range 20 { // a life has its first tick after a second, and shows no reason until then
			if !shows(s) {
				settle(100 * time.Millisecond)
				s = w.loop.Metrics.Statuses()
			}
		}
		if !shows(s) {
			t.Errorf("statuses %+v, want the reason", s)
		}
		w.wantStop()
	})
}
