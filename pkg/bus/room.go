package bus

import (
	"container/list"
	"context"
	"sync"
)

// How the room for pending bytes is shared. A flow may hold up to twice what is still free, so that one alone gets two thirds
// of the room, two get two fifths each, and however many there are something stays free for who comes next (dynamic
// thresholds, Choudhury and Hahne 1998). A partition may hold three quarters of the room: one whose log does not answer
// stops those who write to it and nobody else.
const (
	flowTimesFree = 2
	laneQuarters  = 3
)

// room bounds the bytes that are submitted and not yet reported, and sees to it that nobody has it all.
type room struct {
	limit  int64
	closed chan struct{} // closed by Writer.Close

	mu      sync.Mutex
	taken   int64
	flows   map[uint64]int64 // taken by each flow that has a name
	lanes   map[*lane]int64  // taken by named flows of each lane
	waiting list.List        // of *waiter, in the order in which they came
}

// want is what a submission asks for.
type want struct {
	flow  uint64
	lane  *lane
	bytes int64
}

// waiter is a submission that waits for room.
type waiter struct {
	want
	granted chan struct{} // closed under room.mu
}

func newRoom(limit int64) *room {
	return &room{limit: limit, closed: make(chan struct{}), flows: map[uint64]int64{}, lanes: map[*lane]int64{}}
}

// take waits until n bytes are free for flow in l. More than the limit is granted when nothing else is taken.
func (r *room) take(ctx context.Context, flow uint64, l *lane, n int64) error {
	ask := want{flow: flow, lane: l, bytes: n}
	r.mu.Lock()
	if !r.tight() && r.fits(ask) {
		r.grant(ask)
		r.mu.Unlock()
		return nil
	}
	w := &waiter{want: ask, granted: make(chan struct{})}
	at := r.waiting.PushBack(w)
	r.mu.Unlock()
	var err error
	select {
	case <-w.granted:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-r.closed:
		err = ErrClosed
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-w.granted: // at the last moment
		r.release(ask)
	default:
		r.waiting.Remove(at)
	}
	r.wake() // who waited behind it
	return err
}

// tight reports whether somebody waits for the room as a whole: who comes later must not take from under it what gets free.
func (r *room) tight() bool {
	first := r.waiting.Front()
	if first == nil {
		return false
	}
	w, ok := first.Value.(*waiter)
	return ok && !r.fitsAll(w.want)
}

// fitsAll reports whether there is room for w, whoever it is.
func (r *room) fitsAll(w want) bool { return r.taken == 0 || r.taken+w.bytes <= r.limit }

// fits reports whether there is room for w, and w's flow and partition have not more than their share.
func (r *room) fits(w want) bool {
	if r.taken == 0 || w.flow == 0 {
		return r.fitsAll(w)
	}
	ofLane := r.lanes[w.lane]
	laneFree := r.limit*laneQuarters/4 - ofLane
	if !r.fitsAll(w) || ofLane > 0 && w.bytes > laneFree {
		return false
	}
	ofFlow := r.flows[w.flow]
	return ofFlow == 0 || ofFlow+w.bytes <= flowTimesFree*min(r.limit-r.taken, laneFree)
}

func (r *room) grant(w want) {
	r.taken += w.bytes
	if w.flow != 0 {
		r.flows[w.flow] += w.bytes
		r.lanes[w.lane] += w.bytes
	}
}

// give frees what the records of tickets took.
func (r *room) give(l *lane, tickets []claimed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range tickets {
		r.release(want{tickets[i].flow, l, tickets[i].bytes})
	}
	r.wake()
}

func (r *room) release(w want) {
	r.taken -= w.bytes
	if w.flow == 0 {
		return
	}
	r.lanes[w.lane] -= w.bytes
	if r.flows[w.flow] -= w.bytes; r.flows[w.flow] <= 0 {
		delete(r.flows, w.flow)
	}
}

// wake grants what fits, in order. Who has its share is passed over; who waits for the room as a whole is not.
func (r *room) wake() {
	for at := r.waiting.Front(); at != nil; {
		next := at.Next()
		w, ok := at.Value.(*waiter)
		switch {
		case !ok:
			return
		case r.fits(w.want):
			r.grant(w.want)
			r.waiting.Remove(at)
			close(w.granted)
		case !r.fitsAll(w.want):
			return
		}
		at = next
	}
}

// pending returns the bytes that are taken.
func (r *room) pending() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken
}
