package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/millrace/millrace/pkg/bus"
)

const (
	beatsALease  = 5
	beatMax      = 2 * time.Second // how late a member sees that another one came or left
	beatPatience = 3               // the part of a lease within which a beat is answered, or was in vain
	joinPause    = 250 * time.Millisecond
	leaveMax     = 3 * time.Second
)

type ownFunc func(context.Context, bus.Share) error

// Subscribe implements bus.Log. The shares are dealt out evenly over the group's members, and stay where they are as far as that goes
// (see deal). Another member takes over within Config.Lease after one died, and at once after one left. From its first Subscribe
// on a group holds the records of its topics until it has committed.
func (l *Log) Subscribe(ctx context.Context, group string, topics []string, own func(context.Context, bus.Share) error) error {
	if err := l.subscribe(ctx, group, topics, own); err != nil {
		return fmt.Errorf("subscribe %s to %v: %w", group, topics, err)
	}
	return nil
}

func (l *Log) subscribe(ctx context.Context, group string, topics []string, own ownFunc) error {
	if group == "" || len(topics) == 0 {
		return fmt.Errorf("group %q of %d topics, want a name and at least one topic", group, len(topics))
	}
	if err := l.fault(); err != nil {
		return err
	}
	for _, topic := range topics {
		if _, err := l.partition(bus.PartitionID{Topic: topic}); err != nil {
			return fmt.Errorf("topic %q: %w", topic, err)
		}
	}
	if ctx.Err() != nil {
		return nil //nolint:nilerr // it ended before it began
	}
	m := &member{
		log: l, group: l.cfg.Prefix + group, topics: topics, own: own,
		terms: map[int]*term{}, assigned: map[int]bool{}, returned: make(chan *term, l.cfg.Partitions),
	}
	if err := m.run(ctx); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return nil //nolint:nilerr // a clean end
	}
	return l.fault()
}

// member is one member of a group. What is not said to be shared belongs to the goroutine of run.
type member struct {
	log    *Log
	group  string // its name on Kafka
	topics []string
	own    ownFunc

	terms    map[int]*term // of the shares on which own runs, or has not returned yet
	assigned map[int]bool  // shares that the group's last deal gave this member
	returned chan *term    // those whose own has returned; there is room for all
	owns     sync.WaitGroup
	contact  time.Time // when the coordinator last knew this member
	rejoin   bool      // the next thing to do, when nothing is out
	out      bool      // no member at present: it joins again when every own has returned
	told     bool      // a warning that it cannot join was written
	fatal    error

	mu         sync.Mutex
	id         string // "" before it has joined; shared with commits, like generation
	generation int32
	first      error // of any own, shared with them
}

// term is the time during which a member owns a share.
type term struct {
	number int
	cancel context.CancelFunc
	ended  bool        // cancel was called, since the share is to go or is lost
	over   atomic.Bool // nothing may be committed any more
}

// standing returns under which name the member speaks for the group.
func (m *member) standing() (id string, generation int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.id, m.generation
}

func (m *member) stand(id string, generation int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.id, m.generation = id, generation
}

// run is a member's life.
func (m *member) run(ctx context.Context) error {
	life, leave := context.WithCancel(ctx)
	defer leave()
	defer context.AfterFunc(m.log.life, leave)() //nolint:contextcheck // Close ends it, whatever ctx says
	beat := time.NewTicker(min(m.log.cfg.Lease/beatsALease, beatMax))
	defer beat.Stop()
	m.rejoin = true
	done := life.Done()
	for {
		if m.rejoin && !m.out && life.Err() == nil {
			m.rejoin = false
			m.join(life, leave)
		}
		if life.Err() != nil {
			if len(m.terms) == 0 {
				break
			}
			m.rejoin = false // it comes to no new deal, and hears by its beats when that is made without it
		}
		select {
		case <-done:
			done = nil
			m.endAll()
		case t := <-m.returned:
			m.hasReturned(life, leave, t)
		case <-beat.C:
			m.beat(context.WithoutCancel(ctx)) // also while what is in hand is finished
		}
	}
	m.owns.Wait()
	m.quit(context.WithoutCancel(ctx))
	m.mu.Lock()
	defer m.mu.Unlock()
	return errors.Join(m.fatal, m.first)
}

// endAll ends every term, which lasts until its own has returned.
func (m *member) endAll() {
	for _, t := range m.terms {
		t.ended = true
		t.cancel()
	}
}

