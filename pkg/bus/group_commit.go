package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// batch is what one append takes, and whom to tell.
type batch struct {
	recs    []Record // the values lie in arena, or in an earlier, smaller array of it
	arena   []byte
	owners  []uint32 // for each record the index of its ticket
	tickets []claimed
	index   map[Ticket]uint32
}

// claimed is a ticket and how many of the batch's records are its.
type claimed struct {
	ticket Ticket
	n      int
}

func (b *batch) add(value []byte, origin Origin, ticket Ticket) {
	at := len(b.arena)
	b.arena = append(b.arena, value...)
	b.recs = append(b.recs, Record{Origin: origin, Value: b.arena[at:len(b.arena):len(b.arena)]})
	b.owners = append(b.owners, b.claim(ticket))
}

// claim counts one more record for ticket. A sender submits in runs, so the newest ticket is looked at first.
func (b *batch) claim(ticket Ticket) uint32 {
	last := len(b.tickets) - 1
	if last >= 0 && b.tickets[last].ticket == ticket {
		b.tickets[last].n++
		return uint32(last) //nolint:gosec // a batch is far smaller than 2^32
	}
	if i, ok := b.index[ticket]; ok {
		b.tickets[i].n++
		return i
	}
	if b.index == nil {
		b.index = map[Ticket]uint32{}
	}
	i := uint32(last + 1) //nolint:gosec // as above
	b.index[ticket] = i
	b.tickets = append(b.tickets, claimed{ticket, 1})
	return i
}

func (b *batch) reset() {
	clear(b.recs) // lets go of outgrown arenas
	clear(b.tickets)
	clear(b.index)
	b.recs, b.arena, b.owners, b.tickets = b.recs[:0], b.arena[:0], b.owners[:0], b.tickets[:0]
}

// lane is one partition's queue and its committer.
type lane struct {
	w    *Writer
	id   PartitionID
	wake chan struct{} // of size 1: one signal is enough, since the committer takes all there is

	mu        sync.Mutex
	gathering *batch
	full      []*batch // older than gathering, in order
	idle      bool     // the committer waits for wake
	closed    bool
}

func (l *lane) add(value []byte, origin Origin, ticket Ticket) bool {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return false
	}
	l.gather(value, origin, ticket)
	l.unlockThenWake()
	return true
}

func (l *lane) addAll(recs []Record, ticket Ticket) bool {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return false
	}
	for i := range recs {
		l.gather(recs[i].Value, recs[i].Origin, ticket)
	}
	l.unlockThenWake()
	return true
}

// gather adds to the gathering batch, or to a fresh one where it does not fit. l.mu is held.
func (l *lane) gather(value []byte, origin Origin, ticket Ticket) {
	b, cfg := l.gathering, &l.w.cfg
	if n := len(b.recs); n > 0 && (n >= cfg.BatchRecordsMax || len(b.arena)+len(value) > cfg.BatchBytesMax) {
		l.full = append(l.full, b)
		b = l.fresh()
		l.gathering = b
	}
	b.add(value, origin, ticket)
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

// take returns the oldest batch that has records. Without one, more says whether to wait for wake.
func (l *lane) take() (b *batch, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.full) > 0 {
		b = l.full[0]
		l.full[0] = nil
		l.full = l.full[1:]
		return b, true
	}
	if len(l.gathering.recs) > 0 {
		b = l.gathering
		l.gathering = l.fresh()
		return b, true
	}
	l.full = nil // a burst is over
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
	size := int64(len(b.arena) + recordOverheadBytes*len(b.recs))
	b.reset()
	if cap(b.arena) <= 2*l.w.cfg.BatchBytesMax {
		l.w.spare.Put(b)
	}
	l.w.room.give(size)
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
