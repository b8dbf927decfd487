package nats

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/millrace/millrace/pkg/bus"
)

type ownFunc func(context.Context, bus.Share) error

// member is one call of Subscribe under one lease. Each member takes its part of the shares by itself: as many as all have
// on average, the oldest ones one more where it does not come out even. Whoever has too many gives some up, and takes them off the
// books only when own has returned; whoever has too few takes what nobody has. So no share moves without need.
type member struct {
	log    *Log
	roster *roster
	lease  *lease
	group  string // as in keys
	id     string
	joined int64 // Unix nanoseconds
	share  func(number int) bus.Share
	own    ownFunc
	wake   chan struct{} // of size 1: an own has returned
	owning sync.WaitGroup

	mu       sync.Mutex
	held     map[int]*holding
	released map[int]uint64 // the revision at which a share was last given away
	ended    bool           // an own has returned by itself
	err      error          // the first of an own
}

// holding is a share that own has.
type holding struct {
	revision uint64          // of its key
	life     context.Context //nolint:containedctx // own's
	give     context.CancelFunc
}

func (m *member) key() string           { return memberPrefix + m.group + "." + m.id }
func (m *member) shareKey(n int) string { return sharePrefix + m.group + "." + strconv.Itoa(n) }

// serve is the member's life: until ctx or the lease ends, or an own returns by itself. All own have returned then.
func (m *member) serve(ctx context.Context) {
	term, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(m.lease.life, stop)() //nolint:contextcheck // the lease ends it, whatever ctx says
	generation := -1
	for term.Err() == nil && !m.hasEnded() {
		s, ok := m.roster.standing(m.group, m.id, m.joined)
		wait := m.log.cfg.Lease
		switch {
		case !ok:
		case s.generation != generation:
			if wait = acquireEvery; m.announce(term) {
				generation, wait = s.generation, 0
			}
		default:
			wait = m.adjust(term, s)
		}
		m.await(term, s.changed, wait)
	}
	stop()
	m.part(ctx)
}

func (m *member) await(ctx context.Context, changed <-chan struct{}, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-changed:
	case <-m.wake:
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (m *member) hasEnded() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ended
}

// announce writes the member's key, and what it owns where the server has forgotten that.
func (m *member) announce(ctx context.Context) bool {
	bounded, cause, cancel := m.log.bounded(ctx, m.log.cfg.Lease/3)
	defer cancel()
	if _, err := m.log.groups.Put(bounded, m.key(), strconv.AppendInt(nil, m.joined, 10)); err != nil {
		m.log.cfg.Log.Debug("cannot join a group; trying on", "group", m.group, "error", err, "cause", cause())
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for n, h := range m.held {
		revision, err := m.roster.write(ctx, m.shareKey(n), m.id, 0)
		switch {
		case err == nil:
			h.revision = revision
		case changedByOther(err):
			m.lose(n, h)
		default:
			return false
		}
	}
	return true
}

// lose ends the own of a share that has another owner. m.mu is held.
func (m *member) lose(n int, h *holding) {
	if h.life.Err() == nil {
		m.log.cfg.Log.Warn("another member has taken a share", "group", m.group, "share", n)
	}
	h.give()
}

// adjust gives up or takes shares, and returns when to look again at the latest.
func (m *member) adjust(ctx context.Context, s standing) time.Duration {
	quota := len(s.shares) / s.of
	if s.rank < len(s.shares)%s.of {
		quota++
	}
	want := quota - m.keep(quota, s.shares)
	wait := m.log.cfg.Lease
	first := s.rank * len(s.shares) / s.of // so that not all try for the same one
	for i := range s.shares {
		n := (first + i) % len(s.shares)
		c := s.shares[n]
		switch {
		case c.owner != "" && c.owner != m.id || m.has(n) || c.owner == m.id && m.isReleased(n, c.revision):
		case want <= 0:
			if c.owner == m.id { // a claim whose answer was lost
				_, _ = m.roster.write(ctx, m.shareKey(n), "", c.revision)
			}
		case c.owner == "" && m.log.cfg.Now().Before(s.until):
			wait = acquireEvery
		case m.claim(ctx, n, c.revision):
			want--
		default:
			wait = acquireEvery
		}
	}
	return wait
}

// keep gives up what is more than quota, and what others have, and returns how many shares stay.
func (m *member) keep(quota int, shares []claim) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	var staying []int
	for n, h := range m.held {
		if c := shares[n]; c.owner != "" && c.owner != m.id && c.revision > h.revision {
			m.lose(n, h)
		}
		if h.life.Err() == nil {
			staying = append(staying, n)
		}
	}
	slices.Sort(staying)
	for len(staying) > quota {
		last := len(staying) - 1
		m.held[staying[last]].give()
		staying = staying[:last]
	}
	return len(staying)
}

func (m *member) has(n int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held[n] != nil
}

func (m *member) isReleased(n int, revision uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, ok := m.released[n]
	return ok && at == revision
}

// claim makes the share this member's, if the server agrees, and starts own on it.
func (m *member) claim(ctx context.Context, n int, at uint64) bool {
	revision, err := m.roster.write(ctx, m.shareKey(n), m.id, at)
	if err != nil {
		if !changedByOther(err) && ctx.Err() == nil {
			m.log.cfg.Log.Debug("cannot claim a share; trying on", "group", m.group, "share", n, "error", err)
		}
		return false
	}
	life, give := context.WithCancel(ctx)
	h := &holding{revision: revision, life: life, give: give}
	m.mu.Lock()
	m.held[n] = h
	m.mu.Unlock()
	m.owning.Go(func() {
		defer give()
		err := m.own(life, m.share(n))
		m.returned(err, life.Err() == nil)
		m.release(ctx, n, h)
	})
	return true
}

// returned takes note of what an own has returned.
func (m *member) returned(err error, byItself bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = m.ended || byItself
	if m.err == nil {
		m.err = err
	}
	m.nudge()
}

func (m *member) nudge() {
	select {
	case m.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// release takes a share off the books after its own has returned. Should that not get through, adjust does it, or others see that
// the member or its lease is over.
func (m *member) release(ctx context.Context, n int, h *holding) {
	if m.mayWrite() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseMax)
		m.mu.Lock()
		at := h.revision
		m.mu.Unlock()
		_, err := m.roster.write(bounded, m.shareKey(n), "", at)
		cancel()
		m.mu.Lock()
		if err == nil || changedByOther(err) {
			m.released[n] = at
		}
		m.mu.Unlock()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.held, n)
	m.nudge()
}

// mayWrite reports whether the lease and the log are still there.
func (m *member) mayWrite() bool { return m.lease.life.Err() == nil && m.log.life.Err() == nil }

// part leaves the group: at first as one who wants nothing more, so that the others know what is theirs, and when every own
// has returned as one who has nothing more.
func (m *member) part(ctx context.Context) {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseMax)
	defer cancel()
	if m.mayWrite() {
		if _, err := m.log.groups.PutString(bounded, m.key(), leavingValue); err != nil {
			m.log.cfg.Log.Debug("cannot say that a member is leaving", "group", m.group, "error", err)
		}
	}
	m.owning.Wait()
	if !m.mayWrite() {
		return
	}
	bounded, cancelLast := context.WithTimeout(context.WithoutCancel(ctx), releaseMax)
	defer cancelLast()
	if err := m.roster.erase(bounded, m.key()); err != nil {
		m.roster.mu.Lock()
		m.roster.left[m.key()] = true // with the next renewal that gets through
		m.roster.mu.Unlock()
	}
}
