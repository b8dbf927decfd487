package clickhouse_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/clickhouse"
	"github.com/millrace/millrace/pkg/store/storetest"
	"github.com/millrace/millrace/pkg/telemetry"
)

const worker = "w"

// through is the commit of one partition from after one sequence through another.
func through(after, to int) store.Commit {
	s := store.Span{Partition: bus.PartitionID{Topic: "t"}, Through: bus.Progress{Through: bus.Position{Seq: uint64(to)}}}
	if after > 0 {
		s.After = bus.Position{Seq: uint64(after)}
	}
	return store.Commit{Worker: worker, Spans: []store.Span{s}}
}

func messages(from, to int) []store.MessageRow {
	var rows []store.MessageRow
	for i := from; i < to; i++ {
		rows = append(rows, storetest.Message(i))
	}
	return rows
}

func logLines(from, to int) []store.MessageRow {
	var rows []store.MessageRow
	for i := from; i < to; i++ {
		rows = append(rows, storetest.LogLine(i))
	}
	return rows
}

func letters(from, to int) []store.DeadLetterRow {
	var rows []store.DeadLetterRow
	for i := from; i < to; i++ {
		rows = append(rows, store.DeadLetterRow{
			At:         bus.Origin{Partition: 1, Position: bus.Position{Seq: uint64(i + 1)}},
			DeadLetter: telemetry.DeadLetter{Topic: "t", Reason: "r", ReceivedAt: 1e18, Payload: []byte("x")},
		})
	}
	return rows
}

func window(i int, count uint64, revision uint32, state string) store.AggregateRow {
	return store.AggregateRow{
		Aggregate: telemetry.Aggregate{
			Tenant: "default", DeviceID: "d", ChannelKey: "c", WindowStart: telemetry.Time(1e18 + int64(i)*1e10), WindowLength: 1e10,
			Count: count, Sum: float64(count), Revision: revision, Final: true,
		},
		State: []byte(state), StateUntil: 2e18,
	}
}

// forgetProgress makes the store as a process leaves it that ended between its rows and their progress.
func (h *home) forgetProgress(t *testing.T, name string, after int) {
	t.Helper()
	h.exec(t, fmt.Sprintf("DELETE FROM %s_internal.progress WHERE store = '%s' AND kind = 'progress' AND version > %d", h.cfg.Database, name, int64(after)<<24))
}

func must[Row any](t *testing.T, w store.Writer[Row], c store.Commit, rows []Row) {
	t.Helper()
	if err := w.Write(t.Context(), c, rows); err != nil {
		t.Fatalf("write: %v", err)
	}
}

// recut writes rows 0 to 60, forgets the progress of the last 40, and writes those again in other blocks.
func recut[Row any](t *testing.T, h *home, name, view string, of func(db *clickhouse.DB) store.Writer[Row], rows func(from, to int) []Row, want uint64) {
	t.Helper()
	w := of(h.open(t))
	must(t, w, through(0, 2), rows(0, 20))
	must(t, w, through(2, 4), rows(20, 40))
	must(t, w, through(4, 6), rows(40, 60))
	h.forgetProgress(t, name, 2)
	w = of(h.open(t))
	p, ok, err := w.Progress(t.Context(), worker, bus.PartitionID{Topic: "t"})
	if err != nil || !ok || p.Through.Seq != 2 {
		t.Fatalf("progress is %v (%v, %v), want 2", p, ok, err)
	}
	must(t, w, through(2, 3), rows(20, 31))
	must(t, w, through(3, 5), rows(31, 52))
	must(t, w, through(5, 7), rows(52, 61))
	if n := h.count(t, "SELECT count() FROM "+h.cfg.Database+"."+view); n != want {
		t.Errorf("%s has %d rows, want %d", view, n, want)
	}
	h.exec(t, "OPTIMIZE TABLE "+h.cfg.Database+"_internal."+view+" FINAL")
	if n := h.count(t, "SELECT count() FROM "+h.cfg.Database+"."+view); n != want {
		t.Errorf("%s has %d rows once merged, want %d", view, n, want)
	}
}

