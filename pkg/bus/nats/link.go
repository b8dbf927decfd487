package nats

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/millrace/millrace/pkg/bus"
)

var errDisconnected = errors.New("the connection to the server was lost")

// link is the present connection, as a context that ends with it: a request whose answer can no longer come need not wait
// for its timeout.
type link struct {
	mu  sync.Mutex
	ctx context.Context //nolint:containedctx // the connection's life
	cut context.CancelCauseFunc
}

func (k *link) reset(parent context.Context) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cut != nil {
		k.cut(errDisconnected)
	}
	k.ctx, k.cut = context.WithCancelCause(parent)
}

func (k *link) current() context.Context {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ctx
}

// watchLink ends the link whenever the connection is lost, until Close.
func (l *Log) watchLink(changed chan nats.Status) {
	for {
		select {
		case _, ok := <-changed:
			l.link.reset(l.life)
			if !ok {
				return
			}
		case <-l.life.Done():
			l.conn.RemoveStatusListener(changed)
			return
		}
	}
}

// bounded returns a context that ends with ctx, with the connection, and after d; and why, once it has ended.
func (l *Log) bounded(ctx context.Context, d time.Duration) (bounded context.Context, cause func() error, cancel context.CancelFunc) {
	link := l.link.current()
	limited, stopTimer := context.WithTimeout(ctx, d)
	joined, cut := context.WithCancelCause(limited)
	stop := context.AfterFunc(link, func() { cut(context.Cause(link)) })
	return joined, func() error {
			switch {
			case l.life.Err() != nil:
				return bus.ErrClosed
			case joined.Err() != nil:
				return context.Cause(joined)
			}
			return nil
		}, func() {
			stop()
			cut(nil)
			stopTimer()
		}
}
