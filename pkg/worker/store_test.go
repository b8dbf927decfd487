package worker_test

import (
	"context"
	"slices"
	"sync"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
)

// table is a store with transactions, in memory: it keeps rows, progress and checkpoints as an engine would, across the
// crashes of its writers.
type table[Row any] struct {
	mu          sync.Mutex
	rows        []Row
	progress    map[bus.PartitionID]bus.Progress
	checkpoints map[string][]byte
	commits     []store.Commit
	writes      int // calls of Write

	before func(ctx context.Context, commit store.Commit, rows []Row) error // fails a write without effect
	after  func(ctx context.Context, commit store.Commit, rows []Row) error // fails one that had its effect
	refuse func(row Row) string                                             // "" takes the row
}

func newTable[Row any]() *table[Row] {
	return &table[Row]{progress: make(map[bus.PartitionID]bus.Progress), checkpoints: make(map[string][]byte)}
}

func (s *table[Row]) hooks() (before, after func(context.Context, store.Commit, []Row) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	return s.before, s.after
}

func (s *table[Row]) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *table[Row]) Write(ctx context.Context, commit store.Commit, rows []Row) error {
	before, after := s.hooks()
	if before != nil {
		if err := before(ctx, commit, rows); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	err := s.write(commit, rows)
	if after != nil {
		if err := after(ctx, commit, rows); err != nil {
			return err
		}
	}
	return err
}

func (s *table[Row]) write(commit store.Commit, rows []Row) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	follows, repeats := true, true
	for _, span := range commit.Spans {
		follows = follows && s.progress[span.Partition].Through == span.After
		repeats = repeats && s.progress[span.Partition].Through == span.Through.Through
	}
	switch {
	case follows:
	case repeats:
		return nil
	default:
		return store.ErrFenced
	}
	var refused store.Refused
	for i, row := range rows {
		if s.refuse == nil {
			break
		}
		if reason := s.refuse(row); reason != "" {
			refused.Rows, refused.Reasons = append(refused.Rows, i), append(refused.Reasons, reason)
		}
	}
	if len(refused.Rows) > 0 {
		return &refused
	}
	s.rows = append(s.rows, rows...)
	for _, span := range commit.Spans {
		s.progress[span.Partition] = span.Through
	}
	if commit.Checkpoint != nil {
		s.checkpoints[commit.Task] = slices.Clone(commit.Checkpoint)
	}
	s.commits = append(s.commits, commit)
	return nil
}

func (s *table[Row]) Progress(_ context.Context, _ string, p bus.PartitionID) (bus.Progress, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	progress, ok := s.progress[p]
	return progress.Clone(), ok, nil
}

func (s *table[Row]) Checkpoint(_ context.Context, _, task string) ([]byte, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state, ok := s.checkpoints[task]
	return slices.Clone(state), ok, nil
}

func (s *table[Row]) all() []Row {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.rows)
}

func (s *table[Row]) commitCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.commits)
}
