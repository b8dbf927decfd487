package mem

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/millrace/millrace/pkg/bus"
)

type ownFunc func(context.Context, bus.Share) error

// group deals the shares out to its members. A share moves when a member joins or leaves, and only after its owner's
// function has returned.
type group struct {
	mu      sync.Mutex
	members []*member // in the order in which they joined
	claims  []*claim  // by share number, nil while nobody has it
}

// claim is a share's owner.
type claim struct {
	owner  *member
	cancel context.CancelFunc
	lapsed bool // the share was taken away although own still runs
}

// member is one call of Subscribe.
type member struct {
	log     *Log
	group   *group
	name    string
	topics  []string
	own     ownFunc
	ctx     context.Context //nolint:containedctx // a member is one call, and this is the call's context
	leave   context.CancelFunc
	running sync.WaitGroup

	asleep  bool // guarded by the group's mu: it gets no share
	zombies int  // likewise: owns that still run on shares that were taken away

	mu  sync.Mutex
	err error // the first that an own returned
}

// Subscribe implements bus.Log. Shares are dealt out evenly over the members of all handles. From the moment a group joins
// it holds the records of its topics until it has committed.
func (l *Log) Subscribe(ctx context.Context, name string, topics []string, own func(context.Context, bus.Share) error) error {
	if err := l.join(ctx, name, topics, own); err != nil {
		return fmt.Errorf("subscribe %s to %v: %w", name, topics, err)
	}
	return nil
}

func (l *Log) join(ctx context.Context, name string, topics []string, own ownFunc) error {
	if err := l.fault(); err != nil {
		return err
	}
	if err := l.disk.hold(name, topics); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return nil
	}
	life, leave := context.WithCancel(ctx)
	defer leave()
	m := &member{log: l, group: l.disk.group(name), name: name, topics: slices.Clone(topics), own: own, ctx: life, leave: leave}
	//nolint:contextcheck // a share's owner may be another member, and each has its own call's context
	m.group.change(func() { m.group.members = append(m.group.members, m) })
	select {
	case <-life.Done():
	case <-l.down:
		leave()
	}
	//nolint:contextcheck // as above
	m.group.change(func() { m.group.members = slices.DeleteFunc(m.group.members, func(o *member) bool { return o == m }) })
	m.running.Wait()
	if m.err != nil {
		return m.err
	}
	if ctx.Err() != nil {
		return nil
	}
	return l.fault()
}

// hold makes name a reader of every partition of topics.
func (d *disk) hold(name string, topics []string) error {
	if name == "" || len(topics) == 0 {
		return fmt.Errorf("group %q of %d topics, want a name and at least one topic", name, len(topics))
	}
	for _, topic := range topics {
		for n := range d.cfg.Partitions {
			p, err := d.partition(bus.PartitionID{Topic: topic, Number: n})
			if err != nil {
				return fmt.Errorf("topic %q: %w", topic, err)
			}
			p.mu.Lock()
			if _, ok := p.committed[name]; !ok {
				p.committed[name] = bus.Progress{}
			}
			p.mu.Unlock()
		}
	}
	return nil
}

func (d *disk) group(name string) *group {
	d.mu.Lock()
	defer d.mu.Unlock()
	g, ok := d.groups[name]
	if !ok {
		g = &group{claims: make([]*claim, d.cfg.Partitions)}
		d.groups[name] = g
	}
	return g
}

// change applies f to the members or claims and then moves shares towards where they should be.
func (g *group) change(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
	for number := range g.claims {
		c, want := g.claims[number], g.wanted(number)
		switch {
		case c == nil && want != nil:
			g.give(number, want)
		case c != nil && c.owner != want:
			c.cancel() // its return calls change again
		}
	}
}

// wanted returns the member that should have the share: they are dealt out in turn to those that are not leaving.
func (g *group) wanted(number int) *member {
	staying := 0
	for _, m := range g.members {
		if m.stays() {
			staying++
		}
	}
	turn := 0
	for _, m := range g.members {
		if !m.stays() {
			continue
		}
		if turn == number%staying {
			return m
		}
		turn++
	}
	return nil
}

// stays says whether shares may be given to m. The group's mu is held.
func (m *member) stays() bool { return m.ctx.Err() == nil && !m.asleep && m.zombies == 0 }

// give starts m's own on the share. g.mu is held, and m is a member, so that m.running is not waited for yet.
func (g *group) give(number int, m *member) {
	ctx, cancel := context.WithCancel(m.ctx)
	c := &claim{owner: m, cancel: cancel}
	g.claims[number] = c
	m.running.Go(func() {
		defer cancel()
		err := m.own(ctx, m.share(number))
		ended := ctx.Err() == nil // by itself, which ends the subscription
		m.mu.Lock()
		if m.err == nil && err != nil {
			m.err = err
		}
		m.mu.Unlock()
		if ended {
			m.leave()
		}
		g.change(func() { //nolint:contextcheck // the next owner has a context of its own
			if c.lapsed {
				m.zombies--
			} else {
				g.claims[number] = nil
			}
			if ended {
				g.members = slices.DeleteFunc(g.members, func(o *member) bool { return o == m })
			}
		})
	})
}

// Lapse is what a pause past every lease does to the process that holds this handle: its shares are given to other members at
// once, although their owners' functions go on, with contexts that end only when wake is called. Until then, and until those
// functions have returned, the handle's members get no share. What a zombie does in between is for the stores to fence and for
// readers to drop.
func (l *Log) Lapse() (wake func()) {
	l.disk.mu.Lock()
	groups := slices.Collect(maps.Values(l.disk.groups))
	l.disk.mu.Unlock()
	var wakes []func()
	for _, g := range groups {
		wakes = append(wakes, g.lapse(l))
	}
	return func() {
		for _, wake := range wakes {
			wake()
		}
	}
}

func (g *group) lapse(l *Log) (wake func()) {
	var cancels []context.CancelFunc
	var asleep []*member
	g.change(func() {
		for number, c := range g.claims {
			if c != nil && c.owner.log == l {
				c.lapsed = true
				c.owner.zombies++
				cancels = append(cancels, c.cancel)
				g.claims[number] = nil
			}
		}
		for _, m := range g.members {
			if m.log == l {
				m.asleep = true
				asleep = append(asleep, m)
			}
		}
	})
	return func() {
		for _, cancel := range cancels {
			cancel()
		}
		g.change(func() {
			for _, m := range asleep {
				m.asleep = false
			}
		})
	}
}

func (m *member) share(number int) bus.Share {
	s := bus.Share{Number: number}
	for _, topic := range m.topics {
		p := m.log.disk.partitions[bus.PartitionID{Topic: topic, Number: number}] // hold has seen that it is there
		s.Partitions = append(s.Partitions, &view{log: m.log, part: p, group: m.name})
	}
	return s
}
