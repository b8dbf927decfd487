package mqttedge

import (
	"container/list"
	"context"
	"errors"
	"math"
	"sync"
	"time"
)

var errSessionBusy = errors.New("the session is still held by its earlier connection")

// idSet is a set of packet identifiers in 8 KiB, whatever is put into it.
type idSet struct{ bits *[1024]uint64 }

func (s *idSet) has(id uint16) bool { return s.bits != nil && s.bits[id>>6]&(1<<(id&63)) != 0 }

func (s *idSet) add(id uint16) {
	if s.bits == nil {
		s.bits = new([1024]uint64)
	}
	s.bits[id>>6] |= 1 << (id & 63)
}

// remove reports whether id was there.
func (s *idSet) remove(id uint16) bool {
	if !s.has(id) {
		return false
	}
	s.bits[id>>6] &^= 1 << (id & 63)
	return true
}

// session is what outlives a connection. While it is attached its connection guards it, else sessions does.
type session struct {
	key      string
	expiry   time.Duration // after the connection; 0 ends with it
	received idSet         // QoS 2: taken and not yet released
	outgoing outgoing

	conn  *conn // nil while nobody is connected
	until time.Time
	place *list.Element // in sessions.offline
	bytes int           // that it is counted with there
	will  *will         // waits for its delay
}

// Sessions without their client take at most this, together; those gone for longest are forgotten. What a session takes beside the
// messages that it keeps is sessionBytes, and the set of identifiers of QoS 2.
const (
	sessionsBytesMax = 128 << 20
	sessionBytes     = 1 << 10
)

// weigh returns the bytes that a session without its client takes, about.
func (s *session) weigh(w *will) int {
	n := sessionBytes
	if s.received.bits != nil {
		n += len(s.received.bits) * 8
	}
	for i := range s.outgoing.inflight {
		n += len(s.outgoing.inflight[i].topic) + len(s.outgoing.inflight[i].payload)
	}
	if w != nil {
		n += w.bytes()
	}
	return n
}

// sessions holds those of all clients by credential and client identifier: a client can take over its own sessions only.
// In memory: after a restart clients find no session and subscribe again, as MQTT allows. Safe for concurrent use.
type sessions struct {
	now        func() time.Time
	offlineMax int

	mu      sync.Mutex
	byKey   map[string]*session
	offline *list.List // of *session, the longest gone first
	bytes   int        // of offline
	early   []*will    // of sessions that gave way; sweep gives them out
}

func newSessions(now func() time.Time, offlineMax int) *sessions {
	return &sessions{now: now, offlineMax: offlineMax, byKey: map[string]*session{}, offline: list.New()}
}

// attach gives c the session of its key, an old one (present) unless clean is asked for. A connection that holds it is ended
// first; errSessionBusy where it does not let go before ctx ends. due is the will of a session that this ends.
func (s *sessions) attach(ctx context.Context, key string, c *conn, clean bool) (got *session, present bool, due *will, err error) {
	for {
		s.mu.Lock()
		old := s.byKey[key]
		if old == nil || old.conn == nil {
			break
		}
		holder := old.conn
		s.mu.Unlock()
		holder.end(endTakenOver())
		select {
		case <-holder.gone:
		case <-ctx.Done():
			return nil, false, nil, errSessionBusy
		}
	}
	defer s.mu.Unlock()
	if old := s.byKey[key]; old != nil {
		s.takeOff(old)
		if !clean {
			old.conn, old.will = c, nil // it is back before the will was due
			return old, true, nil, nil
		}
		due = old.will // the old session ends here, and with it the wait (MQTT 5, 3.1.3.2.2)
	}
	got = &session{key: key, conn: c}
	s.byKey[key] = got
	return got, false, due, nil
}

// detach ends c's hold. w is the will to be published now or later, nil for none; it is returned if it is due now.
func (s *sessions) detach(got *session, w *will) (due *will) {
	s.mu.Lock()
	defer s.mu.Unlock()
	got.conn = nil
	if got.expiry <= 0 {
		delete(s.byKey, got.key)
		return w
	}
	now := s.now()
	got.until = now.Add(got.expiry)
	got.place, got.bytes = s.offline.PushBack(got), got.weigh(w)
	s.bytes += got.bytes
	s.makeRoom(got)
	if w != nil && w.delay > 0 {
		w.due = now.Add(min(w.delay, got.expiry))
		got.will = w
		w = nil
	}
	return w
}

// takeOff takes a session off those without their client.
func (s *sessions) takeOff(gone *session) {
	s.offline.Remove(gone.place)
	s.bytes -= gone.bytes
	gone.place, gone.bytes = nil, 0
}

// makeRoom forgets the sessions that take too much together, but newest.
func (s *sessions) makeRoom(newest *session) {
	for s.bytes > sessionsBytesMax {
		gone, ok := s.offline.Front().Value.(*session)
		if !ok || gone == newest {
			return
		}
		s.takeOff(gone)
		delete(s.byKey, gone.key)
		if gone.will != nil {
			s.early = append(s.early, gone.will)
		}
	}
}

// sweep forgets the sessions that have expired, or are too many, and returns the wills that are due.
func (s *sessions) sweep() []*will {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	due := s.early
	s.early = nil
	for at := s.offline.Front(); at != nil; {
		next := at.Next()
		gone, ok := at.Value.(*session)
		tooMany := s.offline.Len() > s.offlineMax
		if ok && (tooMany || !now.Before(gone.until)) {
			s.takeOff(gone)
			delete(s.byKey, gone.key)
			if gone.will != nil {
				gone.will.due = now
			}
		}
		if ok && gone.will != nil && !now.Before(gone.will.due) {
			due = append(due, gone.will)
			gone.will = nil
		}
		at = next
	}
	return due
}

// expiryOf returns how long a session may be kept: seconds as a client asks for, 0xFFFFFFFF for ever, at most the limit.
func expiryOf(seconds uint32, limit time.Duration) time.Duration {
	if seconds == math.MaxUint32 {
		return limit
	}
	return min(time.Duration(seconds)*time.Second, limit)
}
