package worker_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
)

// clock is a task with a state that remembers what time it was told.
type clock struct{ now, through telemetry.Time }

func (*clock) Add(*worker.Output[text], string, bus.Record) error { return nil }

func (c *clock) Tick(_ *worker.Output[text], now, through telemetry.Time) {
	c.now, c.through = now, through
}

func (*clock) Snapshot(dst []byte) ([]byte, error) { return dst, nil }
func (*clock) Restore([]byte) error                { return nil }

func TestATasksClockGoesNoFurtherThanWhatUpstreamHasPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		told := new(clock)
		w.loop.Checkpoints = w.table
		w.loop.NewTask = func(int) (worker.Task[text], error) { return told, nil }
		w.loop.Upstream = []worker.Upstream{{Group: bus.Router, Topic: bus.Ingested}}
		handle := w.log.Open()
		ingest := func(seq uint64) {
			rec := bus.Record{Value: []byte("m"), Origin: bus.Origin{Position: bus.Position{Seq: seq}}}
			if err := handle.Append(t.Context(), bus.PartitionID{Topic: bus.Ingested}, []bus.Record{rec}); err != nil {
				t.Fatal(err)
			}
		}
		route := func(through bus.Position) {
			ctx, stop := context.WithCancel(t.Context())
			err := handle.Subscribe(ctx, bus.Router, []string{bus.Ingested}, func(_ context.Context, s bus.Share) error {
				stop()
				return s.Partitions[0].Commit(t.Context(), bus.Progress{Through: through})
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		lag := func() time.Duration {
			synctest.Wait()
			return told.now.Sub(told.through)
		}
		w.start()
		settle(10 * time.Second)
		if lag() != 0 {
			t.Errorf("with nothing upstream its clock is %v behind", lag())
		}

		ingest(1)
		settle(time.Minute)
		if got := lag(); got < 59*time.Second || got > 61*time.Second {
			t.Errorf("a minute after a message that was not routed its clock is %v behind", got)
		}
		ingest(2)
		settle(time.Minute)
		route(bus.Position{Seq: 1}) // of two: what came a minute ago is known to be here, what came then is not
		settle(10 * time.Second)
		if got := lag(); got < 69*time.Second || got > 131*time.Second {
			t.Errorf("with one message of two routed its clock is %v behind, want what came before the second", got)
		}
		route(bus.Position{Seq: 2})
		settle(10 * time.Second)
		if lag() != 0 {
			t.Errorf("when all is routed its clock is %v behind", lag())
		}
		if told.through == 0 {
			t.Error("it was never told that all is here")
		}
		w.wantStop()
	})
}

func TestAnUpstreamThatIsNoTopicIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.loop.Upstream = []worker.Upstream{{Group: bus.Router, Topic: "nothing"}}
		w.start()
		settle(time.Second)
		if err := w.stop(); !errors.Is(err, bus.ErrUnknownTopic) {
			t.Errorf("%v, want bus.ErrUnknownTopic", err)
		}
	})
}
