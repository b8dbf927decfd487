package worker

import (
	"context"
	"time"

	"github.com/millrace/millrace/pkg/bus"
)

// watchEvery is how old at most is what the metrics know of the log's end.
const watchEvery = 5 * time.Second

// watch keeps the metrics true until ctx ends. It is a goroutine of its own, since the share's waits for the store as long as that is
// down, which is when the lag matters most.
func (s *share[Row]) watch(ctx context.Context) {
	every := time.NewTicker(watchEvery)
	defer every.Stop()
	for {
		for _, p := range s.parts {
			s.glance(ctx, p)
		}
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}

// glance asks the log for the end of p, and tells the metrics.
func (s *share[Row]) glance(ctx context.Context, p *part) (end bus.Position, ok bool) {
	asking, done := context.WithTimeout(ctx, tickEvery)
	defer done()
	asked := s.loop.Now().UnixNano()
	end, err := p.End(asking)
	if err != nil {
		return bus.Position{}, false
	}
	p.track.saw(end, asked)
	if p.track.caughtUp.Load() {
		// Of a topic on which nothing comes no batch would ever say that reading works again.
		s.track.retry(readStep(p.id), nil)
	}
	return end, true
}

// look asks the log for the end of p, and notes whether all of it is taken.
func (s *share[Row]) look(ctx context.Context, p *part) {
	asked := s.loop.Now().UnixNano()
	end, ok := s.glance(ctx, p)
	if !ok {
		p.track.caughtUp.Store(false)
		return
	}
	taken := p.progress.Through.Compare(end) >= 0
	p.track.caughtUp.Store(taken)
	if taken {
		p.track.clear.Store(asked)
	}
}

// estimate tells the metrics what is known of p as long as the store does not say where to start: that reading goes on after what the
// group has committed, or a little later.
func (s *share[Row]) estimate(ctx context.Context, p *part, committed bus.Position) {
	p.track.begins(committed)
	s.glance(ctx, p)
	if p.track.first.Load() != 0 {
		return
	}
	asking, done := context.WithTimeout(ctx, tickEvery)
	defer done()
	for batch, err := range p.After(asking, bus.Start{Position: committed}) {
		if err == nil {
			p.track.first.Store(batch.Records[0].Time)
		}
		return
	}
}
