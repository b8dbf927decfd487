package worker

import (
	"context"

	"github.com/millrace/millrace/pkg/bus"
)

// apply gives the records of a batch to the task and commits whenever enough has gathered.
func (s *share[Row]) apply(ctx context.Context, f fetched) error {
	defer s.ahead.Release(f.bytes)
	rest := f.batch.Records
	for {
		n, err := s.take(ctx, f.part, rest)
		if err != nil {
			return err
		}
		rest = rest[n:]
		if len(rest) == 0 {
			return nil
		}
		if err := s.commit(ctx); err != nil {
			return err
		}
	}
}

// take gives records to the task until enough has gathered, and returns how many that were.
func (s *share[Row]) take(ctx context.Context, p *part, recs []bus.Record) (n int, err error) {
	var doubles int
	s.steps.begin(p.id, recs)
	defer func() {
		_ = s.left()
		if v := recover(); v != nil {
			err = panicked(place{p.id, recs[n].Position}, v)
			return
		}
		s.taken(p, recs[:n], doubles)
	}()
	topic, ingested, redelivered := p.id.Topic, p.id.Topic == bus.Ingested, p.id.Topic == bus.Redelivered
	for ; n < len(recs) && !s.full(); n++ {
		s.steps.enter()
		r := recs[n]
		if r.Position.Compare(p.progress.Through) <= 0 {
			doubles++ // the log gave it twice
			continue
		}
		p.progress.Through = r.Position
		if ingested {
			r.Origin = bus.Origin{Partition: int32(p.id.Number), Position: r.Position} //nolint:gosec // partitions are few
		}
		if !p.progress.Origins.Take(r.Origin) {
			doubles++
			continue
		}
		s.bytes += len(r.Value)
		s.gathered++
		s.newest = place{p.id, r.Position}
		if redelivered {
			var mine bool
			if topic, mine = s.unwrap(ctx, p, &r); !mine {
				continue
			}
		}
		if len(s.care.suspects) > 0 {
			if reason := s.care.poison(place{p.id, r.Position}); reason != "" {
				s.refuse(ctx, p, topic, r, reason)
				continue
			}
		}
		s.hand.takes(p.topic, r.Position)
		rows, publish := len(s.out.Rows), len(s.out.Publish)
		if err := s.task.Add(&s.out, topic, r); err != nil {
			s.out.Rows, s.out.Publish = s.out.Rows[:rows], s.out.Publish[:publish]
			s.refuse(ctx, p, topic, r, err.Error())
		}
		if s.steps.abandoned.Load() {
			return n, errAbandoned
		}
	}
	return n, nil
}

// taken counts what take took.
func (s *share[Row]) taken(p *part, recs []bus.Record, doubles int) {
	if len(recs) == 0 {
		return
	}
	s.dirty, p.moved = true, true
	p.track.took(len(recs), doubles, recs[len(recs)-1], s.loop.Now().UnixNano())
	s.track.worker.records.Add(uint64(len(recs)))
}
