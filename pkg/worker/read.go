package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace/millrace/pkg/bus"
)

var errReadEnded = errors.New("reading ended by itself")

// readStep names the reading of a partition among what is being tried again.
func readStep(id bus.PartitionID) string { return "read " + id.String() }

// read feeds the records of one partition to the task until ctx ends. It waits while the task has enough at hand.
func (s *share[Row]) read(ctx context.Context, p *part) {
	again := newBackoff()
	start, step := p.start, readStep(p.id)
	for ctx.Err() == nil {
		var broke error
		for batch, err := range p.After(ctx, start) {
			if err != nil {
				broke = err
				break
			}
			if !s.pass(ctx, p, batch) {
				return
			}
			start = bus.Start{Position: batch.Last()}
			s.track.retry(step, nil)
			again.Reset()
		}
		if ctx.Err() != nil {
			return
		}
		if broke == nil {
			broke = errReadEnded
		}
		if final(broke) {
			select {
			case s.failed <- fmt.Errorf("%s: %w", step, broke):
			case <-ctx.Done():
			}
			return
		}
		s.track.retry(step, broke)
		s.note(ctx, step, broke)
		if !wait(ctx, again.NextBackOff()) {
			return
		}
	}
}

// pass hands batch to the task; false means that ctx ended first.
func (s *share[Row]) pass(ctx context.Context, p *part, batch bus.Batch) bool {
	p.track.first.CompareAndSwap(0, batch.Records[0].Time)
	f := fetched{part: p, batch: batch}
	for i := range batch.Records {
		f.bytes += int64(len(batch.Records[i].Value))
	}
	f.bytes = min(f.bytes, prefetchBytes)
	if s.ahead.Acquire(ctx, f.bytes) != nil {
		return false
	}
	select {
	case s.fetched <- f:
		return true
	case <-ctx.Done():
		return false
	}
}