func TestRowsWrittenAgainInOtherBlocksAreThereOnce(t *testing.T) {
	protocols(t, func(t *testing.T, h *home) {
		t.Helper()
		t.Run("history", func(t *testing.T) {
			recut(t, h, "history", "device_messages", func(db *clickhouse.DB) store.Writer[store.MessageRow] { return db.History() }, messages, 61)
		})
		t.Run("logs", func(t *testing.T) {
			recut(t, h, "logs", "logs", func(db *clickhouse.DB) store.Writer[store.MessageRow] { return db.Logs() }, logLines, 61)
		})
		t.Run("dead letters", func(t *testing.T) {
			recut(t, h, "dead_letters", "dead_letters", func(db *clickhouse.DB) store.Writer[store.DeadLetterRow] { return db.DeadLetters() }, letters, 61)
		})
		t.Run("state", func(t *testing.T) { // ten devices of seven channels
			recut(t, h, "state", "device_state", func(db *clickhouse.DB) store.Writer[store.MessageRow] { return db.State() }, messages, 61)
		})
		t.Run("aggregates", func(t *testing.T) {
			windows := func(from, to int) []store.AggregateRow {
				var rows []store.AggregateRow
				for i := from; i < to; i++ {
					rows = append(rows, window(i, 1, 1, "s"))
				}
				return rows
			}
			recut(t, h, "aggregates", "aggregates", func(db *clickhouse.DB) store.Writer[store.AggregateRow] { return db.Aggregates() }, windows, 61)
		})
	})
}

func TestABlockThatIsThereIsDroppedByItsToken(t *testing.T) {
	protocols(t, func(t *testing.T, h *home) {
		t.Helper()
		must(t, h.open(t).History(), through(0, 2), messages(0, 20))
		h.forgetProgress(t, "history", 0)
		must(t, h.open(t).History(), through(0, 2), messages(0, 20))
		stored := "SELECT count() FROM " + h.cfg.Database + "_internal.device_messages"
		if n := h.count(t, stored); n != 20 {
			t.Errorf("the table has %d rows, want 20: nothing for FINAL to do", n)
		}
		h.forgetProgress(t, "history", 0)
		must(t, h.open(t).History(), through(0, 2), append(messages(0, 19), messages(30, 31)...)) // as after a row was refused
		if n := h.count(t, "SELECT count() FROM "+h.cfg.Database+".device_messages"); n != 21 {
			t.Errorf("%d rows are readable, want 21: other rows of the same range are not dropped", n)
		}
	})
}

// TestADeadlineAmidAWriteLosesNothing cuts writes short at all moments: the outcome is unknown, and repeating them is enough.
func TestADeadlineAmidAWriteLosesNothing(t *testing.T) {
	protocols(t, func(t *testing.T, h *home) {
		t.Helper()
		w := h.open(t).History()
		const size, writes = 5000, 4
		cut := 0
		for i := range writes {
			rows := messages(i*size, (i+1)*size)
			for attempt := 1; ; attempt++ {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(attempt*attempt)*8*time.Millisecond)
				err := w.Write(ctx, through(i, i+1), rows)
				cancel()
				if err == nil {
					break
				}
				cut++
				if attempt > 200 || errors.Is(err, store.ErrFenced) {
					t.Fatalf("write %d, attempt %d: %v", i, attempt, err)
				}
			}
		}
		t.Logf("%d attempts were cut short", cut)
		if cut == 0 {
			t.Error("no write was cut short: nothing was tried")
		}
		if n := h.count(t, "SELECT count() FROM "+h.cfg.Database+".device_messages"); n != size*writes {
			t.Errorf("%d rows are readable, want %d", n, size*writes)
		}
	})
}

