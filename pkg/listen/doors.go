package listen

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Connections of one Server: in all, and from one address, so that one that opens thousands leaves some to the others.
const (
	connectionsMax        = 10_000
	addressConnectionsMax = 5000
)

// Metrics counts the connections that came to nothing. nil counts nothing.
type Metrics struct{ ended *prometheus.CounterVec }

// NewMetrics registers them.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_http_connections_failed_total",
		Help: "HTTP connections that came to nothing: turned away since there were too many (connections, address), or ended without a request that could be read (no_request).",
	}, []string{"reason"})}
	if err := r.Register(m.ended); err != nil {
		return nil, fmt.Errorf("register the metrics of the HTTP listener: %w", err)
	}
	return m, nil
}

func (m *Metrics) count(reason string) {
	if m != nil {
		m.ended.WithLabelValues(reason).Inc()
	}
}

// doors counts the connections of a Server, and closes those that are too many.
type doors struct {
	metrics           *Metrics
	most, mostPerAddr int
	mu                sync.Mutex
	byAddr            map[netip.Addr]int
	visits            map[net.Conn]*visit
}

// visit is one connection.
type visit struct {
	addr  netip.Addr
	asked atomic.Bool // a request came
}

type visitKey struct{}

func newDoors(s *Server) *doors {
	d := &doors{
		metrics: s.Metrics, most: s.Connections, mostPerAddr: s.AddressConnections,
		byAddr: map[netip.Addr]int{}, visits: map[net.Conn]*visit{},
	}
	if d.most <= 0 {
		d.most = connectionsMax
	}
	if d.mostPerAddr <= 0 {
		d.mostPerAddr = min(addressConnectionsMax, d.most)
	}
	return d
}

// enter is a server's ConnContext.
func (d *doors) enter(ctx context.Context, c net.Conn) context.Context {
	v := &visit{}
	if at, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		v.addr = at.Addr().Unmap()
	}
	if why := d.admit(c, v); why != "" {
		d.metrics.count(why)
		_ = c.Close() // the server finds it closed when it reads
	}
	return context.WithValue(ctx, visitKey{}, v)
}

func (d *doors) admit(c net.Conn, v *visit) (why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case len(d.visits) >= d.most:
		return "connections"
	case d.byAddr[v.addr] >= d.mostPerAddr:
		return "address"
	}
	d.visits[c] = v
	d.byAddr[v.addr]++
	return ""
}

// changed is a server's ConnState.
func (d *doors) changed(c net.Conn, to http.ConnState) {
	if to != http.StateClosed && to != http.StateHijacked {
		return
	}
	d.mu.Lock()
	v := d.visits[c]
	if v != nil {
		delete(d.visits, c)
		if d.byAddr[v.addr]--; d.byAddr[v.addr] == 0 {
			delete(d.byAddr, v.addr)
		}
	}
	d.mu.Unlock()
	if v != nil && !v.asked.Load() {
		d.metrics.count("no_request")
	}
}

// note marks the connections on which a request came.
func (d *doors) note(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if v, ok := r.Context().Value(visitKey{}).(*visit); ok {
			v.asked.Store(true)
		}
		next.ServeHTTP(w, r)
	})
}
