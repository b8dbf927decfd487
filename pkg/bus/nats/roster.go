package nats

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// The keys of the bucket of groups. An empty value says that what the key stands for is over.
const (
	leasePrefix  = "lease."  // lease.<id>: a process, as long as it is renewed
	memberPrefix = "member." // member.<group>.<lease>.<n>: when the member joined, Unix nanoseconds, or leavingValue
	sharePrefix  = "share."  // share.<group>.<number>: the member that owns it
	leavingValue = "leaving" // of a member that wants no share any more but may still hold some

	staleLeases  = 10 // lifetimes, after which what is over may be forgotten
	tidyMax      = 64 // keys
	heartbeatMin = 100 * time.Millisecond
)

// roster is what this process knows of the members of all groups and of who owns which share. It follows the bucket of groups; what it
// says may be late, so every decision is a write that the server takes only at the revision that the roster has seen.
//
// It lives as long as this process has members: enter and leave.
type roster struct {
	log     *Log
	stop    context.CancelFunc
	running sync.WaitGroup

	mu         sync.Mutex
	changed    chan struct{} // closed and replaced by every change that is more than a renewal
	loaded     bool
	failure    error  // the connection was closed for good
	mine       *lease // nil while there is none
	generation int    // counts how often the server forgot everything
	quietUntil time.Time
	leases     map[string]*seenLease
	groups     map[string]*seenGroup
	left       map[string]bool       // keys of members that are still to be erased
	before     map[string]*seenLease // while it is read afresh: what was known
	stale      []string              // likewise: keys that have long been over
}

// seenLease is another process's lease, or this one's.
type seenLease struct {
	revision uint64 // 0 where it is only known from what refers to it
	over     bool
	seen     time.Time // when the revision was first seen
}

type seenGroup struct {
	members map[string]*seenMember
	shares  map[int]claim
}

type seenMember struct {
	joined  int64 // Unix nanoseconds
	leaving bool
	over    bool
}

// claim is who owns a share, as of a revision of its key.
type claim struct {
	owner    string // "" for nobody
	revision uint64
}

func newRoster(l *Log) *roster {
	return &roster{log: l, changed: make(chan struct{}), leases: map[string]*seenLease{}, groups: map[string]*seenGroup{}, left: map[string]bool{}}
}

// enter returns the process's roster, which the first member starts.
func (l *Log) enter() *roster {
	l.rosterMu.Lock()
	defer l.rosterMu.Unlock()
	if l.members++; l.members > 1 {
		return l.roster
	}
	r := newRoster(l)
	life, stop := context.WithCancel(l.life)
	r.stop = stop
	r.running.Go(func() { r.hold(life) })
	r.running.Go(func() { r.follow(life) })
	r.running.Go(func() { r.endOverdue(life) })
	l.roster = r
	return r
}

// leave stops the roster with the last member.
func (l *Log) leave() {
	l.rosterMu.Lock()
	defer l.rosterMu.Unlock()
	if l.members--; l.members == 0 {
		l.roster.stop()
		l.roster.running.Wait()
		l.roster = nil
	}
}

// hold has a lease for the process until ctx ends: another one after each that is lost.
func (r *roster) hold(ctx context.Context) {
	for ctx.Err() == nil {
		h, err := r.acquireLease(ctx)
		if h == nil {
			r.set(func() { r.failure = err })
			return
		}
		r.set(func() { r.mine = h })
		h.keep(h.life) //nolint:contextcheck // it ends with ctx, or with the lease
		r.set(func() { r.mine = nil })
		r.running.Go(func() {
			h.using.Wait() // until then it may own something
			if r.log.life.Err() == nil {
				h.end(ctx)
			}
		})
	}
}

// lease returns the process's lease, in use by one more member, as soon as there is one; nil when ctx has ended.
func (r *roster) lease(ctx context.Context) (*lease, error) {
	for {
		r.mu.Lock()
		h, failure, changed := r.mine, r.failure, r.changed
		if h != nil {
			h.using.Add(1)
		}
		r.mu.Unlock()
		if h != nil || failure != nil {
			return h, failure
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, nil
		}
	}
}

// set changes the roster and tells the members.
func (r *roster) set(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	r.tell()
}

