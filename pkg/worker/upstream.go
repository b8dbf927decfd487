package worker

import (
	"context"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

// Upstream is a group that brings what a loop's topics hold: as long as it has something unread, that may still come.
type Upstream struct {
	Group string
	Topic string // which the group reads, and commits when what it made of it is appended
}

// upstream is one of them in the share's partition.
type upstream struct {
	group     string
	partition bus.Partition
	through   telemetry.Time // all that was appended before then has been passed on
	end       bus.Position   // where the partition ended at asked; zero where the group has got there
	asked     telemetry.Time
}

// findUpstream opens the partitions that the share's records come from.
func (s *share[Row]) findUpstream(ctx context.Context) error {
	s.upstream = s.upstream[:0]
	for _, u := range s.loop.Upstream {
		id := bus.PartitionID{Topic: u.Topic, Number: s.bus.Number}
		p, err := s.loop.Bus.Partition(ctx, id)
		if err != nil {
			return err
		}
		s.upstream = append(s.upstream, upstream{group: u.Group, partition: p})
	}
	return nil
}

// complete returns the time before which the task has everything that was appended to its topics, and what upstream made of all that was
// appended to theirs; 0 where something of the share is unread.
func (s *share[Row]) complete(ctx context.Context, now telemetry.Time) telemetry.Time {
	through := now
	if !s.moved() {
		// They are asked before the share's own end: what they have passed on was there before they said so.
		for i := range s.upstream {
			through = min(through, s.upstream[i].passed(ctx, s.loop.Bus, now))
		}
	}
	if !s.idle(ctx) {
		return 0
	}
	return through
}

// passed returns the time before which all that was appended to the partition has been passed on. Where the log does not answer it stays
// what it was; that the log does not is told by whoever reads it.
func (u *upstream) passed(ctx context.Context, log bus.Log, now telemetry.Time) telemetry.Time {
	ctx, done := context.WithTimeout(ctx, tickEvery)
	defer done()
	if u.end.IsZero() {
		end, err := u.partition.End(ctx)
		if err != nil {
			return u.through
		}
		u.end, u.asked = end, now
	}
	if !u.end.IsZero() {
		reached, err := log.Reached(ctx, u.group, u.partition.ID())
		if err != nil || reached.Compare(u.end) < 0 {
			return u.through
		}
	}
	u.end, u.through = bus.Position{}, u.asked
	return u.through
}