// lose is what happens when the group may have given the shares away. Their owns end, without another commit, and then the member
// joins anew.
func (m *member) lose(why error) {
	if m.out {
		return
	}
	if len(m.terms) > 0 {
		m.log.cfg.Log.Warn("lost the shares of a group", "group", m.group, "shares", len(m.terms), "error", why)
	}
	for _, t := range m.terms {
		t.over.Store(true)
	}
	m.endAll()
	clear(m.assigned)
	m.out, m.rejoin = len(m.terms) > 0, true
}

func (m *member) hasReturned(life context.Context, leave func(), t *term) {
	delete(m.terms, t.number)
	switch {
	case life.Err() != nil:
	case m.out:
		m.out = len(m.terms) > 0
	case m.assigned[t.number]: // it was to go, and was given back before it had
		m.start(life, leave, t.number)
	case !slices.ContainsFunc(slices.Collect(maps.Values(m.terms)), func(t *term) bool { return t.ended }):
		m.rejoin = true // without what it has let go
	}
}

// beat tells the coordinator that the member lives, and hears whether the group is to be dealt anew.
func (m *member) beat(ctx context.Context) {
	id, generation := m.standing()
	if m.out || m.rejoin || id == "" || m.log.fault() != nil {
		return
	}
	ctx, cancel := m.log.bounded(ctx, m.log.cfg.Lease/beatPatience)
	defer cancel()
	began := m.log.cfg.Now()
	body, err := m.log.askCoordinator(ctx, m.group, protocol.Heartbeat, heartbeatVersion, heartbeatRequest(m.group, generation, id))
	if err == nil {
		var fault int16
		if fault, err = parseHeartbeat(body); err == nil && fault != 0 {
			err = kafkago.Error(fault)
		}
	}
	m.judge(err, began)
}

// judge draws the conclusions from what the coordinator said, or did not say.
func (m *member) judge(err error, began time.Time) {
	switch {
	case err == nil:
		m.contact = began
	case errors.Is(err, kafkago.RebalanceInProgress):
		m.contact, m.rejoin = began, true
	case errors.Is(err, kafkago.UnknownMemberId):
		m.stand("", 0)
		m.lose(err)
	case errors.Is(err, kafkago.IllegalGeneration), errors.Is(err, kafkago.FencedInstanceID):
		m.lose(err)
	default:
		lifetime := m.log.cfg.Lease
		if len(m.terms) > 0 && m.log.cfg.Now().Sub(m.contact) > lifetime-lifetime/beatsALease {
			m.lose(fmt.Errorf("no word from the coordinator since %v: %w", m.contact.UTC(), err))
		}
	}
}

// quit lets the others take over at once. Should that not get through, the session runs out by itself.
func (m *member) quit(ctx context.Context) {
	id, _ := m.standing()
	if id == "" || m.log.fault() != nil {
		return
	}
	ctx, cancel := m.log.bounded(ctx, leaveMax)
	defer cancel()
	_, err := m.log.client.LeaveGroup(ctx, &kafkago.LeaveGroupRequest{GroupID: m.group, Members: []kafkago.LeaveGroupRequestMember{{ID: id}}})
	if err != nil {
		m.log.cfg.Log.Debug("cannot leave a group; the session runs out", "group", m.group, "error", err)
	}
}

// start begins a term.
func (m *member) start(life context.Context, leave func(), number int) {
	ctx, cancel := context.WithCancel(life)
	t := &term{number: number, cancel: cancel}
	m.terms[number] = t
	share := bus.Share{Number: number}
	commits := make([]*commit, 0, len(m.topics))
	for _, topic := range m.topics {
		part := m.log.parts[bus.PartitionID{Topic: topic, Number: number}]
		c := &commit{member: m, term: t, part: part}
		commits = append(commits, c)
		share.Partitions = append(share.Partitions, &view{log: m.log, part: part, commit: c})
	}
	m.owns.Go(func() {
		defer cancel()
		if m.mark(ctx, commits) {
			err := m.own(ctx, share)
			m.mu.Lock()
			if m.first == nil {
				m.first = err
			}
			m.mu.Unlock()
			if ctx.Err() == nil { // it returned although nobody asked it to
				leave()
			}
		}
		t.over.Store(true)
		m.returned <- t
	})
}

// mark makes the group known on each partition of a share and reports whether the term still lasts.
func (m *member) mark(ctx context.Context, commits []*commit) bool {
	for told := false; ; {
		var err error
		for _, c := range commits {
			if err = c.mark(ctx); err != nil {
				break
			}
		}
		if err == nil || ctx.Err() != nil {
			return ctx.Err() == nil
		}
		if !told {
			told = true
			m.log.cfg.Log.Warn("cannot read what a group has committed; trying on", "group", m.group, "error", err)
		}
		if !pause(ctx, joinPause) {
			return false
		}
	}
}
