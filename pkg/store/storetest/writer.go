package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
)

// harness is what the promises of store.Writer are tried on.
type harness[Row any] struct {
	store.Writer[Row]
	row   func(i int) Row        // the i-th of many rows, all different
	count func(t *testing.T) int // how many different rows of row are readable
	crash func(t *testing.T) harness[Row]
	flush func(t *testing.T) // puts what is buffered onto disk; does nothing where writes are durable at once
}

const worker = "storetest"

func partition(n int) bus.PartitionID { return bus.PartitionID{Topic: "telemetry", Number: n} }

func position(seq int) bus.Position { return bus.Position{Seq: uint64(seq), Index: 3} }

// span covers partition n from after one sequence through another, with one origin.
func span(n, after, through int) store.Span {
	s := store.Span{
		Partition: partition(n),
		Through: bus.Progress{
			Through: position(through),
			Origins: bus.Origins{{Partition: int32(n), Position: bus.Position{Seq: uint64(through) * 7}}},
		},
	}
	if after > 0 {
		s.After = position(after)
	}
	return s
}

func commit(spans ...store.Span) store.Commit { return store.Commit{Worker: worker, Spans: spans} }

func rowsOf[Row any](h harness[Row], from, to int) []Row {
	var rows []Row
	for i := from; i < to; i++ {
		rows = append(rows, h.row(i))
	}
	return rows
}

func mustWrite[Row any](t *testing.T, h harness[Row], c store.Commit, rows []Row) {
	t.Helper()
	if err := h.Write(t.Context(), c, rows); err != nil {
		t.Fatalf("write %v: %v", c.Spans, err)
	}
}

func wantCount[Row any](t *testing.T, h harness[Row], want int) {
	t.Helper()
	if got := h.count(t); got != want {
		t.Errorf("%d rows are readable, want %d", got, want)
	}
}

func wantProgress[Row any](t *testing.T, h harness[Row], n, through int) {
	t.Helper()
	got, ok, err := h.Progress(t.Context(), worker, partition(n))
	if err != nil {
		t.Fatalf("progress: %v", err)
	}
	if through == 0 {
		if ok {
			t.Errorf("progress of %v is %v, want none", partition(n), got)
		}
		return
	}
	if want := span(n, 0, through).Through; !ok || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("progress of %v is %v (%v), want %v", partition(n), got, ok, want)
	}
}

// writerPromises are those of store.Writer, the same for every purpose.
func writerPromises[Row any](t *testing.T, open func(t *testing.T) harness[Row]) {
	t.Run("there is no progress before the first write", func(t *testing.T) {
		h := open(t)
		wantProgress(t, h, 0, 0)
		wantCount(t, h, 0)
	})
	t.Run("what was written is readable and its progress kept with its origins", func(t *testing.T) {
		h := open(t)
		mustWrite(t, h, commit(span(0, 0, 5), span(1, 0, 9)), rowsOf(h, 0, 10))
		mustWrite(t, h, commit(span(0, 5, 6)), rowsOf(h, 10, 11))
		h.flush(t)
		wantCount(t, h, 11)
		wantProgress(t, h, 0, 6)
		wantProgress(t, h, 1, 9)
	})
	t.Run("a commit without rows moves the progress", func(t *testing.T) {
		h := open(t)
		mustWrite(t, h, commit(span(0, 0, 5)), nil)
		h.flush(t)
		wantProgress(t, h, 0, 5)
	})
	t.Run("a first write may begin anywhere", func(t *testing.T) {
		h := open(t)
		mustWrite(t, h, commit(span(0, 40, 50)), rowsOf(h, 0, 3))
		h.flush(t)
		wantProgress(t, h, 0, 50)
	})
	t.Run("the same write again changes nothing", func(t *testing.T) {
		h := open(t)
		for range 3 {
			mustWrite(t, h, commit(span(0, 0, 5)), rowsOf(h, 0, 10))
		}
		mustWrite(t, h, commit(span(0, 5, 8)), rowsOf(h, 10, 12))
		mustWrite(t, h, commit(span(0, 5, 8)), rowsOf(h, 10, 12))
		h.flush(t)
		wantCount(t, h, 12)
		wantProgress(t, h, 0, 8)
	})
	t.Run("workers keep separate progress", func(t *testing.T) {
		h := open(t)
		mustWrite(t, h, commit(span(0, 0, 5)), rowsOf(h, 0, 1))
		if _, ok, err := h.Progress(t.Context(), "another", partition(0)); ok || err != nil {
			t.Errorf("another worker has progress (%v, %v)", ok, err)
		}
	})
	t.Run("rows are the caller's again", func(t *testing.T) {
		h := open(t)
		rows := rowsOf(h, 0, 10)
		mustWrite(t, h, commit(span(0, 0, 5)), rows)
		clear(rows)
		h.flush(t)
		wantCount(t, h, 10)
	})
	t.Run("writes of several partitions at once", func(t *testing.T) { concurrentWrites(t, open(t)) })
	fencing(t, open)
	crashes(t, open)
}

