package replay

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

const (
	// slack is how much the clocks of edge and log may differ.
	slack = 10 * time.Minute
	// newestWait is how long the newest record of a partition is waited for: one that was trimmed away never comes.
	newestWait = 20 * time.Second
	// A reading that broke is tried again, after a pause that grows with each time in a row.
	readTries = 20
	readPause = 200 * time.Millisecond
)

// reach is what the log has of a partition, as of one moment.
type reach struct {
	part   bus.Partition
	end    bus.Position   // of the newest record; zero: there never was one
	has    bool           // something is left: otherwise the rest means nothing
	oldest telemetry.Time // when the log took its oldest record
	newest telemetry.Time
	whole  bool // it has its first record still, so it was never trimmed
}

// look finds out what the log has of a partition.
func look(ctx context.Context, log bus.Log, id bus.PartitionID) (reach, error) {
	part, err := log.Partition(ctx, id)
	if err != nil {
		return reach{}, fmt.Errorf("open %v: %w", id, err)
	}
	r := reach{part: part}
	if r.end, err = part.End(ctx); err != nil || r.end.IsZero() {
		return r, named("find the end of", id, err)
	}
	before := bus.Position{Seq: r.end.Seq - 1, Index: 1<<32 - 1}
	newest, err := one(ctx, part, bus.Start{Position: before})
	if errors.Is(err, errNothing) {
		return r, nil
	}
	if err != nil {
		return r, named("read the newest record of", id, err)
	}
	oldest, err := one(ctx, part, bus.Start{})
	if err != nil {
		return r, named("read the oldest record of", id, err)
	}
	r.newest, r.oldest = telemetry.Time(newest.Time), telemetry.Time(oldest.Time)
	r.has = true
	r.whole = oldest.Position.Seq <= 1
	return r, nil
}

func named(what string, id bus.PartitionID, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %v: %w", what, id, err)
}

var errNothing = errors.New("no record came")

// one returns the first record from start on, or errNothing when none comes in time.
func one(ctx context.Context, part bus.Partition, start bus.Start) (bus.Record, error) {
	waiting, stop := context.WithTimeout(ctx, newestWait)
	defer stop()
	for batch, err := range part.After(waiting, start) {
		if err != nil {
			return bus.Record{}, err
		}
		return batch.Records[0], nil
	}
	if err := ctx.Err(); err != nil {
		return bus.Record{}, err
	}
	return bus.Record{}, errNothing
}

// covers reports whether the log has all that was taken from a moment on.
func (r *reach) covers(from telemetry.Time) bool {
	return r.end.IsZero() || r.has && r.oldest <= from.Add(-slack)
}

// records yields the records of a partition up to its end as of the look, from those that can have been taken at from. What was taken
// before some time may come at any place: a router that was down appends it late.
func (r *reach) records(ctx context.Context, from telemetry.Time) iter.Seq2[bus.Record, error] {
	return func(yield func(bus.Record, error) bool) {
		if !r.has || r.newest < from.Add(-slack) {
			return
		}
		start := bus.Start{Time: int64(from.Add(-slack))}
		if telemetry.Time(start.Time) <= r.oldest {
			start = bus.Start{}
		}
		for broken := 0; ctx.Err() == nil; {
			for batch, err := range r.part.After(ctx, start) {
				if err != nil {
					if broken++; broken < readTries && wait(ctx, time.Duration(broken)*readPause) {
						break
					}
					yield(bus.Record{}, fmt.Errorf("read %v: %w", r.part.ID(), err))
					return
				}
				broken = 0
				for _, rec := range batch.Records {
					if rec.Position.Compare(r.end) > 0 {
						return
					}
					if !yield(rec, nil) || rec.Position == r.end {
						return
					}
				}
				start = bus.Start{Position: batch.Last()}
			}
		}
	}
}

// taken returns when the edge took what a record holds; of what is no message, when the log did.
func taken(topic string, r *bus.Record) telemetry.Time {
	if !ownPositions(topic) || topic == bus.Sessions {
		if h, err := telemetry.PeekMessage(r.Value); err == nil && h.IngestTime != 0 {
			return h.IngestTime
		}
	}
	return telemetry.Time(r.Time)
}

// wait returns false when ctx ended before d had passed.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
