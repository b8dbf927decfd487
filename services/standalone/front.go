package standalone

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/millrace/millrace/pkg/access"
	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/connect/stores"
	"github.com/millrace/millrace/pkg/feed"
	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/services/ingest"
	"github.com/millrace/millrace/services/live"
)

// openFeed makes what gives the log's end to live subscribers, over SSE, NATS and MQTT alike.
func (p *plant) openFeed(context.Context) error {
	hub, err := feed.NewHub(p.cfg.Live.Feed, feed.Deps{Bus: p.bus, Metrics: p.metrics, Log: p.log})
	if err != nil {
		return err
	}
	p.feed = hub
	return nil
}

// front is what faces the outside: the edge and live, each nil where this process does not run it, and the addresses
// of the edge's listeners.
type front struct {
	edge *ingest.Ingest
	live *live.Live

	mu    sync.Mutex
	addrs map[string]net.Addr
	posts turnstile
}

func (p *plant) newFront(ctx context.Context) (*front, error) {
	f := &front{addrs: map[string]net.Addr{}}
	var err error
	if p.cfg.runs("ingest") {
		cfg := p.cfg.Ingest
		cfg.Tenant = p.cfg.Tenant
		f.edge, err = ingest.New(ctx, cfg, ingest.Deps{
			Bus: p.bus, Access: p.keys, Feed: p.feed, Metrics: p.metrics, Log: p.log, Now: p.process.Now, Mounted: true,
			Ready: f.ready(p.process.Health), Listening: f.listening,
		})
		if err != nil {
			return nil, fmt.Errorf("ingest: %w", err)
		}
	}
	if p.cfg.runs("live") {
		deps := live.Deps{
			Bus: p.bus, Feed: p.feed, Publish: connect.Publish(p.bus), Health: p.process.Health, Mounted: true,
			Metrics: p.metrics, Log: p.log, Now: p.process.Now,
		}
		if deps.Decoder, err = p.cfg.Ingest.Decoder(); err != nil {
			return nil, fmt.Errorf("ingest: %w", err)
		}
		started := p.process.Now()
		deps.Status = func() live.Status { return p.status(f, started) }
		deps.Tables, deps.Audit = p.reader, p.auditor()
		if p.db != nil && p.cfg.Stores.Uses(stores.Embedded) {
			deps.SQL = p.db
		}
		if sql := p.stores.SQL(); sql != nil { // a nil interface in another is not nil
			deps.SQL = sql
		}
		if p.server == nil {
			deps.Group = p.bus // other processes may publish too
		} else {
			deps.Listened = func() bool { return p.server.Interest("live") }
		}
		if p.keys != nil { // a nil pointer in an interface is not nil
			deps.Auth = p.keys
		}
		if f.live, err = live.New(p.cfg.Live, deps); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// ready opens the gate of the edge. When its listeners close again, the process is ending.
func (f *front) ready(gates *service.Health) func(error) {
	return func(reason error) {
		if reason == nil {
			gates.Set("ingest", nil)
		}
	}
}

func (f *front) listening(name string, addr net.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.addrs[name] = addr
}

// addr returns where the edge listens for name ("mqtt" or "mqtts"), "" where it does not.
func (f *front) addr(name string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a := f.addrs[name]; a != nil {
		return a.String()
	}
	return ""
}

func (p *plant) status(f *front, started time.Time) live.Status {
	s := live.Status{Version: p.process.Version, Started: started, Workers: p.loops.Statuses(), Listeners: map[string]string{}}
	for _, name := range []string{"mqtt", "mqtts"} {
		if at := f.addr(name); at != "" {
			s.Listeners[name] = at
		}
	}
	if p.server != nil && p.server.Addr() != "" {
		s.Listeners["nats"] = p.server.Addr()
	}
	if p.history != nil {
		h := p.history.Status()
		if h.Health.Reason != "" {
			s.Warnings = append(s.Warnings, h.Health.Reason)
		}
		if h.Closing != nil {
			s.Warnings = append(s.Warnings, "history cannot be put on disk: "+h.Closing.Error())
		}
		for _, d := range h.Damaged {
			s.Warnings = append(s.Warnings, "a damaged file of the archive was set aside: "+d.String())
		}
	}
	for _, e := range p.book.Entries() {
		s.Warnings = append(s.Warnings, "found damaged: "+e.String())
	}
	for _, w := range s.Workers {
		if w.Retrying != "" {
			s.Warnings = append(s.Warnings, w.Worker+" is trying again: "+w.Retrying)
		}
	}
	return s
}

// handler is everything on the one HTTP listener. Whether the process lives is told under any name.
func (p *plant) handler(addr net.Addr, f *front) http.Handler {
	own := p.process.Handler(addr)
	rest := p.named(addr, p.routes(own, f))
	mux := http.NewServeMux()
	mux.Handle("/healthz", own)
	mux.Handle("/readyz", own)
	mux.Handle("/", rest)
	return mux
}

// named keeps out the pages of other sites, where nothing but the listener's address does.
func (p *plant) named(addr net.Addr, next http.Handler) http.Handler {
	if p.keys != nil || !access.Loopback(addr.String()) {
		return next
	}
	return access.OwnNames(p.cfg.HTTP.Hosts, next)
}

func (p *plant) routes(own http.Handler, f *front) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", p.guarded(own))
	mux.Handle("/debug/pprof/", p.guarded(own))
	if f.edge != nil {
		posts := f.posts.wrap(f.edge.Handler())
		mux.Handle("/v1/messages", posts) // of any method, so that it says which one it takes
		mux.Handle("POST /v1/devices/{device}/messages", posts)
	}
	if f.live != nil {
		mux.Handle("/", f.live.Handler())
	}
	return mux
}

// guarded asks for a token that may read, where tokens are asked for at all.
func (p *plant) guarded(next http.Handler) http.Handler {
	if p.keys == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := p.keys.Authenticate(access.Bearer(r.Header.Get("Authorization")))
		if err != nil || !c.May(access.ScopeRead) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "a token with the scope read is needed", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// turnstile lets requests through until it is closed, and then waits for those inside: the edge must outlive them.
type turnstile struct {
	mu     sync.RWMutex
	closed bool
	inside sync.WaitGroup
}

func (t *turnstile) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.mu.RLock()
		if t.closed {
			t.mu.RUnlock()
			w.Header().Set("Retry-After", "1")
			http.Error(w, `{"error":"the instance is stopping"}`, http.StatusServiceUnavailable)
			return
		}
		t.inside.Add(1)
		t.mu.RUnlock()
		defer t.inside.Done()
		next.ServeHTTP(w, r)
	})
}

// close lets nobody in any more and waits until all are out, or ctx ends.
func (t *turnstile) close(ctx context.Context) error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	out := make(chan struct{})
	go func() {
		t.inside.Wait()
		close(out)
	}()
	select {
	case <-out:
		return nil
	case <-ctx.Done():
		return errors.New("requests are still under way")
	}
}
