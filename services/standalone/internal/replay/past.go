package replay

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/pkg/bus"
)

// past is a bus.Log that has the records of a time and then ends. What is appended to it goes nowhere; dead letters are counted. A group
// has one member, which owns every share.
type past struct {
	log    bus.Log
	cold   *Cold
	worker string   // that reads it
	topics []string // that pass; others are empty
	when   span
	tally  *tally
	fail   context.CancelCauseFunc          // ends the replay
	before map[bus.PartitionID]bus.Position // what is not counted: the worker had it before, and may look back at it

	running sync.WaitGroup // feeds that bring records
	mu      sync.Mutex
	feeds   map[string][]*feed // by group
}

var _ bus.Log = (*past)(nil)

// Append implements bus.Log.
func (p *past) Append(_ context.Context, id bus.PartitionID, recs []bus.Record) error {
	if id.Topic == bus.DeadLetters {
		for i := range recs {
			p.tally.letter(recs[i].Value)
		}
	}
	return nil
}

// Partitions implements bus.Log.
func (p *past) Partitions(topic string) int { return p.log.Partitions(topic) }

// Close implements bus.Log; what is below belongs to the caller.
func (p *past) Close() error { return nil }

// Partition implements bus.Log. Workers that look back find nothing.
func (p *past) Partition(_ context.Context, id bus.PartitionID) (bus.Partition, error) { //nolint:ireturn // as the interface says
	return &lane{id: id}, nil
}

// Reached implements bus.Log. Nothing is ahead of the past.
func (p *past) Reached(context.Context, string, bus.PartitionID) (bus.Position, error) {
	return bus.Position{Seq: 1<<64 - 1}, nil
}

// Subscribe implements bus.Log. A group that joins again gets new feeds, and those that it had before are nobody's.
func (p *past) Subscribe(ctx context.Context, group string, topics []string, own func(context.Context, bus.Share) error) error {
	var feeds []*feed
	var all []bus.Share
	for n := range p.log.Partitions(topics[0]) {
		share, f := p.share(n, topics)
		all, feeds = append(all, share), append(feeds, f)
	}
	p.mu.Lock()
	if p.feeds == nil {
		p.feeds = make(map[string][]*feed)
	}
	p.feeds[group] = feeds
	p.mu.Unlock()
	shares, sharing := errgroup.WithContext(ctx)
	for _, share := range all {
		shares.Go(func() error { return own(sharing, share) })
	}
	return shares.Wait()
}

// share makes a share, and the feed of it.
func (p *past) share(number int, topics []string) (bus.Share, *feed) {
	share := bus.Share{Number: number}
	f := &feed{past: p, number: number}
	for _, topic := range topics {
		l := &lane{id: bus.PartitionID{Topic: topic, Number: number}}
		if slices.Contains(p.topics, topic) {
			l.feed = f
			f.lanes = append(f.lanes, l)
		}
		share.Partitions = append(share.Partitions, l)
	}
	return share, f
}

// ended reports whether all that passes was given to the worker.
func (p *past) ended() bool {
	all := p.lanes()
	return len(all) > 0 && !slices.ContainsFunc(all, func(l *lane) bool { return !l.over() })
}

// lanes returns those that pass.
func (p *past) lanes() (all []*lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, feeds := range p.feeds {
		for _, f := range feeds {
			all = append(all, f.lanes...)
		}
	}
	return all
}

// lane is one partition of the past; without a feed it is empty.
type lane struct {
	id   bus.PartitionID
	feed *feed

	mu    sync.Mutex
	end   bus.Position // of the last record, once it is known
	known bool
}

var _ bus.Partition = (*lane)(nil)

var errNoGroup = errors.New("the past has no groups")

// ID implements bus.Partition.
func (l *lane) ID() bus.PartitionID { return l.id }

// Committed implements bus.Partition: where to go on from is the store's to say.
func (l *lane) Committed(context.Context) (bus.Progress, bool, error) {
	return bus.Progress{}, false, nil
}

// Commit implements bus.Partition.
func (l *lane) Commit(context.Context, bus.Progress) error { return nil }

// End implements bus.Partition. Until all has passed it is further away than anything.
func (l *lane) End(context.Context) (bus.Position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.feed != nil && !l.known {
		return bus.Position{Seq: 1<<64 - 1}, nil
	}
	return l.end, nil
}

func (l *lane) over() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known
}

func (l *lane) set(end bus.Position, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end, l.known = end, known
}

// After implements bus.Partition. It may begin at a position only. All lanes of a share are read together, and begun again together.
func (l *lane) After(ctx context.Context, start bus.Start) iter.Seq2[bus.Batch, error] {
	return func(yield func(bus.Batch, error) bool) {
		if l.feed == nil {
			<-ctx.Done()
			return
		}
		if start.Newest || start.Time != 0 {
			yield(bus.Batch{}, fmt.Errorf("read %v: the past begins at a position: %w", l.id, errNoGroup))
			return
		}
		l.set(bus.Position{}, false)
		batches := l.feed.join(ctx, l, start.Position)
		last := start.Position
		for {
			select {
			case b, more := <-batches:
				if !more {
					l.set(last, true)
					<-ctx.Done()
					return
				}
				last = b.Last()
				if !yield(b, nil) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}
