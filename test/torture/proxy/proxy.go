// Package proxy stands between two parts and breaks what they say to each other: it cuts connections, lets them hang, or slows them down.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Proxy forwards TCP connections to a target. Safe for concurrent use.
type Proxy struct {
	listener net.Listener
	target   func() string

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	open   chan struct{} // closed while bytes may pass
	slow   int           // bytes a second of each direction of each connection; 0 is no limit
	closed bool
	all    sync.WaitGroup
}

const (
	dialTimeout = 5 * time.Second
	chunk       = 32 << 10
)

// Listen starts a proxy on a free port of loopback. target says where each connection goes, host:port; "" refuses it.
func Listen(ctx context.Context, target func() string) (*Proxy, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open a proxy: %w", err)
	}
	p := &Proxy{listener: l, target: target, conns: map[net.Conn]struct{}{}, open: make(chan struct{})}
	close(p.open)
	p.all.Go(func() { p.accept(context.WithoutCancel(ctx)) })
	return p, nil
}

// Addr is where the proxy listens, host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

func (p *Proxy) accept(ctx context.Context) {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		p.all.Go(func() { p.serve(ctx, conn) })
	}
}

func (p *Proxy) serve(ctx context.Context, in net.Conn) {
	defer p.drop(in)
	if !p.keep(in) {
		return
	}
	p.pass()
	to := p.target()
	if to == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	out, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
	if err != nil {
		return
	}
	defer p.drop(out)
	if !p.keep(out) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.forward(in, out) })
	both.Go(func() { p.forward(out, in) })
	both.Wait()
}

// forward copies until either side ends, and then ends both: what waits here is dropped, as when a network goes away.
func (p *Proxy) forward(from, to net.Conn) {
	defer func() { _, _ = from.Close(), to.Close() }()
	buffer := make([]byte, chunk)
	for {
		n, err := from.Read(buffer)
		slow := p.pass()
		if n > 0 {
			if slow > 0 {
				time.Sleep(time.Duration(n) * time.Second / time.Duration(slow))
			}
			if _, werr := to.Write(buffer[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pass waits while the line hangs, and returns its speed.
func (p *Proxy) pass() int {
	p.mu.Lock()
	open, slow := p.open, p.slow
	p.mu.Unlock()
	<-open
	return slow
}

func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) drop(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// Cut ends every connection.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset: what was not taken yet is gone
		}
		_ = c.Close()
	}
}

// Hang lets nothing pass until Resume: connections stay open, and new ones are taken and say nothing.
func (p *Proxy) Hang() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.open:
		p.open = make(chan struct{})
	default:
	}
}

// Resume ends Hang and Slow.
func (p *Proxy) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slow = 0
	select {
	case <-p.open:
	default:
		close(p.open)
	}
}

// Slow lets so many bytes a second pass in each direction of each connection, until Resume.
func (p *Proxy) Slow(bytesPerSecond int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slow = bytesPerSecond
}

// Close ends the proxy and every connection, and waits for them.
func (p *Proxy) Close() error {
	err := p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Resume()
	p.Cut()
	p.all.Wait()
	return err
}
