package nats

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
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

// endOverdue ends the leases of processes that have not renewed them for Config.Lease, until ctx ends.
func (r *roster) endOverdue(ctx context.Context) {
	lifetime := r.log.cfg.Lease
	for wait := lifetime / 3; pause(ctx, wait); {
		overdue, next := r.overdue()
		for id, revision := range overdue {
			r.endLease(ctx, id, revision)
		}
		const least = 10 * time.Millisecond
		wait = min(max(next, least), lifetime/3)
	}
}

// overdue returns the leases to end by their revisions, and how long until the next one may be.
func (r *roster) overdue() (ids map[string]uint64, next time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids, next = map[string]uint64{}, r.log.cfg.Lease
	now := r.log.cfg.Now()
	for id, s := range r.leases {
		if s.over || r.mine != nil && r.mine.id == id {
			continue
		}
		left := r.log.cfg.Lease - now.Sub(s.seen)
		if left <= 0 {
			ids[id] = s.revision
		} else {
			next = min(next, left)
		}
	}
	return ids, next
}

// endLease ends a lease unless it was renewed meanwhile, which the server decides.
func (r *roster) endLease(ctx context.Context, id string, at uint64) {
	_, err := r.write(ctx, leasePrefix+id, "", at)
	if err != nil && !changedByOther(err) {
		return // and try again
	}
	r.mu.Lock()
	s := r.leases[id]
	if s == nil || s.revision != at {
		r.mu.Unlock()
		return
	}
	if err != nil {
		s.seen = r.log.cfg.Now() // it lives, although its renewals do not get here
		r.mu.Unlock()
		return
	}
	s.over = true
	var orphans []string
	for group, g := range r.groups {
		for member, m := range g.members {
			if leaseOf(member) == id && !m.over {
				orphans = append(orphans, memberPrefix+group+"."+member)
			}
		}
	}
	r.tell()
	r.mu.Unlock()
	r.log.cfg.Log.Info("a process that reads the log has died; its shares go to others", "lease", id)
	for _, key := range orphans {
		_ = r.erase(ctx, key) // tidiness only
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

// apply takes one entry of the bucket. age is how old it is by the server's clock. It reports whether members should know.
func (r *roster) apply(key, value string, revision uint64, age time.Duration) bool {
	kind, rest, _ := strings.Cut(key, ".")
	switch kind + "." {
	case leasePrefix:
		return r.applyLease(rest, value == "", revision, age)
	case memberPrefix:
		group, member, _ := strings.Cut(rest, ".")
		joined, err := strconv.ParseInt(value, 10, 64)
		r.group(group).members[member] = &seenMember{joined: joined, leaving: err != nil, over: value == ""}
		r.refer(leaseOf(member))
	case sharePrefix:
		group, number, _ := strings.Cut(rest, ".")
		n, err := strconv.Atoi(number)
		if err != nil {
			return false
		}
		r.group(group).shares[n] = claim{owner: value, revision: revision}
		r.refer(leaseOf(value))
	}
	return true
}

func (r *roster) applyLease(id string, over bool, revision uint64, age time.Duration) bool {
	s, now := r.leases[id], r.log.cfg.Now()
	if known := r.before[id]; known != nil && known.revision == revision {
		r.leases[id] = known
		return false
	}
	if s == nil {
		// One that is found old needs no full lease of watching, but enough that a living one is renewed in that time.
		lifetime := r.log.cfg.Lease
		r.leases[id] = &seenLease{revision: revision, over: over, seen: now.Add(-min(max(age-lifetime, 0), lifetime-lifetime/3))}
		return true
	}
	if s.revision == revision {
		return false
	}
	news := s.over != over
	s.revision, s.over, s.seen = revision, over, now
	return news
}

// follow keeps the roster up to date until ctx ends.
func (r *roster) follow(ctx context.Context) {
	const again = 100 * time.Millisecond
	for ctx.Err() == nil {
		err := r.read(ctx)
		if ctx.Err() != nil || errors.Is(err, nats.ErrConnectionClosed) {
			return
		}
		r.log.cfg.Log.Debug("follow the groups again", "error", err)
		if !pause(ctx, again) {
			return
		}
	}
}

// read takes what the bucket has, and then every change, until that breaks.
func (r *roster) read(ctx context.Context) error {
	l := r.log
	bounded, cause, cancel := l.bounded(ctx, requestTimeout)
	defer cancel()
	stream := keyValuePrefix + l.cfg.Prefix + groupsBucket
	consumer, err := l.js.CreateConsumer(bounded, stream, jetstream.ConsumerConfig{
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: consumerInactive,
		DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, FilterSubject: "$KV." + l.cfg.Prefix + groupsBucket + ".>",
	})
	if err != nil {
		return errors.Join(cause(), err)
	}
	info := consumer.CachedInfo()
	fresh := r.afresh()
	if info.NumPending == 0 {
		r.adopt(ctx, fresh)
	}
	prefix := "$KV." + l.cfg.Prefix + groupsBucket + "."
	return l.deliver(ctx, stream, consumer, max(l.cfg.Lease/4, heartbeatMin), func(msg *nats.Msg, meta *nats.MsgMetadata) bool {
		key, value := strings.TrimPrefix(msg.Subject, prefix), string(msg.Data)
		age := info.TimeStamp.Sub(meta.Timestamp)
		if fresh.loaded { // and what it knows is r's by now
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.apply(key, value, meta.Sequence.Stream, age) {
				r.tell()
			}
			return true
		}
		fresh.apply(key, value, meta.Sequence.Stream, age)
		if value == "" && age > staleLeases*l.cfg.Lease && !strings.HasPrefix(key, sharePrefix) {
			fresh.stale = append(fresh.stale, key)
		}
		if meta.NumPending == 0 {
			r.adopt(ctx, fresh)
		}
		return true
	})
}

// afresh returns an empty roster that knows since when the leases have the revisions that they have.
func (r *roster) afresh() *roster {
	fresh := newRoster(r.log)
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh.before = map[string]*seenLease{}
	for id, s := range r.leases {
		known := *s
		fresh.before[id] = &known
	}
	return fresh
}

// adopt replaces what r knows by what fresh has read.
func (r *roster) adopt(ctx context.Context, fresh *roster) {
	fresh.loaded, fresh.before = true, nil
	r.set(func() {
		r.leases, r.groups, r.loaded = fresh.leases, fresh.groups, true
	})
	r.running.Go(func() { r.tidy(ctx, fresh.stale) })
}

// tidy removes leases and members from the bucket that have long been over and own nothing.
func (r *roster) tidy(ctx context.Context, keys []string) {
	for _, key := range keys[:min(len(keys), tidyMax)] {
		if r.owns(key) {
			continue
		}
		bounded, _, cancel := r.log.bounded(ctx, requestTimeout)
		stream, err := r.log.js.Stream(bounded, keyValuePrefix+r.log.cfg.Prefix+groupsBucket)
		if err == nil {
			err = stream.Purge(bounded, jetstream.WithPurgeSubject("$KV."+r.log.cfg.Prefix+groupsBucket+"."+key))
		}
		cancel()
		if err != nil {
			return // the next one who comes will do it
		}
	}
}

// owns reports whether a share is recorded as belonging to the lease or member of that key.
func (r *roster) owns(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for group, g := range r.groups {
		for _, c := range g.shares {
			if key == leasePrefix+leaseOf(c.owner) || key == memberPrefix+group+"."+c.owner {
				return true
			}
		}
	}
	return false
}
