package gather

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/millrace/millrace/pkg/store/parquetfile"
)

const never = time.Duration(math.MaxInt64)

// due returns how long the rows in memory may wait to be closed; 0 means not at all. Locked.
func (g *Rows) due(now time.Time) time.Duration {
	switch {
	case g.flush > g.through && !g.since.IsZero():
		return 0
	case g.since.IsZero():
		return never
	case g.rows >= g.cfg.Rows, g.active >= g.cfg.Bytes:
		return 0
	}
	return max(0, g.since.Add(g.cfg.Age).Sub(now))
}

// CloseLoop gives what is due to put, one batch at a time, while new rows gather for the next, until ctx ends. put makes the
// batch durable and calls Settle; where it returns an error it is called again with the same batch.
func (g *Rows) CloseLoop(ctx context.Context, put func(context.Context, *Batch) error) {
	for {
		b := g.nextBatch(ctx)
		if b == nil {
			return
		}
		for pause := 100 * time.Millisecond; ; pause = min(2*pause, 10*time.Second) {
			err := put(ctx, b)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return
			}
			g.failed(err)
			if !Rest(ctx, pause) {
				return
			}
		}
	}
}

// Rest waits for d; false means that ctx ended.
func Rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// nextBatch waits until rows are due and takes them; nil means that ctx ended.
func (g *Rows) nextBatch(ctx context.Context) *Batch {
	for {
		g.mu.Lock()
		wait := g.due(g.cfg.Now())
		if wait == 0 {
			b := g.seal()
			g.mu.Unlock()
			return b
		}
		changed := g.changed
		g.mu.Unlock()
		timer := time.NewTimer(min(wait, time.Hour))
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
}

// seal makes a batch of everything in memory; locked, and nothing is closing.
func (g *Rows) seal() *Batch {
	b := &Batch{Segments: map[Lane]*parquetfile.Segment{}, Covers: g.taken, Rows: g.rows, bytes: g.active, writes: g.writes}
	g.taken = map[Source]Taken{}
	for lane, s := range g.lanes {
		delete(g.lanes, lane) // an idle lane costs nothing
		if s.Rows() > 0 {
			b.Segments[lane] = s
		} else {
			b.bytes -= s.Size()
			g.bytes -= s.Size()
		}
	}
	g.closing, g.active, g.rows, g.since = b, 0, 0, time.Time{}
	return b
}

func (g *Rows) failed(err error) {
	if g.cfg.Failed != nil {
		g.cfg.Failed(err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failure = err
	g.attempts++
	g.announce()
}

// Flush implements store.Buffered: it returns when everything that was written before the call is durable, or with the reason
// when a close went wrong since. That is tried again in the background all the same.
func (g *Rows) Flush(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	want, attempts := g.writes, g.attempts
	g.flush = max(g.flush, want)
	g.announce()
	for g.through < want {
		switch {
		case g.stopped:
			return ErrClosed
		case g.attempts != attempts && g.failure != nil:
			return fmt.Errorf("flush history: %w", g.failure)
		case g.attempts != attempts:
			return errors.New("flush history: a close went wrong")
		}
		if err := g.wait(ctx); err != nil {
			return fmt.Errorf("flush history: %w", err)
		}
	}
	return nil
}

// wait waits for a change; locked, but not meanwhile.
func (g *Rows) wait(ctx context.Context) error {
	changed := g.changed
	g.mu.Unlock()
	defer g.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
