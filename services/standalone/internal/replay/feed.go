package replay

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/millrace/millrace/pkg/bus"
)

const (
	batchRecords = 1000
	batchBytes   = 1 << 20
	batchesAhead = 4 // of a lane
)

// feed brings the records of one share to its lanes, merged from all that they come from.
type feed struct {
	past   *past
	number int
	lanes  []*lane

	mu     sync.Mutex
	joined map[*lane]joining // until all lanes have
}

// joining is a lane whose reader waits for its records.
type joining struct {
	after bus.Position
	out   chan bus.Batch // closed at the end, not after a failure
}

// join waits for nobody: the feed begins once every lane has joined, and what the reader waits for comes then.
func (f *feed) join(ctx context.Context, l *lane, after bus.Position) <-chan bus.Batch {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.joined == nil {
		f.joined = make(map[*lane]joining)
	}
	j := joining{after: after, out: make(chan bus.Batch, batchesAhead)}
	f.joined[l] = j
	if len(f.joined) == len(f.lanes) {
		all := make([]joining, len(f.lanes))
		for i, l := range f.lanes {
			all[i] = f.joined[l]
		}
		f.joined = nil
		f.past.running.Go(func() { f.run(ctx, all) })
	}
	return j.out
}

// run brings everything until ctx, which is that of the readers, ends.
func (f *feed) run(ctx context.Context, lanes []joining) {
	err := f.bring(ctx, lanes)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		f.past.fail(fmt.Errorf("share %d: %w", f.number, err))
		return
	}
	for _, l := range lanes {
		close(l.out)
	}
}

// gathering is a batch of one lane that is not given yet.
type gathering struct {
	recs  []bus.Record
	bytes int
}

func (f *feed) bring(ctx context.Context, lanes []joining) error {
	p := f.past
	s := shareOf{log: p.log, cold: p.cold, number: f.number, worker: p.worker, when: p.when, tally: p.tally}
	for i, l := range f.lanes {
		s.topics = append(s.topics, l.id.Topic)
		s.after = append(s.after, lanes[i].after)
		s.before = append(s.before, p.before[l.id])
	}
	batches := make([]gathering, len(lanes))
	for r, err := range s.records(ctx) {
		if err != nil {
			return err
		}
		b := &batches[r.topic]
		b.recs = append(b.recs, r.rec)
		b.bytes += len(r.rec.Value)
		if len(b.recs) >= batchRecords || b.bytes >= batchBytes {
			n := len(b.recs)
			if err := b.give(ctx, lanes[r.topic].out); err != nil {
				return err
			}
			p.tally.reached(f.number, r.at, n)
		}
	}
	for i := range batches {
		n := len(batches[i].recs)
		if err := batches[i].give(ctx, lanes[i].out); err != nil {
			return err
		}
		p.tally.reached(f.number, p.when.to, n)
	}
	return nil
}

var errStopped = errors.New("stopped")

func (g *gathering) give(ctx context.Context, out chan<- bus.Batch) error {
	if len(g.recs) == 0 {
		return nil
	}
	select {
	case out <- bus.Batch{Records: g.recs}:
		*g = gathering{}
		return nil
	case <-ctx.Done():
		return errStopped
	}
}
