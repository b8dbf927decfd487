package ledger

import (
	"context"
	"sync"
	"time"
)

// pace lets so many messages a second go, of all devices together. What was not used while nothing could be sent is made up for, a
// second's worth at most.
type pace struct {
	every time.Duration // between two messages; 0 is no limit

	mu   sync.Mutex
	next time.Time
}

// take waits for the turn of n messages.
func (p *pace) take(ctx context.Context, n int) {
	if p.every == 0 || n == 0 {
		return
	}
	p.mu.Lock()
	now := time.Now()
	if least := now.Add(-time.Second); p.next.Before(least) {
		p.next = least
	}
	p.next = p.next.Add(time.Duration(n) * p.every)
	due := p.next.Sub(now)
	p.mu.Unlock()
	if due > time.Millisecond {
		wait(ctx, due)
	}
}
