package bustest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/millrace/millrace/pkg/bus"
)

// crowd is the members of one group, and who of them owns what.
type crowd struct {
	mu     sync.Mutex
	owners map[int]string
	faults []string
}

// crowdMember is one of them.
type crowdMember struct {
	leave context.CancelFunc
	done  <-chan error
}

// join makes a member, whose own lasts until its context ends.
func (c *crowd) join(t *testing.T, log bus.Log, name string) crowdMember {
	t.Helper()
	ctx, leave := context.WithCancel(within(t))
	return crowdMember{leave: leave, done: subscribe(ctx, log, "crowd", func(ctx context.Context, s bus.Share) error {
		c.mu.Lock()
		if other, taken := c.owners[s.Number]; taken {
			c.faults = append(c.faults, fmt.Sprintf("share %d came to %s while %s had it", s.Number, name, other))
		}
		c.owners[s.Number] = name
		c.mu.Unlock()
		<-ctx.Done()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.owners[s.Number] == name {
			delete(c.owners, s.Number)
		}
		return nil
	}, firstPartition().Topic)}
}

// forget takes a member out that is dead.
func (c *crowd) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.owners, func(_ int, owner string) bool { return owner == name })
}

// settle waits until the members own as many shares as each should.
func (c *crowd) settle(t *testing.T, want map[string]int) {
	t.Helper()
	count := func() map[string]int {
		c.mu.Lock()
		defer c.mu.Unlock()
		n := map[string]int{}
		for _, owner := range c.owners {
			n[owner]++
		}
		return n
	}
	<-asSoonAs(within(t), func() bool { return maps.Equal(count(), want) })
	if got := count(); !maps.Equal(got, want) {
		t.Errorf("the members own %v, want %v", got, want)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, fault := range c.faults {
		t.Error(fault)
	}
	c.faults = nil
}

func (m crowdMember) end(t *testing.T) {
	t.Helper()
	m.leave()
	if err := await(t, "the end of a member", m.done); err != nil {
		t.Error(err)
	}
}

func sharingOut(t *testing.T, d Driver) {
	i := d.Open(t, Options{Partitions: 6, RecordBytesMax: 1 << 10})
	c := &crowd{owners: map[int]string{}}
	one := c.join(t, i.Log, "one")
	c.settle(t, map[string]int{"one": 6})
	two := c.join(t, i.Again(t), "two")
	c.settle(t, map[string]int{"one": 3, "two": 3})
	three := c.join(t, i.Again(t), "three")
	c.settle(t, map[string]int{"one": 2, "two": 2, "three": 2})
	one.end(t)
	c.settle(t, map[string]int{"two": 3, "three": 3})
	three.end(t)
	c.settle(t, map[string]int{"two": 6})
	two.end(t)
	c.settle(t, map[string]int{})
}

func moreMembersThanShares(t *testing.T, d Driver) {
	i := open(t, d)
	c := &crowd{owners: map[int]string{}}
	all := map[string]crowdMember{"one": c.join(t, i.Log, "one")}
	c.settle(t, map[string]int{"one": 2})
	for _, name := range []string{"two", "three"} {
		all[name] = c.join(t, i.Again(t), name)
	}
	for len(all) > 0 {
		owners := c.oneEach(t, min(len(all), 2), 2)
		all[owners[0]].end(t)
		delete(all, owners[0])
	}
}

// oneEach waits until so many members own all the shares, and returns their names.
func (c *crowd) oneEach(t *testing.T, members, shares int) []string {
	t.Helper()
	owners := func() ([]string, int) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return slices.Compact(slices.Sorted(maps.Values(c.owners))), len(c.owners)
	}
	<-asSoonAs(within(t), func() bool { names, n := owners(); return len(names) == members && n == shares })
	names, n := owners()
	if len(names) != members || n != shares {
		t.Fatalf("%d shares are with %v, want all %d with %d members", n, names, shares, members)
	}
	return names
}

func silentDeath(t *testing.T, d Driver) {
	i := d.Open(t, Options{Partitions: 4, RecordBytesMax: 1 << 10})
	if i.Mortal == nil {
		t.Skip("the driver's members live in the process that has its engine")
	}
	c := &crowd{owners: map[int]string{}}
	one := c.join(t, i.Log, "one")
	c.settle(t, map[string]int{"one": 4})
	log, die := i.Mortal(t)
	two := c.join(t, log, "two")
	c.settle(t, map[string]int{"one": 2, "two": 2})
	die()
	c.forget("two") // a hung process does not know that it owns nothing any more
	c.settle(t, map[string]int{"one": 4})
	two.leave()
	if err := await(t, "the end of the dead member", two.done); err != nil {
		t.Logf("the dead member ended with %v", err)
	}
	one.end(t)
}
