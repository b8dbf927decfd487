package worker_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
)

// redeliver appends records for workers to Redelivered, as the note at the position n of dead letters would.
func (w *tester) redeliver(n uint64, worker, value string) {
	w.t.Helper()
	again := telemetry.Redelivery{Worker: worker, Topic: bus.Telemetry, Origin: "0.1.0", Letter: "0.1.0", Value: []byte(value)}
	rec := bus.Record{Origin: bus.RedeliveredOrigin(0, bus.Position{Seq: n}), Value: telemetry.AppendRedelivery(nil, &again)}
	if err := w.log.Open().Append(w.t.Context(), bus.PartitionID{Topic: bus.Redelivered}, []bus.Record{rec}); err != nil {
		w.t.Fatal(err)
	}
}

func TestARedeliveredRecordReachesItsWorkerAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.start()
		w.send("a", "b")
		settle(time.Second)
		w.redeliver(1, "keeper", "mended")
		w.redeliver(2, "somebody-else", "not mine")
		settle(time.Second)
		w.wantRows("a", "b", "mended")
		w.wantLetters(0)
		w.wantStop()
	})
}

func TestARedeliveredRecordThatIsAppendedAgainIsTakenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.start()
		w.redeliver(1, "keeper", "one")
		w.redeliver(1, "keeper", "one")
		settle(time.Second)
		w.crash()
		w.start()
		w.redeliver(1, "keeper", "one")
		w.redeliver(2, "keeper", "two")
		settle(time.Second)
		w.wantRows("one", "two")
		w.wantStop()
	})
}

func TestARedeliveredRecordKeepsItsOriginAndTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		var topic string
		var origin bus.Origin
		w.loop.NewTask = func(int) (worker.Task[text], error) {
			return worker.Decide[text](func(_ *worker.Output[text], on string, r bus.Record) error {
				topic, origin = on, r.Origin
				return nil
			}), nil
		}
		w.start()
		w.send("a", "b")
		settle(time.Second)
		w.redeliver(9, "keeper", "one")
		settle(time.Second)
		w.wantStop()
		if want := (bus.Origin{Position: bus.Position{Seq: 1}}); topic != bus.Telemetry || origin != want {
			t.Errorf("topic %s, origin %v, want %s and %v", topic, origin, bus.Telemetry, want)
		}
	})
}

func TestARedeliveredRecordThatIsRefusedAgainIsAnotherLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.start()
		w.send("bad")
		w.redeliver(1, "keeper", "bad")
		settle(time.Second)
		w.wantStop()
		letters := w.letters()
		if len(letters) != 2 || letters[0].Reason == letters[1].Reason || letters[1].Topic != bus.Telemetry || letters[1].Context != `{"origin":"0.1.0"}` {
			t.Errorf("letters %+v", letters)
		}
	})
}

func TestARedeliveredRecordSurvivesAStoreThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		failures := 5
		w.table.before = func(context.Context, store.Commit, []text) error {
			if failures--; failures >= 0 {
				return errors.New("down")
			}
			return nil
		}
		w.start()
		w.redeliver(1, "keeper", "one")
		settle(time.Minute)
		w.wantRows("one")
		w.wantStop()
	})
}
