package worker

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/millrace/millrace/pkg/bus"
)

// place names one record, the zero place none.
type place struct {
	id       bus.PartitionID
	position bus.Position
}

// panicked is what a task's panic becomes.
type panicked struct {
	at    place
	value string
	stack string // its first lines below the panic
}

// Error says what the panic said.
func (p *panicked) Error() string { return "panic: " + p.value }

// poisoned is a record on which the task panicked.
type poisoned struct {
	times  int
	reason string
}

func remember(poison map[place]*poisoned, p *panicked) (times int) {
	bad := poison[p.at]
	if bad == nil {
		bad = new(poisoned)
		poison[p.at] = bad
	}
	bad.times++
	bad.reason = fmt.Sprintf("the worker panicked on it %d times: %s\n%s", bad.times, p.value, p.stack)
	return bad.times
}

// guard calls f and returns its panic, if any, as an error.
func (s *share[Row]) guard(at place, f func()) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = newPanicked(at, v)
		}
	}()
	f()
	return nil
}

func newPanicked(at place, value any) *panicked {
	const linesMax = 12
	lines := strings.Split(string(debug.Stack()), "\n")
	for i, line := range lines { // above panic( is only our own recovering
		if strings.HasPrefix(line, "panic(") {
			lines = lines[min(i+2, len(lines)):]
			break
		}
	}
	return &panicked{at: at, value: fmt.Sprint(value), stack: strings.Join(lines[:min(linesMax, len(lines))], "\n")}
}

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
	defer func() {
		if v := recover(); v != nil {
			err = newPanicked(place{p.id, recs[n].Position}, v)
			return
		}
		s.taken(p, recs[:n], doubles)
	}()
	topic, ingested, redelivered := p.id.Topic, p.id.Topic == bus.Ingested, p.id.Topic == bus.Redelivered
	for ; n < len(recs) && !s.full(); n++ {
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
		if redelivered {
			var mine bool
			if topic, mine = s.unwrap(ctx, p, &r); !mine {
				continue
			}
		}
		if bad := s.poison[place{p.id, r.Position}]; bad != nil && bad.times >= panicsMax {
			s.refuse(ctx, p, topic, r, bad.reason)
			continue
		}
		rows, publish := len(s.out.Rows), len(s.out.Publish)
		if err := s.task.Add(&s.out, topic, r); err != nil {
			s.out.Rows, s.out.Publish = s.out.Rows[:rows], s.out.Publish[:publish]
			s.refuse(ctx, p, topic, r, err.Error())
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
