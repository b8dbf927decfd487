package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/pkg/mqtt"
)

const (
	// share is how many messages of one device are under way at most. The router knows a repeat among a device's last 128 messages.
	share = 50
	// pause is between two attempts of a device that gets no answer.
	pause = 50 * time.Millisecond
	// keepAlive is how soon a device leaves a connection on which nothing moves.
	keepAlive = 5 * time.Second
)

// Fleet is all devices of a ledger, sending.
type Fleet struct {
	Ledger *Ledger
	MQTT   func() string // host:port, asked for each connection
	HTTP   func() string // base URL, asked for each request
	Rate   int           // messages a second, of all devices together; 0 is as many as are taken

	pace pace

	again    atomic.Int64 // attempts that ended without an answer
	mu       sync.Mutex
	oddities []string
}

// Run sends everything and returns when all of it is acknowledged or given up, or ctx ends.
func (f *Fleet) Run(ctx context.Context) {
	if f.Rate > 0 {
		f.pace.every = time.Second / time.Duration(f.Rate)
	}
	var all sync.WaitGroup
	p := f.Ledger.Plan
	for g := range p.Groups {
		grp := group{fleet: f, number: g}
		for d := g; d < p.Devices; d += p.Groups {
			grp.devices = append(grp.devices, d)
		}
		if g%2 == 0 {
			all.Go(func() { grp.mqtt(ctx) })
		} else {
			all.Go(func() { grp.http(ctx) })
		}
	}
	all.Wait()
}

// Interrupted returns how many connections and requests ended without an answer to all of it.
func (f *Fleet) Interrupted() int { return int(f.again.Load()) }

// Oddities returns answers that no device should get, a few of them.
func (f *Fleet) Oddities() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.oddities...)
}

func (f *Fleet) odd(format string, args ...any) {
	const most = 20
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.oddities) < most {
		f.oddities = append(f.oddities, fmt.Sprintf(format, args...))
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// group is some devices that share a connection. They send in turn: message 0 of each, then message 1 of each.
type group struct {
	fleet   *Fleet
	number  int
	devices []int
	from    int // every message below it is done with
	high    int // the highest that was ever begun, and one
}

// mqtt lives over one connection after the other.
func (g *group) mqtt(ctx context.Context) {
	for ctx.Err() == nil {
		c, err := mqtt.Dial(ctx, mqtt.ClientOptions{
			Addr: g.fleet.MQTT(), ClientID: fmt.Sprintf("%s-group-%d", g.fleet.Ledger.Plan.Name, g.number), CleanStart: true,
			MaxInflight: share * len(g.devices), KeepAlive: keepAlive,
		})
		if err != nil {
			wait(ctx, pause)
			continue
		}
		stop := context.AfterFunc(ctx, func() { _ = c.Close() })
		g.session(ctx, c)
		stop()
		_ = c.Close()
		<-c.Done()
		if g.settle() {
			return
		}
		g.fleet.again.Add(1)
	}
}

// session sends what is left until the connection ends.
func (g *group) session(ctx context.Context, c *mqtt.Client) {
	l := g.fleet.Ledger
	for n := g.from; n < l.Plan.Each && ctx.Err() == nil; n++ {
		if n >= g.high { // what is sent again is not held up
			g.fleet.pace.take(ctx, len(g.devices))
		}
		for _, d := range g.devices {
			if !l.Due(d, n) {
				continue
			}
			g.high = max(g.high, n+1)
			if g.publish(c, d, n) != nil {
				return
			}
			if m, ok := l.Plan.Repeated(n); ok {
				if g.publish(c, d, m) != nil {
					return
				}
			}
		}
	}
	_ = c.Drain(ctx) // what it could not is seen by settle
}

func (g *group) publish(c *mqtt.Client, d, n int) error {
	l := g.fleet.Ledger
	l.Send(d, n)
	return c.PublishAsync("devices/"+l.Plan.Device(d)+"/messages/events/", l.Plan.Append(nil, d, n), 1, nil, func(err error) {
		var refused *mqtt.Refused
		switch {
		case err == nil:
			if l.Plan.Kind(n) == Broken {
				g.fleet.odd("%s: message %d is broken, and was taken", l.Plan.Device(d), n)
			}
			l.Answer(d, n, 1)
		case errors.As(err, &refused) && refused.Packet == mqtt.TypePuback && refused.Code == mqtt.ReasonPayloadFormatInvalid:
			if l.Plan.Kind(n) != Broken {
				g.fleet.odd("%s: message %d: %v", l.Plan.Device(d), n, err)
			}
			l.Answer(d, n, 1) // it is a dead letter on disk
		}
	})
}

// settle moves on to the first message that is not done with, and reports whether there is none. Devices that give up do so here.
func (g *group) settle() (finished bool) {
	l := g.fleet.Ledger
	first := l.Plan.Each
	for _, d := range g.devices {
		for n := g.from; n < g.high; n++ {
			if !l.Due(d, n) {
				continue
			}
			if l.Plan.GivesUp(d) && l.State(d, n).Sent > 0 {
				l.GiveUp(d, n)
				continue
			}
			first = min(first, n)
			break
		}
	}
	g.from = min(first, g.high)
	return g.from >= l.Plan.Each
}