func fencing[Row any](t *testing.T, open func(t *testing.T) harness[Row]) {
	fenced := func(t *testing.T, h harness[Row], c store.Commit, rows []Row) {
		t.Helper()
		if err := h.Write(t.Context(), c, rows); !errors.Is(err, store.ErrFenced) {
			t.Errorf("write %v: %v, want ErrFenced", c.Spans, err)
		}
	}
	t.Run("a stale owner is fenced and nothing of its write is there", func(t *testing.T) {
		h := open(t)
		mustWrite(t, h, commit(span(0, 0, 5)), rowsOf(h, 0, 5))
		mustWrite(t, h, commit(span(0, 5, 9)), rowsOf(h, 5, 9)) // the later owner
		fenced(t, h, commit(span(0, 5, 7)), rowsOf(h, 20, 25))
		fenced(t, h, commit(span(0, 12, 14)), rowsOf(h, 20, 25))
		fenced(t, h, commit(span(1, 0, 3), span(0, 5, 7)), rowsOf(h, 20, 25))
		h.flush(t)
		wantCount(t, h, 9)
		wantProgress(t, h, 0, 9)
		wantProgress(t, h, 1, 0)
	})
	t.Run("the right owner goes on after another was fenced", func(t *testing.T) {
		h := open(t)
		mustWrite(t, h, commit(span(0, 0, 5)), rowsOf(h, 0, 5))
		fenced(t, h, commit(span(0, 2, 3)), rowsOf(h, 20, 25))
		mustWrite(t, h, commit(span(0, 5, 6)), rowsOf(h, 5, 6))
		h.flush(t)
		wantCount(t, h, 6)
		wantProgress(t, h, 0, 6)
	})
}

func crashes[Row any](t *testing.T, open func(t *testing.T) harness[Row]) {
	t.Run("what is on disk survives a kill, and the write is repeated harmlessly", func(t *testing.T) {
		h := open(t)
		mustWrite(t, h, commit(span(0, 0, 5)), rowsOf(h, 0, 5))
		mustWrite(t, h, commit(span(0, 5, 9)), rowsOf(h, 5, 9))
		h.flush(t)
		h = h.crash(t)
		wantCount(t, h, 9)
		wantProgress(t, h, 0, 9)
		mustWrite(t, h, commit(span(0, 5, 9)), rowsOf(h, 5, 9))
		mustWrite(t, h, commit(span(0, 9, 12)), rowsOf(h, 9, 12))
		h.flush(t)
		wantCount(t, h, 12)
	})
	t.Run("after a kill rows and progress agree, and reading on from there completes them", func(t *testing.T) {
		h := open(t)
		for i := range 6 {
			mustWrite(t, h, commit(span(0, i, i+1)), rowsOf(h, i*10, i*10+10))
			if i == 2 {
				h.flush(t)
			}
		}
		h = h.crash(t)
		p, _, err := h.Progress(t.Context(), worker, partition(0))
		if err != nil {
			t.Fatalf("progress: %v", err)
		}
		through := int(p.Through.Seq)
		if through < 3 || through > 6 {
			t.Fatalf("progress after the kill is %d, want 3 (flushed) to 6 (written)", through)
		}
		wantCount(t, h, through*10)
		for i := through; i < 6; i++ {
			mustWrite(t, h, commit(span(0, i, i+1)), rowsOf(h, i*10, i*10+10))
		}
		h.flush(t)
		wantCount(t, h, 60)
		wantProgress(t, h, 0, 6)
	})
}

func concurrentWrites[Row any](t *testing.T, h harness[Row]) {
	const partitions, writes, each = 4, 5, 20
	rows := make([][]Row, partitions)
	for p := range partitions {
		rows[p] = rowsOf(h, p*writes*each, (p+1)*writes*each)
	}
	errs := make([]error, partitions)
	var wg sync.WaitGroup
	for p := range partitions {
		wg.Go(func() {
			for i := range writes {
				err := h.Write(t.Context(), commit(span(p, i, i+1)), rows[p][i*each:(i+1)*each])
				errs[p] = errors.Join(errs[p], err)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	h.flush(t)
	wantCount(t, h, partitions*writes*each)
	for p := range partitions {
		wantProgress(t, h, p, writes)
	}
}
