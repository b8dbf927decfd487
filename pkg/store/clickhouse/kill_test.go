package clickhouse_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/enginetest"
	"github.com/millrace/millrace/pkg/store"
)

const recovery = 4 * time.Minute // of a server that was killed, on a machine that is busy

// TestKillTheServerAmidWrites kills and starts the server while a worker writes, which repeats whatever ended with an error.
func TestKillTheServerAmidWrites(t *testing.T) {
	e := enginetest.Need(t, "clickhouse")
	protocols(t, func(t *testing.T, h *home) {
		t.Helper()
		w := h.open(t).History()
		const size, writes = 2000, 30
		var at atomic.Int64
		done := make(chan error, 1)
		go func() {
			for i := range writes {
				if err := insist(t.Context(), w, through(i, i+1), messages(i*size, (i+1)*size)); err != nil {
					done <- err
					return
				}
				at.Store(int64(i + 1))
			}
			done <- nil
		}()
		for _, when := range []int64{5, 12} {
			for at.Load() < when {
				select {
				case err := <-done:
					t.Fatalf("the writer ended before %d: %v", when, err)
				case <-time.After(time.Millisecond):
				}
			}
			e.Kill(t, 1)
			e.Start(t, 1)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if n := h.count(t, "SELECT count() FROM "+h.cfg.Database+".device_messages"); n != size*writes {
			t.Errorf("%d rows are readable, want %d", n, size*writes)
		}
		p, _, err := h.open(t).History().Progress(t.Context(), worker, bus.PartitionID{Topic: "t"})
		if err != nil || p.Through.Seq != writes {
			t.Errorf("progress is %v (%v), want %d", p, err, writes)
		}
	})
}

// TestKillNothingButHang stops the server for longer than a statement may take.
func TestKillNothingButHang(t *testing.T) {
	e := enginetest.Need(t, "clickhouse")
	protocols(t, func(t *testing.T, h *home) {
		t.Helper()
		h.cfg.Timeout = time.Second
		w := h.open(t).History()
		must(t, w, through(0, 1), messages(0, 100))
		e.Pause(t, 1)
		err := w.Write(t.Context(), through(1, 2), messages(100, 200))
		e.Resume(t, 1)
		if err == nil || errors.Is(err, store.ErrFenced) {
			t.Errorf("write to a server that hangs: %v, want an error that is tried again", err)
		}
		if err := insist(t.Context(), w, through(1, 2), messages(100, 200)); err != nil {
			t.Fatal(err)
		}
		if n := h.count(t, "SELECT count() FROM "+h.cfg.Database+".device_messages"); n != 200 {
			t.Errorf("%d rows are readable, want 200", n)
		}
	})
}

// insist writes until it is done, as a worker's loop does.
func insist(ctx context.Context, w store.HistoryWriter, c store.Commit, rows []store.MessageRow) error {
	ctx, cancel := context.WithTimeout(ctx, recovery)
	defer cancel()
	for {
		err := w.Write(ctx, c, rows)
		if err == nil || errors.Is(err, store.ErrFenced) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}
