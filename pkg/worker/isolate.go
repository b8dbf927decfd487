package worker

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
)

// How often a write must have failed before it is asked whether that is for what is in it: the first time some twenty-five seconds long, and
// not so long where fewer records are tried already.
const (
	attemptsMax        = 8
	attemptsCarefulMax = 3
)

// suspectWrite is given what a write failed of. Where the store takes other writes, it returns what makes the next life try fewer records
// at once: a row that the engine cannot write, and does not refuse by name, would hold up its partition for ever. It never does while the
// store is down, or full: then the other write fails as well. Nor does it in a share that is being left, which has no next life.
func (s *share[Row]) suspectWrite(ctx context.Context, attempts int, err error) error {
	enough := attemptsMax
	if s.care.limit > 0 {
		enough = attemptsCarefulMax
	}
	if _, buffered := s.loop.Store.(store.Buffered); buffered || attempts < enough || s.gathered == 0 || s.isLeft() || s.probe(ctx) != nil {
		return err
	}
	s.loop.Metrics.isolations.WithLabelValues(s.loop.Worker).Inc()
	return &failed{how: unstored, at: s.newest, taken: s.gathered, value: err.Error()}
}

// probeTopic is the topic of the progress that probes write; there is no such topic.
const probeTopic = "probe"

// probe writes to the store on the way of every write, but no rows and under a worker's name of its own.
func (s *share[Row]) probe(ctx context.Context) error {
	worker, id := s.loop.Worker+"~probe", bus.PartitionID{Topic: probeTopic, Number: s.bus.Number}
	before, _, err := s.loop.Store.Progress(ctx, worker, id)
	if err != nil {
		return fmt.Errorf("probe the store: %w", err)
	}
	next := bus.Progress{Through: bus.Position{Seq: before.Through.Seq + 1}}
	return s.loop.Store.Write(ctx, store.Commit{
		Worker: worker, Spans: []store.Span{{Partition: id, After: before.Through, Through: next}},
	}, nil)
}
