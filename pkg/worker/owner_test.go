package worker_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
)

// teller is a task with a state that publishes what it makes of a record: who it is, and the record.
type teller struct {
	name string
	seen int
}

func (s *teller) Add(out *worker.Output[text], _ string, r bus.Record) error {
	s.seen++
	out.Rows = append(out.Rows, s.name+" "+string(r.Value))
	out.Publish = append(out.Publish,
		worker.Publication{Topic: bus.Aggregates, Record: bus.Record{Value: []byte(s.name + " " + string(r.Value))}},
		worker.Publication{Topic: bus.Alarms, Record: bus.Record{Value: []byte("passing")}, Passing: true})
	return nil
}

func (s *teller) Tick(*worker.Output[text], telemetry.Time, telemetry.Time) {}

func (s *teller) Snapshot(dst []byte) ([]byte, error) {
	return strconv.AppendInt(dst, int64(s.seen), 10), nil
}

func (s *teller) Restore(state []byte) (err error) {
	s.seen, err = strconv.Atoi(string(state))
	return err
}

func newTeller(t *testing.T, name string) *tester {
	t.Helper()
	w := newTester(t)
	w.loop.Checkpoints = w.table
	w.loop.NewTask = func(int) (worker.Task[text], error) { return &teller{name: name}, nil }
	return w
}

func said(w *tester, topic string) (all []string) {
	for _, r := range w.log.Records(bus.PartitionID{Topic: topic}) {
		all = append(all, string(r.Value))
	}
	return all
}

func TestWhatATaskWithAStatePublishesIsPublishedOnlyOnceItIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTeller(t, "a")
		w.log.SetFaults(mem.Faults{BeforeAppend: func(_ context.Context, id bus.PartitionID, _ []bus.Record) error {
			if id.Topic == bus.Aggregates {
				return errors.New("the log cannot be reached")
			}
			return nil
		}})
		w.start()
		w.send("1")
		settle(time.Second)
		w.crash()
		w.log.SetFaults(mem.Faults{})
		w.wantRows("a 1")
		if got := said(w, bus.Aggregates); len(got) != 0 {
			t.Fatalf("published %q before the crash", got)
		}
		w.start()
		settle(time.Second)
		if got := said(w, bus.Aggregates); !slices.Equal(got, []string{"a 1"}) {
			t.Fatalf("published %q, want what the last commit covers", got)
		}
		w.wantRows("a 1")
		w.wantStop()
	})
}

func TestAZombieWhoseWriteAnotherOwnerHasMadePublishesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTeller(t, "zombie")
		w.start()
		w.send("1")
		settle(time.Second)
		telemetry0 := bus.PartitionID{Topic: bus.Telemetry}
		w.table.set(func() {
			w.table.before = func(context.Context, store.Commit, []text) error {
				w.table.set(func() { // meanwhile the next owner writes the same record
					w.table.progress[telemetry0] = bus.Progress{Through: bus.Position{Seq: 2}}
					w.table.progress[bus.PartitionID{Topic: "state"}] = bus.Progress{Through: bus.Position{Seq: 2, Index: 4}}
					w.table.checkpoints["0"], w.table.before = []byte("2"), nil
				})
				return nil
			}
		})
		w.send("2")
		settle(time.Second)
		if got := said(w, bus.Aggregates); !slices.Equal(got, []string{"zombie 1"}) {
			t.Errorf("published %q", got)
		}
		w.wantStop()
	})
}