func (r *roster) tell() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// forgotten says that the server had nothing any more, and that this process has put its lease back. Who owned nothing
// waits before it claims a share, so that the owners put theirs back.
func (r *roster) forgotten() {
	r.set(func() {
		r.generation++
		r.quietUntil = r.log.cfg.Now().Add(r.log.cfg.Lease / 2)
	})
}

// write puts a value where the key has the given revision: 0 is a key that was never written.
func (r *roster) write(ctx context.Context, key, value string, at uint64) (uint64, error) {
	bounded, cause, cancel := r.log.bounded(ctx, r.log.cfg.Lease/3)
	defer cancel()
	revision, err := r.log.groups.Update(bounded, key, []byte(value), at)
	if err != nil {
		return 0, errors.Join(cause(), err)
	}
	return revision, nil
}

// erase says that what the key stands for is over.
func (r *roster) erase(ctx context.Context, key string) error {
	bounded, cause, cancel := r.log.bounded(ctx, r.log.cfg.Lease/3)
	defer cancel()
	if _, err := r.log.groups.Put(bounded, key, nil); err != nil {
		return errors.Join(cause(), err)
	}
	return nil
}

type keyState int

const (
	absent keyState = iota
	present
	erased
)

// look asks the server for a key.
func (r *roster) look(ctx context.Context, key string) (revision uint64, state keyState, err error) {
	bounded, cause, cancel := r.log.bounded(ctx, r.log.cfg.Lease/3)
	defer cancel()
	entry, err := r.log.groups.Get(bounded, key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return 0, absent, nil
	case err != nil:
		return 0, absent, errors.Join(cause(), err)
	case len(entry.Value()) == 0:
		return entry.Revision(), erased, nil
	}
	return entry.Revision(), present, nil
}

// sayLeft erases the members that could not say themselves that they have left.
func (r *roster) sayLeft(ctx context.Context) {
	r.mu.Lock()
	var keys []string
	for key := range r.left {
		keys = append(keys, key)
	}
	r.mu.Unlock()
	for _, key := range keys {
		if r.erase(ctx, key) != nil {
			return
		}
		r.mu.Lock()
		delete(r.left, key)
		r.mu.Unlock()
	}
}

// leaseOf returns the lease of a member.
func leaseOf(member string) string { return member[:max(strings.LastIndexByte(member, '.'), 0)] }

// standing is what a member must know to act.
type standing struct {
	generation int
	changed    <-chan struct{} // closed when it is out of date
	rank, of   int             // among the members that want shares, by age
	shares     []claim         // by number
	until      time.Time       // nothing that nobody has is to be claimed before
}

// standing returns how things stand for a member. ok is false while the roster is not loaded.
func (r *roster) standing(group, self string, joined int64) (s standing, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s = standing{generation: r.generation, changed: r.changed, of: 1, until: r.quietUntil}
	if !r.loaded {
		return s, false
	}
	g := r.group(group)
	for id, m := range g.members {
		if id == self || m.over || m.leaving || r.isOver(leaseOf(id)) {
			continue
		}
		s.of++
		if m.joined < joined || m.joined == joined && id < self {
			s.rank++
		}
	}
	s.shares = make([]claim, r.log.cfg.Partitions)
	for n := range s.shares {
		c := g.shares[n]
		if g.gone(c.owner) || r.isOver(leaseOf(c.owner)) {
			c.owner = ""
		}
		s.shares[n] = c
	}
	return s, true
}

// gone reports whether a member has said that it owns nothing any more.
func (g *seenGroup) gone(member string) bool {
	m := g.members[member]
	return m != nil && m.over
}

// isOver reports whether a lease is known to be over, not merely unknown.
func (r *roster) isOver(lease string) bool {
	s := r.leases[lease]
	return s != nil && s.over
}

func (r *roster) group(name string) *seenGroup {
	g := r.groups[name]
	if g == nil {
		g = &seenGroup{members: map[string]*seenMember{}, shares: map[int]claim{}}
		r.groups[name] = g
	}
	return g
}

// refer makes sure that a lease is watched that something refers to.
func (r *roster) refer(lease string) {
	if lease != "" && r.leases[lease] == nil {
		s := &seenLease{seen: r.log.cfg.Now()}
		if known := r.before[lease]; known != nil {
			s.seen = known.seen
		}
		r.leases[lease] = s
	}
}
