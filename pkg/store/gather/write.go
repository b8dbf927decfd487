package gather

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/parquetfile"
)

// Write implements store.Writer. It returns when the rows are in memory. It waits while MemoryBytes are held, and returns why
// nothing can be closed when that is so: the same write may be repeated later. Rows whose texts are not UTF-8 are refused, and
// then nothing is written: with the progress taken, a crash before they are dead letters would lose them.
//
// A write that starts where the durable rows end, though memory is further, is a new owner's who reads the log again: it takes the
// place of what was in memory of that share.
func (g *Rows) Write(ctx context.Context, commit store.Commit, rows []store.MessageRow) error {
	if err := check(commit); err != nil {
		return err
	}
	for {
		wait, refused, err := g.take(commit, rows)
		if err != nil {
			return err
		}
		if wait == nil {
			if len(refused.Rows) > 0 {
				return refused
			}
			return nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return fmt.Errorf("write history: wait for room in memory: %w", context.Cause(ctx))
		}
	}
}

func check(commit store.Commit) error {
	if len(commit.Spans) == 0 {
		return errors.New("write history: a commit without spans")
	}
	if commit.Checkpoint != nil {
		return errors.New("write history: a checkpoint, which this store cannot keep")
	}
	return nil
}

// take adds rows to their lane, or returns what to wait for.
func (g *Rows) take(commit store.Commit, rows []store.MessageRow) (wait <-chan struct{}, refused *store.Refused, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return nil, nil, ErrClosed
	}
	refused = new(store.Refused)
	switch g.step(commit) {
	case stepRepeat:
		return nil, refused, nil
	case stepFenced:
		return nil, nil, fmt.Errorf("write history: %v after %v: %w", commit.Spans[0].Partition, commit.Spans[0].After, store.ErrFenced)
	case stepRewind:
		if g.closing != nil && g.failure == nil {
			return g.changed, nil, nil // what is being closed may make it a stale one
		}
		if g.closing != nil {
			return nil, nil, fmt.Errorf("write history: begin again at what is durable: %w", g.failure)
		}
		g.rewind(laneOf(commit))
	case stepNext:
	}
	if g.bytes >= g.cfg.MemoryBytes {
		if g.failure != nil {
			return nil, nil, fmt.Errorf("write history: %d bytes are held, and no file can be closed: %w", g.bytes, g.failure)
		}
		return g.changed, nil, nil
	}
	g.append(commit, rows, refused)
	return nil, refused, nil
}

// step is how a commit stands to what is held.
type step int

const (
	stepNext   step = iota // follows what was taken
	stepRepeat             // was taken already
	stepRewind             // follows what is durable, though more was taken
	stepFenced
)

func (g *Rows) step(commit store.Commit) step {
	next, repeat, rewind := true, true, true
	for _, s := range commit.Spans {
		from := Source{commit.Worker, s.Partition}
		held, known := g.held(from)
		next = next && (!known || held.Through == s.After)
		repeat = repeat && known && held.Through == s.Through.Through
		start := g.taken[from].After
		if durable, ok := g.durable[from]; ok {
			start = durable.Through
		}
		rewind = rewind && known && start == s.After
	}
	switch {
	case next:
		return stepNext
	case repeat:
		return stepRepeat
	case rewind:
		return stepRewind
	}
	return stepFenced
}

// held returns how far memory and files together cover a source.
func (g *Rows) held(from Source) (bus.Progress, bool) {
	if t, ok := g.taken[from]; ok {
		return t.Through, true
	}
	if g.closing != nil {
		if t, ok := g.closing.Covers[from]; ok {
			return t.Through, true
		}
	}
	p, ok := g.durable[from]
	return p, ok
}

// rewind drops what memory holds of a lane and is not closing; of all lanes of its worker where a lane of several numbers has a part
// in it.
func (g *Rows) rewind(l Lane) {
	all := l.Number == SeveralNumbers || g.lanes[Lane{l.Worker, SeveralNumbers}] != nil
	drop := func(other Lane) bool { return other == l || all && other.Worker == l.Worker }
	for other, s := range g.lanes {
		if drop(other) {
			g.rows -= s.Rows()
			g.bytes, g.active = g.bytes-s.Size(), g.active-s.Size()
			delete(g.lanes, other)
		}
	}
	for from := range g.taken {
		if drop(from.Lane()) {
			delete(g.taken, from)
		}
	}
	g.announce()
}

func (g *Rows) append(commit store.Commit, rows []store.MessageRow, refused *store.Refused) {
	l := laneOf(commit)
	s := g.lanes[l]
	if s == nil {
		s = parquetfile.NewSegment()
		g.lanes[l] = s
	}
	before, mark := s.Size(), s.Mark()
	for i := range rows {
		if reason := s.Add(&rows[i]); reason != "" {
			refused.Rows = append(refused.Rows, i)
			refused.Reasons = append(refused.Reasons, reason)
		}
	}
	if len(refused.Rows) > 0 {
		s.Back(mark)
		return
	}
	for _, span := range commit.Spans {
		from := Source{commit.Worker, span.Partition}
		t, ok := g.taken[from]
		if !ok {
			t.After = span.After
		}
		t.Through = span.Through.Clone()
		g.taken[from] = t
	}
	grew := s.Size() - before
	g.bytes, g.active = g.bytes+grew, g.active+grew
	g.rows += len(rows)
	g.writes++
	if g.cfg.Grew != nil {
		g.cfg.Grew(g.bytes)
	}
	if g.since.IsZero() {
		g.since = g.cfg.Now()
		g.announce() // the closer must know when it is due
	} else if g.due(g.cfg.Now()) == 0 {
		g.announce()
	}
}
