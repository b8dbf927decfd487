package mem

import (
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

	mu   sync.Mutex
	held map[progressKey]*segment
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

// Progress implements store.Writer: what is on disk.
func (h *segments) Progress(ctx context.Context, worker string, id bus.PartitionID) (bus.Progress, bool, error) {
	if err := h.store.before(ctx, Call{Table: TableSegments, Op: OpProgress, Worker: worker}); err != nil {
		return bus.Progress{}, false, fmt.Errorf("read the progress of %s in %s: %w", worker, TableSegments, err)
	}
	p, ok := h.store.disk.segments.stored(worker, id)
	return p, ok, nil
}

// Flush implements store.Buffered: what each worker holds becomes one write. What another owner has overtaken is dropped, with
// store.ErrFenced.
func (h *segments) Flush(ctx context.Context) error {
	select {
	case h.flushing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-h.flushing }()
	h.mu.Lock()
	held := h.held
	workers := make(map[string]bool)
	for key := range held {
		workers[key.worker] = true
	}
	h.mu.Unlock()
	var errs []error
	for _, worker := range slices.Sorted(maps.Keys(workers)) {
		if err := h.flush(ctx, worker); err != nil {
			errs = append(errs, fmt.Errorf("flush %s of %s: %w", TableSegments, worker, err))
		}
	}
	return errors.Join(errs...)
}

func (h *segments) flush(ctx context.Context, worker string) error {
	h.mu.Lock()
	commit := store.Commit{Worker: worker}
	var rows []store.MessageRow
	parts := make(map[progressKey]segment)
	for key, s := range h.held {
		if key.worker == worker {
			parts[key] = *s
			commit.Spans, rows = append(commit.Spans, s.span), append(rows, s.rows...)
		}
	}
	h.mu.Unlock()
	slices.SortFunc(commit.Spans, func(a, b store.Span) int {
		if c := strings.Compare(a.Partition.Topic, b.Partition.Topic); c != 0 {
			return c
		}
		return a.Partition.Number - b.Partition.Number
	})
	c := Call{Table: TableSegments, Op: OpFlush, Worker: worker, Spans: commit.Spans, Rows: len(rows)}
	if err := h.store.before(ctx, c); err != nil {
		return err
	}
	err := h.store.disk.segments.commit(h.store, &commit, rows)
	if err != nil && !errors.Is(err, store.ErrFenced) {
		return err
	}
	h.release(parts)
	if err != nil {
		return err
	}
	return h.store.after(ctx, c)
}

// release forgets what a flush has put onto disk, or what a fence has made worthless; what was held since stays.
func (h *segments) release(parts map[progressKey]segment) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, flushed := range parts {
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
