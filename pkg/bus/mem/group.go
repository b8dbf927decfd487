package mem

import (
	"context"
	"fmt"
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
	claims  []claim   // by share number
}

// claim is a share's present owner.
type claim struct {
	owner  *member // nil while nobody has it
	cancel context.CancelFunc
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
		g = &group{claims: make([]claim, d.cfg.Partitions)}
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
		c, want := &g.claims[number], g.wanted(number)
		switch {
		case c.owner == want:
		case c.owner != nil:
			c.cancel() // its return calls change again
		default:
			g.give(number, want)
		}
	}
}

// wanted returns the member that should have the share: they are dealt out in turn to those that are not leaving.
func (g *group) wanted(number int) *member {
	staying := 0
	for _, m := range g.members {
		if m.ctx.Err() == nil {
			staying++
		}
	}
	turn := 0
	for _, m := range g.members {
		if m.ctx.Err() != nil {
			continue
		}
		if turn == number%staying {
			return m
		}
		turn++
	}
	return nil
}

// give starts m's own on the share. g.mu is held, and m is a member, so that m.running is not waited for yet.
func (g *group) give(number int, m *member) {
	ctx, cancel := context.WithCancel(m.ctx)
	g.claims[number] = claim{owner: m, cancel: cancel}
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
			g.claims[number] = claim{}
			if ended {
				g.members = slices.DeleteFunc(g.members, func(o *member) bool { return o == m })
			}
		})
	})
}

func (m *member) share(number int) bus.Share {
	s := bus.Share{Number: number}
	for _, topic := range m.topics {
		p := m.log.disk.partitions[bus.PartitionID{Topic: topic, Number: number}] // hold has seen that it is there
		s.Partitions = append(s.Partitions, &view{log: m.log, part: p, group: m.name})
	}
	return s
}
