package elasticsearch_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/elasticsearch"
	"github.com/millrace/millrace/pkg/store/storetest"
)

// until repeats a write as a worker does, until it is taken.
func until(ctx context.Context, write func() error) error {
	for {
		err := write()
		var refused *store.Refused
		if err == nil || errors.Is(err, store.ErrFenced) || errors.As(err, &refused) {
			return err
		}
		pause := time.NewTimer(100 * time.Millisecond)
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-pause.C:
		}
	}
}

// TestKillLosesNothingThatWasAcknowledged kills the server again and again while logs, state and aggregates are written.
func TestKillLosesNothingThatWasAcknowledged(t *testing.T) {
	s := newSite(t, open)
	db := s.open(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	const each, kills = 100, 2
	var logs, windows atomic.Int64
	stop := make(chan struct{})
	writing := func(written *atomic.Int64, write func(step int) error) <-chan error {
		result := make(chan error, 1)
		go func() {
			for step := 0; ; step++ {
				select {
				case <-stop:
					result <- nil
					return
				default:
				}
				if err := until(ctx, func() error { return write(step) }); err != nil {
					result <- err
					return
				}
				written.Add(1)
			}
		}()
		return result
	}
	first := writing(&logs, func(step int) error {
		rows := make([]store.MessageRow, each)
		for i := range rows {
			rows[i] = storetest.LogLine(step*each + i)
		}
		c := commitOf("logs", 1, step, step+1)
		return errors.Join(db.Logs().Write(ctx, c, rows), db.State().Write(ctx, c, rows))
	})
	second := writing(&windows, func(step int) error {
		// The correction was read before the write, and is written as it was read until it is taken: so does worker.Loop.
		return correctOnce(ctx, db, step)
	})
	for range kills {
		before := [2]int64{logs.Load(), windows.Load()}
		waitFor(t, func() bool { return logs.Load() > before[0]+3 && windows.Load() > before[1]+3 })
		s.engine.Kill(t, 1)
		s.engine.Start(t, 1)
	}
	before := logs.Load()
	waitFor(t, func() bool { return logs.Load() > before+3 })
	close(stop)
	if err := errors.Join(<-first, <-second); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, m := range readLogs(t, db) {
		got[m.Text]++
	}
	for i := range int(logs.Load()) * each {
		if n := got[storetest.LogLine(i).Text]; n != 1 {
			t.Fatalf("line %d is there %d times, want once", i, n)
		}
	}
	if len(got) != int(logs.Load())*each {
		t.Errorf("%d lines, want %d", len(got), int(logs.Load())*each)
	}
	wantWindow(t, s.open(t), int(windows.Load()), "after the kills")
}

// correctOnce is one step of a worker that may find the step done: its process was told an error, and the server had it all the same.
func correctOnce(ctx context.Context, db *elasticsearch.DB, step int) error {
	p, _, err := db.Aggregates().Progress(ctx, "aggregator", spanOf(0, 0, 0).Partition)
	if err != nil || int(p.Through.Seq) == step+1 {
		return err
	}
	return correct(ctx, db, step)
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(4 * time.Minute); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("nothing goes on")
		}
	}
}

// TestKillPausedServerIsAnErrorAndNoHang stops the server in its tracks.
func TestKillPausedServerIsAnErrorAndNoHang(t *testing.T) {
	s := newSite(t, open)
	cfg := s.cfg
	db := s.open(t)
	cfg.Timeout = 2 * time.Second
	hasty := openWith(t, cfg)
	row := []store.MessageRow{storetest.LogLine(1)}
	s.engine.Pause(t, 1)
	if err := hasty.Logs().Write(t.Context(), commitOf("w", 0, 0, 1), row); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a server that hangs: %v, want a deadline", err)
	}
	s.engine.Resume(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := until(ctx, func() error { return db.Logs().Write(ctx, commitOf("w", 0, 0, 1), row) }); err != nil {
		t.Error(err)
	}
	if got := len(readLogs(t, db)); got != 1 {
		t.Errorf("%d rows, want 1", got)
	}
}
