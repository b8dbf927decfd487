package nats

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	renewalsALease = 6
	acquireEvery   = 250 * time.Millisecond // how soon a lease is asked for again
	releaseMax     = 2 * time.Second
)

var errLeaseLost = errors.New("another member has ended the lease")

// lease is this process's sign of life towards all others, for all its members of all groups: a key that it writes again
// and again. Whoever has seen the same revision for Config.Lease may end it by a write that the server takes only at that
// revision. So the process has lost it by then, or learns so from its next renewal; it gives up by itself when three quarters of
// the time have passed.
type lease struct {
	roster *roster
	id     string
	life   context.Context //nolint:containedctx // ends when the lease is lost
	lost   context.CancelCauseFunc
	using  sync.WaitGroup // members

	revision uint64 // of the goroutine that renews it, as renewed is
	renewed  time.Time
}

func (h *lease) key() string { return leasePrefix + h.id }

// acquireLease writes a fresh lease, and tries on until that succeeds. It returns nil when ctx has ended, and an error only when the
// connection was closed for good.
func (r *roster) acquireLease(ctx context.Context) (*lease, error) {
	l := r.log
	h := &lease{roster: r, id: l.id + "-" + strconv.FormatUint(l.sent.Add(1), 36)}
	h.life, h.lost = context.WithCancelCause(ctx)
	for told := false; ; {
		err := h.write(ctx, 0)
		if gone(err) {
			if err = l.layOutGroups(ctx); err == nil {
				err = h.write(ctx, 0)
			}
		}
		switch {
		case err == nil:
			return h, nil
		case ctx.Err() != nil:
			h.lost(nil)
			return nil, nil //nolint:nilerr // the end was asked for
		case errors.Is(err, nats.ErrConnectionClosed):
			h.lost(nil)
			return nil, fmt.Errorf("ask for a lease: %w", err)
		case changedByOther(err): // an earlier attempt whose answer was lost
			h.id = l.id + "-" + strconv.FormatUint(l.sent.Add(1), 36)
		case !told:
			told = true // once, not four times a second
			l.cfg.Log.Warn("cannot ask for a lease; trying on", "error", err)
		}
		if !pause(ctx, acquireEvery) {
			h.lost(nil)
			return nil, nil
		}
	}
}

// write renews the lease at the given revision.
func (h *lease) write(ctx context.Context, at uint64) error {
	began := h.roster.log.cfg.Now()
	revision, err := h.roster.write(ctx, h.key(), "1", at)
	if err == nil {
		h.revision, h.renewed = revision, began
	}
	return err
}

// keep renews the lease until ctx ends or it is lost.
func (h *lease) keep(ctx context.Context) {
	l := h.roster.log
	lifetime := l.cfg.Lease
	for pause(ctx, lifetime/renewalsALease) {
		err := h.write(ctx, h.revision)
		if ctx.Err() != nil {
			return
		}
		expired := func() bool { return l.cfg.Now().Sub(h.renewed) > lifetime-lifetime/4 }
		if (changedByOther(err) || gone(err)) && !expired() {
			err = h.restore(ctx)
		}
		switch {
		case err == nil:
			h.roster.sayLeft(ctx)
		case errors.Is(err, errLeaseLost), errors.Is(err, nats.ErrConnectionClosed), expired():
			l.cfg.Log.Warn("lost the lease of this process; its shares may go to others", "error", err)
			h.lost(err)
			return
		}
	}
}

// restore renews the lease where its revision is not the one that was known: an answer was lost, or a server that keeps
// it in memory was started again, in which case everything else of this process is to be put back as well.
func (h *lease) restore(ctx context.Context) error {
	revision, state, err := h.roster.look(ctx, h.key())
	if gone(err) {
		if err = h.roster.log.layOutGroups(ctx); err == nil {
			revision, state, err = h.roster.look(ctx, h.key())
		}
	}
	switch {
	case err != nil:
		return err
	case state == erased:
		return errLeaseLost
	case state == present:
		return h.write(ctx, revision)
	}
	if err := h.write(ctx, 0); err != nil {
		return err
	}
	h.roster.forgotten()
	return nil
}

// end tells the others that this lease and whatever it held is over.
func (h *lease) end(ctx context.Context) {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseMax)
	defer cancel()
	if err := h.roster.erase(bounded, h.key()); err != nil {
		h.roster.log.cfg.Log.Debug("cannot give a lease back; it runs out", "error", err)
	}
}

// gone reports whether the bucket was not there. A server that is starting says the same for a moment.
func gone(err error) bool {
	return errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrBucketNotFound)
}

// pause waits for d and reports whether ctx still lives.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
