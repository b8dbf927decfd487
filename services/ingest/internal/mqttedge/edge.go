package mqttedge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/access"
	"github.com/millrace/millrace/services/ingest/internal/memory"
	"github.com/millrace/millrace/services/ingest/internal/permit"
	"github.com/millrace/millrace/services/ingest/internal/pipeline"
)

// protocol is the source of messages that came this way.
const protocol = "mqtt"

const (
	sweepEvery  = 500 * time.Millisecond // expired credentials and sessions, wills that are due
	acceptPause = 50 * time.Millisecond  // after an accept that failed, as for want of descriptors
)

// Config sizes an Edge. All of it must be set.
type Config struct {
	PacketBytesMax  int // of one packet, announced to MQTT 5 clients
	ConnectBytesMax int
	ConnectTimeout  time.Duration // from the connection to the end of CONNECT, TLS included
	PacketTimeout   time.Duration // for the rest of a packet that has begun
	WriteTimeout    time.Duration // of a client that does not read
	KeepAliveMax    time.Duration // MQTT 5 clients that ask for more, or none, are told so
	Drain           time.Duration // for connections, when the edge stops
	ConnectionsMax  int

	AddressConnectionsMax int // of one address; 0 is no limit
	DeviceConnectionsMax  int // of one device's key; 0 is no limit
	HandshakesMax         int // that have not finished their CONNECT; one more closes the oldest

	InflightBytesMax   int // of one connection, not yet on disk; beyond it nothing more is read
	ReadBufferBytes    int
	SessionExpiryMax   time.Duration
	SessionsMax        int    // kept without a connection; beyond it those that are gone for longest are forgotten
	SubscriptionsMax   int    // of one session
	Tenant             string // whose live streams are followed
	SubscriberInflight int    // messages of QoS 1 that a subscriber has not acknowledged
}

// Keys is what the edge needs of access.Keys; nil is an open listener.
type Keys interface {
	Authenticate(secret string) (*access.Credential, error)
	InForce(id string) (*access.Credential, error)
	OnChange(f func()) (stop func())
}

// Deps are what an Edge works with.
type Deps struct {
	Pipeline *pipeline.Pipeline
	Counters *pipeline.Counters // of this protocol
	Permit   *permit.Rules
	Memory   *memory.Budget // for packets beyond the read buffer and what is made of them; beyond it the connection ends
	Keys     Keys
	Feed     Feed // nil: nothing can be subscribed to
	Metrics  prometheus.Registerer
	Log      *slog.Logger
	Now      func() time.Time
}

// Edge serves MQTT on any number of listeners.
type Edge struct {
	cfg      Config
	pipeline *pipeline.Pipeline
	count    *pipeline.Counters
	permit   *permit.Rules
	memory   *memory.Budget
	blocked  atomic.Int64 // connections that wait for room in the log's writer
	keys     Keys
	feed     Feed
	log      *slog.Logger
	now      func() time.Time
	metrics  *metrics
	sessions *sessions
	unheard  unheard

	door *door

	mu    sync.Mutex
	conns map[*conn]struct{}
}

// New returns an Edge.
func New(cfg Config, d Deps) (*Edge, error) {
	e := &Edge{
		cfg: cfg, pipeline: d.Pipeline, count: d.Counters, permit: d.Permit, memory: d.Memory, keys: d.Keys, feed: d.Feed, log: d.Log, now: d.Now,
		sessions: newSessions(d.Now, cfg.SessionsMax), unheard: unheard{d.Log}, conns: map[*conn]struct{}{},
		door: newDoor(&cfg),
	}
	var err error
	e.metrics, err = newMetrics(d.Metrics, func() float64 { return float64(e.door.connectionsOpen()) })
	return e, err
}

// Serve takes connections from the listeners, which it closes, until ctx ends. Then it takes no more, acknowledges what is
// under way, tells the clients, and returns nil when all are gone, after Config.Drain at the latest.
func (e *Edge) Serve(ctx context.Context, listeners ...net.Listener) error {
	ctx, stopAll := context.WithCancel(ctx)
	defer stopAll()
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var accepting, serving sync.WaitGroup
	faults := make(chan error, len(listeners)) // one each at most
	for _, ln := range listeners {
		stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
		defer stop()
		accepting.Go(func() {
			defer stopAll() // a listener that breaks ends the others
			faults <- e.accept(ctx, hard, ln, &serving)
		})
	}
	accepting.Go(func() { <-ctx.Done() }) // also where there is none
	watching, stopWatch := context.WithCancel(hard)
	serving.Go(func() { e.watch(ctx, watching) })
	accepting.Wait()
	close(faults)
	e.each(func(c *conn) { c.end(endShutdown()) })
	late := time.AfterFunc(e.cfg.Drain, cancel)
	defer late.Stop()
	stopWatch()
	serving.Wait()
	var errs []error
	for err := range faults {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (e *Edge) accept(ctx, hard context.Context, ln net.Listener, serving *sync.WaitGroup) error {
	for {
		socket, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = socket.Close() // it came too late
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept MQTT connections on %v: %w", ln.Addr(), err)
		case err != nil: // such as too many open files: others may go
			e.log.Warn("a connection could not be accepted", "addr", ln.Addr().String(), "error", err)
			pause(ctx, acceptPause)
			continue
		}
		addr := addressOf(socket.RemoteAddr())
		if why := e.door.enter(addr); why != "" {
			e.metrics.turnedAway.WithLabelValues(why).Inc()
			_ = socket.Close() // in MQTT nothing may be said before CONNECT
			continue
		}
		serving.Go(func() {
			defer e.door.leave(addr)
			e.serve(ctx, hard, socket, addr)
		})
	}
}

// serve runs one connection to its end.
func (e *Edge) serve(ctx, hard context.Context, socket net.Conn, addr netip.Addr) {
	c := newConn(e, socket)
	e.mu.Lock()
	e.conns[c] = struct{}{}
	e.mu.Unlock()
	if ctx.Err() != nil {
		c.end(endShutdown())
	}
	if oldest := e.door.wait(c, addr); oldest != nil {
		e.metrics.turnedAway.WithLabelValues(turnedHandshakes).Inc()
		_ = oldest.socket.Close()
	}
	defer e.door.known(c)
	c.serve(hard)
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.conns, c)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// each calls f for all connections.
func (e *Edge) each(f func(*conn)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.conns {
		f(c)
	}
}

// watch cuts the connections of credentials that are no longer in force, soon after a change of the keys and now and then
// for those that expire; forgets old sessions; and publishes the wills that are due.
func (e *Edge) watch(ctx, life context.Context) {
	changed := make(chan struct{}, 1) // one signal is enough: all are looked at
	if e.keys != nil {
		defer e.keys.OnChange(func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})()
	}
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-life.Done():
			return
		case <-tick.C:
		case <-changed:
		}
		if e.keys != nil {
			e.each(e.recheck)
		}
		for _, w := range e.sessions.sweep() {
			e.publishWill(ctx, w)
		}
	}
}

// recheck ends a connection whose credential is no longer in force, and gives it what has changed.
func (e *Edge) recheck(c *conn) {
	s := c.sender.Load()
	if s == nil || s.Credential() == "" {
		return
	}
	now, err := e.keys.InForce(s.Credential())
	if err != nil {
		c.end(endRevoked())
		return
	}
	if s.Is(now) {
		return
	}
	changed := e.permit.Sender(now)
	if s.MayRead("") && !changed.MayRead("") || s.Device() != changed.Device() { // what it follows it may follow no longer
		c.end(endRevoked())
		return
	}
	c.sender.CompareAndSwap(s, changed)
}
