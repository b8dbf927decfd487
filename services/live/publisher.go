package live

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/feed"
)

const (
	listenedEvery  = time.Second
	placeEvery     = time.Second     // how often it is written down how far a share is published
	placeMax       = 5 * time.Second // for writing it down at the end
	resumeAfterMax = time.Minute     // what is older than this is not published any more when a share changes hands
	lookMax        = 5 * time.Second // for finding where that is
	lastOfAppend   = math.MaxUint32
)

// publisher publishes the events of one share, or of all.
type publisher struct {
	live    *Live
	filter  feed.Filter
	share   *bus.Share // nil for all, by a process that is alone: nothing is written down then
	last    string     // the token of what was published last
	noted   string     // the one that is written down
	written time.Time
}

// run publishes until ctx ends.
func (p *publisher) run(ctx context.Context) {
	for said := ""; ctx.Err() == nil; {
		// The place is taken before anybody is looked for: whoever comes until the next look misses nothing.
		if place := p.live.deps.Feed.Token(); !p.live.listenedTo() {
			p.last = place
			pause(ctx)
			continue
		}
		err := p.whileListenedTo(ctx)
		if ctx.Err() != nil || err == nil {
			continue
		}
		if err.Error() != said {
			said = err.Error()
			p.live.deps.Log.WarnContext(ctx, "publishing onto NATS begins again", "error", err)
		}
		pause(ctx)
	}
}

// listenedTo reports whether anybody may be listening on NATS; who cannot know assumes so.
func (l *Live) listenedTo() bool { return l.deps.Listened == nil || l.deps.Listened() }

func pause(ctx context.Context) {
	again := time.NewTimer(listenedEvery)
	defer again.Stop()
	select {
	case <-again.C:
	case <-ctx.Done():
	}
}

// whileListenedTo returns nil once nobody listens any more.
func (p *publisher) whileListenedTo(ctx context.Context) error {
	listened, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		for p.live.listenedTo() && listened.Err() == nil {
			pause(listened)
		}
		stop()
	})
	defer watch.Wait()
	defer stop()
	sub, err := p.live.deps.Feed.Subscribe(listened, p.filter, p.last)
	if err == nil {
		err = p.follow(listened, sub)
		sub.Close()
	}
	if listened.Err() != nil {
		return nil // it ended because nobody listens
	}
	return err
}

// follow sends until the subscription ends.
func (p *publisher) follow(ctx context.Context, sub *feed.Subscription) error {
	var subject []byte
	failing := false
	for {
		events, missed, err := p.next(ctx, sub)
		if err != nil {
			return err
		}
		l := p.live
		if missed > 0 {
			l.metrics.failed.Add(float64(missed))
		}
		for i := range events {
			e := &events[i]
			if ctx.Err() != nil && p.share != nil {
				return ctx.Err() // the rest is the next owner's
			}
			p.last = e.ID
			subject = appendSubject(subject[:0], e)
			if err := l.deps.Publish(string(subject), e.Data); err != nil {
				l.metrics.failed.Inc()
				if !failing {
					l.deps.Log.WarnContext(ctx, "NATS does not take events; they are counted in millrace_live_nats_failed_total", "error", err)
				}
				failing = true
				continue
			}
			failing = false
			l.metrics.published.Inc()
		}
		if l.deps.Now().Sub(p.written) >= placeEvery {
			p.note(ctx)
		}
	}
}

// next waits for events; not for long while it is to be written down how far it is.
func (p *publisher) next(ctx context.Context, sub *feed.Subscription) ([]feed.Event, uint64, error) {
	if p.share == nil || p.last == p.noted {
		return sub.Next(ctx)
	}
	soon, cancel := context.WithTimeout(ctx, placeEvery)
	defer cancel()
	events, missed, err := sub.Next(soon)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return nil, 0, nil
	}
	return events, missed, err
}

// note writes down how far the share is published, also when ctx has just ended. What goes wrong costs repeats, and is tried
// again with the next.
func (p *publisher) note(ctx context.Context) {
	if p.share == nil || p.last == "" || p.last == p.noted {
		return
	}
	p.written = p.live.deps.Now()
	at, err := p.live.deps.Feed.Place(p.last, p.share.Number)
	if err != nil {
		return
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), placeMax)
	defer cancel()
	for i, partition := range p.share.Partitions {
		if at[i].IsZero() {
			at[i] = bus.Position{Index: 1} // before every record, which unlike zero can be committed
		}
		if err := partition.Commit(bounded, bus.Progress{Through: at[i]}); err != nil {
			p.live.deps.Log.DebugContext(ctx, "cannot write down how far NATS subjects are", "partition", partition.ID().String(), "error", err)
			return
		}
	}
	p.noted = p.last
}

// resume returns where publishing the share goes on, in the order of its partitions: behind what was written down, if that is not long
// ago, else at the end.
func (p *publisher) resume(ctx context.Context) ([]bus.Position, error) {
	at := make([]bus.Position, len(p.share.Partitions))
	for i, partition := range p.share.Partitions {
		progress, ok, err := partition.Committed(ctx)
		if err != nil {
			return nil, err
		}
		end, err := partition.End(ctx)
		if err != nil {
			return nil, err
		}
		if at[i] = end; ok && progress.Through.Compare(end) < 0 {
			at[i] = p.recent(ctx, partition, progress.Through, end)
		}
	}
	return at, ctx.Err()
}

// recent returns the later of the position through and the one before the first record that is not too old; end where there is none.
func (p *publisher) recent(ctx context.Context, partition bus.Partition, through, end bus.Position) bus.Position {
	bounded, cancel := context.WithTimeout(ctx, lookMax)
	defer cancel()
	for batch, err := range partition.After(bounded, bus.Start{Time: p.live.deps.Now().Add(-resumeAfterMax).UnixNano()}) {
		if err != nil {
			break
		}
		if first := batch.Records[0].Position; first.Compare(through) > 0 && first.Seq > 0 {
			if before := (bus.Position{Seq: first.Seq - 1, Index: lastOfAppend}); before.Compare(through) > 0 {
				return before
			}
		}
		return through
	}
	return end
}
