package mem

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
)

// segments is history that a process holds in memory until a flush.
type segments struct {
	store *Store

	flushing chan struct{} // of size 1: one flush at a time. It is no mutex, since a bubble's time stands still while one is waited for

	mu     sync.Mutex
	held   map[progressKey]*segment
	fenced map[progressKey]bool // dropped by a flush, which the owner has not heard of yet
}

// lane is what is flushed together: the partitions of one share.
type lane struct {
	worker string
	share  int
}

// segment is what is held of one partition for one worker: a run that follows what is on disk.
type segment struct {
	span store.Span
	rows []store.MessageRow
}

var _ store.HistoryWriter = (*segments)(nil)

// Write implements store.Writer.
func (h *segments) Write(ctx context.Context, commit store.Commit, rows []store.MessageRow) error {
	if err := h.write(ctx, &commit, rows); err != nil {
		return fmt.Errorf("write %s: %w", TableSegments, err)
	}
	return nil
}

func (h *segments) write(ctx context.Context, commit *store.Commit, rows []store.MessageRow) error {
	c := Call{Table: TableSegments, Op: OpWrite, Worker: commit.Worker, Task: commit.Task, Spans: commit.Spans, Rows: len(rows)}
	if err := h.store.before(ctx, c); err != nil {
		return err
	}
	f, err := h.store.current()
	if err != nil {
		return err
	}
	if commit.Checkpoint != nil {
		return ErrCheckpoint
	}
	if err := refused(f, TableSegments, rows); err != nil {
		return err
	}
	if err := h.hold(commit, rows); err != nil {
		return err
	}
	return h.store.after(ctx, c)
}

// hold fences against what is held, else against what is on disk. The rows of a commit of several partitions lie with its first.
func (h *segments) hold(commit *store.Commit, rows []store.MessageRow) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, span := range commit.Spans {
		if h.overtaken(progressKey{commit.Worker, span.Partition}) {
			return fmt.Errorf("%v: what was held has been dropped: %w", span.Partition, store.ErrFenced)
		}
	}
	done, err := store.Fence(commit.Spans, func(id bus.PartitionID) (bus.Progress, bool) {
		if s := h.held[progressKey{commit.Worker, id}]; s != nil {
			return s.span.Through, true
		}
		return h.store.disk.segments.stored(commit.Worker, id)
	})
	if done || err != nil {
		return err
	}
	if h.held == nil {
		h.held = make(map[progressKey]*segment)
	}
	for i, span := range commit.Spans {
		key := progressKey{commit.Worker, span.Partition}
		s := h.held[key]
		if s == nil {
			s = &segment{span: store.Span{Partition: span.Partition, After: span.After}}
			h.held[key] = s
		}
		s.span.Through = span.Through.Clone()
		if i > 0 {
			continue
		}
		for j := range rows {
			s.rows = append(s.rows, cloneMessage(&rows[j]))
		}
	}
	return nil
}

// overtaken says once of what a flush has dropped that it did; h.mu is held.
func (h *segments) overtaken(key progressKey) bool {
	if !h.fenced[key] {
		return false
	}
	for other := range h.fenced { // its owner begins again with the whole share
		if other.worker == key.worker && other.id.Number == key.id.Number {
			delete(h.fenced, other)
		}
	}
	return true
}

// Progress implements store.Writer: what is on disk.
func (h *segments) Progress(ctx context.Context, worker string, id bus.PartitionID) (bus.Progress, bool, error) {
	if err := h.store.before(ctx, Call{Table: TableSegments, Op: OpProgress, Worker: worker}); err != nil {
		return bus.Progress{}, false, fmt.Errorf("read the progress of %s in %s: %w", worker, TableSegments, err)
	}
	p, ok := h.store.disk.segments.stored(worker, id)
	return p, ok, nil
}

// Flush implements store.Buffered: what is held of each share becomes one write. What another owner has overtaken is dropped, with
// store.ErrFenced, which the owner's next write of the share is told too.
func (h *segments) Flush(ctx context.Context) error {
	select {
	case h.flushing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-h.flushing }()
	h.mu.Lock()
	held := h.held
	lanes := make(map[lane]bool)
	for key := range held {
		lanes[lane{key.worker, key.id.Number}] = true
	}
	h.mu.Unlock()
	var errs []error
	for _, l := range slices.SortedFunc(maps.Keys(lanes), func(a, b lane) int {
		return cmp.Or(cmp.Compare(a.worker, b.worker), cmp.Compare(a.share, b.share))
	}) {
		if err := h.flush(ctx, l); err != nil {
			errs = append(errs, fmt.Errorf("flush %s of %s, share %d: %w", TableSegments, l.worker, l.share, err))
		}
	}
	return errors.Join(errs...)
}

func (h *segments) flush(ctx context.Context, l lane) error {
	h.mu.Lock()
	commit := store.Commit{Worker: l.worker}
	var rows []store.MessageRow
	parts := make(map[progressKey]segment)
	for key, s := range h.held {
		if key.worker == l.worker && key.id.Number == l.share {
			parts[key] = *s
			commit.Spans, rows = append(commit.Spans, s.span), append(rows, s.rows...)
		}
	}
	h.mu.Unlock()
	slices.SortFunc(commit.Spans, func(a, b store.Span) int {
		return strings.Compare(a.Partition.Topic, b.Partition.Topic)
	})
	c := Call{Table: TableSegments, Op: OpFlush, Worker: l.worker, Spans: commit.Spans, Rows: len(rows)}
	if err := h.store.before(ctx, c); err != nil {
		return err
	}
	err := h.store.disk.segments.commit(h.store, &commit, rows)
	if err != nil && !errors.Is(err, store.ErrFenced) {
		return err
	}
	h.release(parts, err != nil)
	if err != nil {
		return err
	}
	return h.store.after(ctx, c)
}

// release forgets what a flush has put onto disk, or what a fence has made worthless; what was held since stays.
func (h *segments) release(parts map[progressKey]segment, fenced bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, flushed := range parts {
		if fenced {
			if h.fenced == nil {
				h.fenced = make(map[progressKey]bool)
			}
			h.fenced[key] = true
			delete(h.held, key)
			continue
		}
		s := h.held[key]
		if s.span.Through.Through == flushed.span.Through.Through {
			delete(h.held, key)
			continue
		}
		s.span.After = flushed.span.Through.Through
		s.rows = s.rows[len(flushed.rows):]
	}
}

// Held returns the rows that this handle holds back: readable, not on disk.
func (s *Store) Held() []store.MessageRow {
	h := &s.segments
	h.mu.Lock()
	defer h.mu.Unlock()
	var rows []store.MessageRow
	for _, part := range h.held {
		rows = append(rows, part.rows...)
	}
	return rows
}
