package aggregator_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

var errBroken = errors.New("connection refused")

// table is a store with transactions, in memory, that outlives the crashes of its writers.
type table struct {
	mu         sync.Mutex
	rows       map[store.WindowKey]store.AggregateRow
	progress   map[bus.PartitionID]bus.Progress
	checkpoint map[string][]byte
	forgets    int

	fault func(call string) error // asked before each call and, as "written", after a write had its effect
}

func newTable() *table {
	return &table{
		rows: make(map[store.WindowKey]store.AggregateRow), progress: make(map[bus.PartitionID]bus.Progress), checkpoint: make(map[string][]byte),
		fault: func(string) error { return nil },
	}
}

func keyOf(a *telemetry.Aggregate) store.WindowKey {
	return store.WindowKey{
		Tenant: a.Tenant, DeviceID: a.DeviceID, ChannelKey: a.ChannelKey, WindowStart: a.WindowStart, WindowLength: a.WindowLength,
	}
}

func (s *table) Write(_ context.Context, commit store.Commit, rows []store.AggregateRow) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fault("write"); err != nil {
		return err
	}
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
	for i := range rows {
		r := rows[i]
		r.Aggregate, r.State = r.Clone(), slices.Clone(r.State)
		key := keyOf(&r.Aggregate)
		key.Tenant, key.DeviceID, key.ChannelKey = r.Tenant, r.DeviceID, r.ChannelKey
		s.rows[key] = r
	}
	for _, span := range commit.Spans {
		s.progress[span.Partition] = span.Through.Clone()
	}
	if commit.Checkpoint != nil {
		s.checkpoint[strings.Clone(commit.Task)] = slices.Clone(commit.Checkpoint)
	}
	return s.fault("written")
}

func (s *table) Progress(_ context.Context, _ string, p bus.PartitionID) (bus.Progress, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	progress, ok := s.progress[p]
	return progress.Clone(), ok, nil
}

func (s *table) Checkpoint(_ context.Context, _, task string) ([]byte, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state, ok := s.checkpoint[task]
	return slices.Clone(state), ok, nil
}

func (s *table) Windows(_ context.Context, keys []store.WindowKey) ([]store.AggregateRow, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fault("windows"); err != nil {
		return nil, err
	}
	rows := make([]store.AggregateRow, len(keys))
	for i, key := range keys {
		rows[i] = s.rows[key]
		rows[i].StateUntil = 0
	}
	return rows, nil
}

func (s *table) ForgetStates(_ context.Context, now telemetry.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgets++
	for key, r := range s.rows {
		if r.StateUntil < now {
			r.State = nil
			s.rows[key] = r
		}
	}
	return nil
}

func (s *table) all() map[store.WindowKey]store.AggregateRow {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.rows)
}
