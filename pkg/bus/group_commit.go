package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// lane is one partition's queue and its committer. What fits into the next append is gathered as it comes; only when that is
// full do records wait with others of their flow, and the flows take turns in filling the append after it.
type lane struct {
	w    *Writer
	id   PartitionID
	wake chan struct{} // of size 1: one signal is enough, since the committer takes all there is

	mu        sync.Mutex
	gathering *batch // has records whenever a flow has
	flows     map[uint64]*flow
	turns     []*flow // those of flows, whose turn is next in front
	idle      bool    // the committer waits for wake
	closed    bool
}

// add reports whether it took recs: a closed lane does not.
func (l *lane) add(recs []Record, who claimant) bool {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return false
	}
	l.gather(recs, who)
	l.unlockThenWake()
	return true
}

// gather adds to the gathering batch what it has room for, and lets the rest wait. l.mu is held.
func (l *lane) gather(recs []Record, who claimant) {
	f := l.flows[who.flow]
	if f == nil {
		b, cfg := l.gathering, &l.w.cfg
		for len(recs) > 0 && !b.full(len(recs[0].Value), cfg) {
			b.add(&recs[0], who)
			recs = recs[1:]
		}
		if len(recs) == 0 {
			return
		}
		f = &flow{key: who.flow}
		l.flows[who.flow] = f
		l.turns = append(l.turns, f)
	}
	f.add(recs, who)
}

func (l *lane) fresh() *batch {
	if b, ok := l.w.spare.Get().(*batch); ok {
		return b
	}
	return &batch{}
}

func (l *lane) unlockThenWake() {
	wake := l.idle
	l.idle = false
	l.mu.Unlock()
	if wake {
		l.wake <- struct{}{} // there is room: idle was true, so the committer has taken the last signal
	}
}

func (l *lane) close() {
	l.mu.Lock()
	l.closed = true
	l.unlockThenWake()
}

// run commits until the lane is closed and empty.
func (l *lane) run() {
	for {
		b, more := l.take()
		switch {
		case b != nil:
			l.commit(b)
		case more:
			<-l.wake
		default:
			return
		}
	}
}

// take returns the next batch that has records. Without one, more says whether to wait for wake.
func (l *lane) take() (b *batch, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.gathering.recs) > 0 {
		b = l.gathering
		l.gathering = l.fresh()
		l.refill()
		return b, true
	}
	l.idle = !l.closed
	return nil, l.idle
}

// commit appends b and tells its tickets.
func (l *lane) commit(b *batch) {
	err := l.append(b.recs)
	switch {
	case errors.Is(err, ErrTooLarge) && len(b.recs) > 1:
		l.commitSingly(b) // so that one record does not get all others refused
	default:
		l.account(b.recs, err)
		for _, t := range b.tickets {
			t.ticket.Done(t.n, err)
		}
	}
	l.w.room.give(l, b.tickets)
	b.reset()
	if cap(b.arena) <= 2*l.w.cfg.BatchBytesMax {
		l.w.spare.Put(b)
	}
}

func (l *lane) commitSingly(b *batch) {
	for i := range b.recs {
		one := b.recs[i : i+1]
		err := l.append(one)
		l.account(one, err)
		b.tickets[b.owners[i]].ticket.Done(1, err)
	}
}

func (l *lane) account(recs []Record, err error) {
	c := &l.w.count
	if err != nil {
		c.failed.Add(uint64(len(recs)))
		return
	}
	bytes := 0
	for i := range recs {
		bytes += len(recs[i].Value)
	}
	c.appends.Add(1)
	c.records.Add(uint64(len(recs)))
	c.bytes.Add(uint64(bytes))
}

// append tries until the outcome is known, RetryFor has passed or Close gives up.
func (l *lane) append(recs []Record) error {
	err := l.w.log.Append(l.w.life, l.id, recs)
	if err == nil || outcomeKnown(err) {
		return err
	}
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval, wait.MaxElapsedTime = firstRetry, l.w.cfg.RetryMax, l.w.cfg.RetryFor
	wait.Reset()
	for {
		pause := wait.NextBackOff()
		if pause == backoff.Stop {
			return err
		}
		if !sleep(l.w.life, pause) {
			return fmt.Errorf("%w: gave up after: %w", ErrClosed, err)
		}
		l.w.count.retries.Add(1)
		if err = l.w.log.Append(l.w.life, l.id, recs); err == nil || outcomeKnown(err) {
			return err
		}
	}
}

// outcomeKnown reports whether to try again is of no use.
func outcomeKnown(err error) bool {
	return errors.Is(err, ErrFull) || errors.Is(err, ErrTooLarge) || errors.Is(err, ErrUnknownTopic) || errors.Is(err, ErrClosed)
}

// sleep waits for d and reports whether ctx still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
