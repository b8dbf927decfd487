package feed

import (
	"context"
	"slices"
	"sync"
)

// Subscription is one subscriber's queue. Next is called by one goroutine at a time.
type Subscription struct {
	hub    *Hub
	filter Filter
	wants  []bool // by partition, as in a vector
	leave  context.CancelFunc
	over   context.Context //nolint:containedctx // ends with the subscription
	behind sync.WaitGroup  // the goroutine that catches up

	past chan []Event // what is read from the log; closed once all of it is; nil when there is none

	wake chan struct{} // one place: there is something to look at

	mu     sync.Mutex
	queue  []Event
	head   int // events of queue before it are gone
	bytes  int
	missed uint64
	err    error
	closed bool
	last   string // token of the newest event that Next returned

	spare []Event // what Next returned last, to be used again
}

// Subscribe begins to follow the streams of filter: from now on where after is "", else after the event that has this ID. It waits
// until the hub knows the log's end. The subscription lasts until Close, the end of ctx, or the end of Run.
//
// Errors to test for: ErrTooMany, ErrToken, ErrFilter, ErrClosed. A token of a place that the log has not reached (it was
// wiped, or restored from an older copy) is no error: the subscription begins now, with one event missed.
func (h *Hub) Subscribe(ctx context.Context, filter Filter, after string) (*Subscription, error) {
	if err := filter.validate(); err != nil {
		return nil, err
	}
	var from vector
	if after != "" {
		var err error
		if from, err = parseToken(after, len(Streams()), h.each); err != nil {
			return nil, err
		}
	}
	if err := h.reserve(); err != nil {
		return nil, err
	}
	over, leave := context.WithCancel(ctx)
	s := &Subscription{hub: h, filter: filter, leave: leave, over: over, wake: make(chan struct{}, 1)}
	for _, stream := range Streams() {
		for n := range h.each {
			s.wants = append(s.wants, filter.wants(stream) && filter.wantsShare(n))
		}
	}
	context.AfterFunc(over, s.quit)
	select {
	case <-h.ready:
	case <-h.gone:
		leave()
		return nil, ErrClosed
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
	if from == nil {
		_, _, err := h.target(s, nil, true)
		if err != nil {
			leave()
			return nil, err
		}
		return s, nil
	}
	s.past = make(chan []Event, 1) // so that the next is read while one is sent
	s.behind.Go(func() {
		defer close(s.past)
		if err := s.catchUp(over, from); err != nil && over.Err() == nil {
			s.fail(err)
		}
	})
	return s, nil
}

// reserve takes one of the places for subscribers; quit gives it back.
func (h *Hub) reserve() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.over():
		return ErrClosed
	case h.taken >= h.cfg.Subscribers:
		return ErrTooMany
	}
	h.taken++
	h.metrics.subscribers.Set(float64(h.taken))
	return nil
}

// quit takes the subscription out of the hub. It runs once, when over has ended.
func (s *Subscription) quit() {
	h := s.hub
	h.mu.Lock()
	h.taken--
	h.metrics.subscribers.Set(float64(h.taken))
	for i := range h.joined {
		h.joined[i] = slices.DeleteFunc(h.joined[i], func(o *Subscription) bool { return o == s })
	}
	h.mu.Unlock()
	s.mu.Lock()
	s.closed, s.queue, s.spare = true, nil, nil
	s.mu.Unlock()
}

// Close ends the subscription and waits for what it has under way. Calling it again does nothing.
func (s *Subscription) Close() {
	s.leave()
	s.behind.Wait()
}

// Next waits for events and returns those that are there, in their order, valid until the next call; and before them how many were missed,
// at least. One of both is there when err is nil. An error is final: ctx's, that of the subscription's context, ErrClosed, or
// what kept the log from being read, after which the subscriber may come back with its last token.
func (s *Subscription) Next(ctx context.Context) (events []Event, missed uint64, err error) {
	for {
		if s.past != nil {
			select {
			case events, ok := <-s.past:
				if !ok {
					s.past = nil
				} else {
					return events, s.passed(events), nil
				}
			case <-ctx.Done():
				return nil, 0, ctx.Err()
			case <-s.over.Done():
				return nil, 0, s.over.Err()
			}
		}
		if events, missed, err := s.pop(); len(events) > 0 || missed > 0 || err != nil {
			return events, missed, err
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		case <-s.over.Done():
			return nil, 0, s.over.Err()
		}
	}
}

// passed remembers how far the subscriber is and returns what it has missed so far.
func (s *Subscription) passed(events []Event) (missed uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = events[len(events)-1].ID
	missed, s.missed = s.missed, 0
	return missed
}

// pop takes what the queue holds.
func (s *Subscription) pop() ([]Event, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	events, missed := s.queue[s.head:], s.missed
	if len(events) == 0 && missed == 0 {
		return nil, 0, s.err
	}
	if len(events) > 0 {
		s.last = events[len(events)-1].ID
	}
	const keep = 256 // a larger array than this is not kept for a quiet time
	clear(s.spare)
	if cap(s.spare) > keep {
		s.spare = nil
	}
	s.queue, s.spare = s.spare[:0], events
	s.head, s.bytes, s.missed = 0, 0, 0
	return events, missed, nil
}

// push puts an event into the queue; the oldest give way where it is full.
func (s *Subscription) push(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.bytes += e.size()
	s.queue = append(s.queue, e)
	cfg := &s.hub.cfg
	for n := len(s.queue) - s.head; n > 1 && (n > cfg.QueueRecords || s.bytes > int(cfg.QueueBytes)); n-- {
		s.bytes -= s.queue[s.head].size()
		s.queue[s.head] = Event{}
		s.head++
		s.missed++
		s.hub.metrics.missed.Inc()
	}
	if s.head > 64 && s.head*2 > len(s.queue) { // so that the array does not grow for ever
		n := copy(s.queue, s.queue[s.head:])
		clear(s.queue[n:])
		s.queue, s.head = s.queue[:n], 0
	}
	s.signal()
}

func (s *Subscription) signal() {
	select {
	case s.wake <- struct{}{}:
	default: // it is awake already
	}
}

// miss counts events that are not there any more.
func (s *Subscription) miss(n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missed += n
	s.hub.metrics.missed.Add(float64(n))
	s.signal()
}

// fail ends the subscription with err once its queue is empty.
func (s *Subscription) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	s.signal()
}

// Token returns the token of the place up to which the subscriber has everything that it wants: for who gets no event for a
// while. It is "" where that is not known, while the subscription still catches up. It is for the goroutine that calls Next.
func (s *Subscription) Token() string {
	if s.past != nil {
		return ""
	}
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) > s.head {
		return s.last
	}
	return s.hub.at.text(len(Streams()))
}
