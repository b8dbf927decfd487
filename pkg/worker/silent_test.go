package worker_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/worker"
)

func TestWhatMakesNoRowIsCommittedSeldomAndARowIsNotKeptWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.loop.NewTask = func(int) (worker.Task[text], error) {
			return worker.Decide[text](func(out *worker.Output[text], _ string, r bus.Record) error {
				if string(r.Value) == "row" {
					out.Rows = append(out.Rows, "row")
				}
				return nil
			}), nil
		}
		w.start()
		const seconds, aSecond = 20, 10
		for range seconds * aSecond {
			w.send("nothing")
			settle(time.Second / aSecond)
		}
		if got, want := w.table.commitCount(), seconds/2; got < want-1 || got > want+1 {
			t.Errorf("%d commits in %d s without a row, want one every 2 s", got, seconds)
		}
		w.send("row")
		settle(250 * time.Millisecond)
		w.wantRows("row")
		w.send("nothing")
		settle(2500 * time.Millisecond)
		progress, _, err := w.table.Progress(t.Context(), "", bus.PartitionID{Topic: bus.Telemetry})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := progress.Through.Seq, w.next; got != want {
			t.Errorf("progress through %d, want %d: what makes no row is still taken", got, want)
		}
		w.wantStop()
	})
}