func TestAWindowOfAWriteThatWasCutShortIsNotCorrected(t *testing.T) {
	protocols(t, func(t *testing.T, h *home) {
		t.Helper()
		w := h.open(t).Aggregates()
		must(t, w, through(0, 2), []store.AggregateRow{window(0, 5, 1, "five")})
		must(t, w, through(2, 4), []store.AggregateRow{window(0, 6, 2, "six"), window(1, 1, 1, "new")})
		keys := []store.WindowKey{
			{Tenant: "default", DeviceID: "d", ChannelKey: "c", WindowStart: 1e18, WindowLength: 1e10},
			{Tenant: "default", DeviceID: "d", ChannelKey: "c", WindowStart: 1e18 + 1e10, WindowLength: 1e10},
		}
		want := func(w store.AggregateWriter, counts ...uint64) {
			t.Helper()
			rows, err := w.Windows(t.Context(), keys)
			if err != nil {
				t.Fatal(err)
			}
			for i, n := range counts {
				if rows[i].Count != n || n > 0 && len(rows[i].State) == 0 {
					t.Errorf("window %d has count %d and state %q, want %d", i, rows[i].Count, rows[i].State, n)
				}
			}
		}
		want(w, 6, 1)
		h.forgetProgress(t, "aggregates", 2)
		w = h.open(t).Aggregates()
		want(w, 5, 0)
		must(t, w, through(2, 5), []store.AggregateRow{window(0, 7, 2, "seven"), window(1, 2, 1, "newer")})
		want(w, 7, 2)
		if n := h.count(t, "SELECT toUInt64(sum(count)) FROM "+h.cfg.Database+".aggregates"); n != 9 {
			t.Errorf("the windows count %d, want 9", n)
		}
	})
}

func TestAZombieChangesNothing(t *testing.T) {
	protocols(t, func(t *testing.T, h *home) {
		t.Helper()
		zombie, owner := h.open(t).Aggregates(), h.open(t).Aggregates()
		with := func(c store.Commit, state string) store.Commit {
			c.Task, c.Checkpoint = "0", []byte(state)
			return c
		}
		must(t, zombie, with(through(0, 2), "two"), []store.AggregateRow{window(0, 5, 1, "five")})
		if _, _, err := owner.Progress(t.Context(), worker, bus.PartitionID{Topic: "t"}); err != nil {
			t.Fatal(err)
		}
		must(t, owner, with(through(2, 6), "six"), []store.AggregateRow{window(0, 9, 2, "nine")})
		must(t, zombie, with(through(2, 4), "four"), []store.AggregateRow{window(0, 7, 2, "seven")}) // it knows no better
		after := h.open(t).Aggregates()
		p, _, err := after.Progress(t.Context(), worker, bus.PartitionID{Topic: "t"})
		if err != nil || p.Through.Seq != 6 {
			t.Errorf("progress is %v (%v), want 6", p, err)
		}
		state, _, err := after.Checkpoint(t.Context(), worker, "0")
		if err != nil || !bytes.Equal(state, []byte("six")) {
			t.Errorf("checkpoint is %q (%v), want six", state, err)
		}
		if n := h.count(t, "SELECT toUInt64(sum(count)) FROM "+h.cfg.Database+".aggregates"); n != 9 {
			t.Errorf("the window counts %d, want 9", n)
		}
		if _, _, err := zombie.Progress(t.Context(), worker, bus.PartitionID{Topic: "t"}); err != nil {
			t.Fatal(err)
		}
		if err := zombie.Write(t.Context(), through(4, 5), nil); !errors.Is(err, store.ErrFenced) {
			t.Errorf("once it has looked: %v, want ErrFenced", err)
		}
	})
}

func TestACheckpointAheadOfTheProgressIsRefused(t *testing.T) {
	protocols(t, func(t *testing.T, h *home) {
		t.Helper()
		slow, other := h.open(t).Aggregates(), h.open(t).Aggregates()
		with := func(c store.Commit, state string) store.Commit {
			c.Task, c.Checkpoint = "0", []byte(state)
			return c
		}
		must(t, other, with(through(0, 2), "two"), nil)
		if _, _, err := slow.Progress(t.Context(), worker, bus.PartitionID{Topic: "t"}); err != nil {
			t.Fatal(err)
		}
		must(t, other, with(through(2, 4), "four"), nil)
		if state, _, err := slow.Checkpoint(t.Context(), worker, "0"); !errors.Is(err, store.ErrFenced) {
			t.Errorf("checkpoint is %q (%v), want ErrFenced", state, err)
		}
	})
}
