package worker_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
)

func noHuge(row text) string {
	if row == "huge" {
		return "value out of range"
	}
	return ""
}

func (w *tester) wantLetters(want int) {
	w.t.Helper()
	letters := w.letters()
	if len(letters) != want {
		w.t.Fatalf("%d dead letters, want %d", len(letters), want)
	}
	for _, d := range letters {
		if string(d.Payload) != `"huge"` || d.Reason != "store: value out of range" {
			w.t.Fatalf("dead letter %+v", d)
		}
	}
}

func TestARowThatTheStoreRefusesIsADeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.table.refuse = noHuge
		w.start()
		w.send("a", "huge", "b")
		settle(time.Second)
		w.wantRows("a", "b")
		w.wantLetters(1)
		w.wantStop()
	})
}

func TestACrashOnARefusalLosesNoDeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.table.refuse = noHuge
		log := w.log
		w.table.after = func(context.Context, store.Commit, []text) error {
			log.Crash() // between the refusal and whatever follows from it
			return nil
		}
		w.start()
		w.send("a", "huge", "b")
		settle(time.Second)
		_ = w.stop()
		w.table.set(func() { w.table.after = nil })
		w.log = w.log.Open()
		w.loop.Bus = w.log
		w.start()
		settle(time.Second)
		w.wantRows("a", "b")
		w.wantLetters(1)
		w.wantStop()
	})
}

func TestARefusalInAWriteOfUnknownOutcomeIsADeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.table.refuse = noHuge
		failures := 3
		w.table.after = func(context.Context, store.Commit, []text) error {
			if failures--; failures >= 0 {
				return errBroken
			}
			return nil
		}
		w.start()
		w.send("a", "huge", "b")
		settle(10 * time.Second)
		w.wantRows("a", "b")
		w.wantLetters(1)
		w.wantStop()
	})
}

// narrow is a store that learns of a refusal only while it writes, and then has the other rows already.
type narrow struct {
	*table[text]
	has map[text]bool
}

func (s *narrow) Write(ctx context.Context, commit store.Commit, rows []text) error {
	var fresh []text
	var refused store.Refused
	for i, row := range rows {
		switch reason := noHuge(row); {
		case reason != "":
			refused.Rows, refused.Reasons = append(refused.Rows, i), append(refused.Reasons, reason)
		case !s.has[row]:
			s.has[row] = true
			fresh = append(fresh, row)
		}
	}
	s.set(func() { s.rows = append(s.rows, fresh...) })
	if len(refused.Rows) > 0 {
		return &refused
	}
	return s.table.Write(ctx, commit, nil)
}

func TestAfterARefusalTheOthersAreWrittenUnderTheSameCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.loop.Store = &narrow{w.table, map[text]bool{}}
		w.start()
		w.send("huge", "a", "huge", "b", "huge")
		settle(time.Second)
		w.wantRows("a", "b")
		w.wantLetters(3)
		if n := w.table.commitCount(); n != 1 {
			t.Fatalf("%d commits, want 1", n)
		}
		w.wantStop()
	})
}

func TestDeadLettersOfRefusedRowsWaitForAFullLogBeforeTheWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.table.refuse = noHuge
		w.log.SetFaults(mem.Faults{BeforeAppend: func(_ context.Context, id bus.PartitionID, _ []bus.Record) error {
			return when(id.Topic == bus.DeadLetters, func() error { return bus.ErrFull })
		}})
		w.start()
		w.send("a", "huge")
		settle(time.Minute)
		w.wantRows()
		w.log.SetFaults(mem.Faults{})
		settle(time.Minute)
		w.wantRows("a")
		w.wantLetters(1)
		w.wantStop()
	})
}

func TestLettersOfRefusedRowsWithoutAnOriginAreNotTakenForOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		sessions := newTable[store.MessageRow]()
		sessions.refuse = func(store.MessageRow) string { return "too odd" }
		loop := worker.Loop[store.MessageRow]{
			Worker: "sessions", Topics: []string{bus.Sessions}, Bus: w.log, Store: sessions, Now: time.Now,
			NewTask: func(int) (worker.Task[store.MessageRow], error) {
				return worker.Decide[store.MessageRow](func(out *worker.Output[store.MessageRow], _ string, r bus.Record) error {
					out.Rows = append(out.Rows, store.MessageRow{Message: telemetry.Message{DeviceID: string(r.Value)}, Origin: r.Origin})
					return nil
				}), nil
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- loop.Run(ctx) }()
		recs := []bus.Record{{Value: []byte("one")}, {Value: []byte("two")}, {Value: []byte("three"), Origin: bus.Origin{Position: bus.Position{Seq: 7}}}}
		if err := w.log.Append(ctx, bus.PartitionID{Topic: bus.Sessions}, recs); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		want := []struct{ device, topic, position string }{
			{"one", bus.Sessions, ""}, {"two", bus.Sessions, ""}, {"three", bus.Ingested, "7.0"},
		}
		for i, d := range w.letters() { // one that names a position is stored once for each reason
			if i >= len(want) || d.DeviceID != want[i].device || d.Topic != want[i].topic || d.Position != want[i].position {
				t.Errorf("dead letter %d: device %q, topic %s, position %q", i, d.DeviceID, d.Topic, d.Position)
			}
		}
	})
}
