package nats

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	acquireEvery   = 250 * time.Millisecond // how soon a waiting member sees that a lease is free
	renewalsALease = 3
	releaseMax     = 2 * time.Second
)

// lease is a member's claim on all shares of a group: a key that the server forgets unless it is written again in time.
type lease struct {
	log      *Log
	key      string
	token    string // the key's value: of this claim alone, since a process may have several members of a group
	revision uint64
	renewed  time.Time
}

// acquire waits until the group has no owner and makes this process the owner. It returns nil when ctx has ended,
// and an error only when the connection was closed for good.
func (l *Log) acquire(ctx context.Context, group string) (*lease, error) {
	held := &lease{log: l, key: keyToken(group), token: l.id + "." + strconv.FormatUint(l.sent.Add(1), 36)}
	for told := false; ; {
		err := held.create(ctx)
		if err == nil {
			return held, nil
		}
		if errors.Is(err, nats.ErrConnectionClosed) && ctx.Err() == nil && l.fault() == nil {
			return nil, fmt.Errorf("ask for the lease: %w", err)
		}
		if !told && !changedByOther(err) && ctx.Err() == nil {
			told = true // once, not four times a second
			l.cfg.Log.Warn("cannot ask for the lease of a group; trying on", "group", group, "error", err)
		}
		if !pause(ctx, acquireEvery) {
			return nil, nil
		}
	}
}

func (h *lease) create(ctx context.Context) error {
	began := h.log.cfg.Now()
	bounded, _, cancel := h.log.bounded(ctx, h.log.cfg.Lease/renewalsALease)
	defer cancel()
	revision, err := h.log.leases.Create(bounded, h.key, []byte(h.token))
	if gone(err) {
		if _, err = h.log.layOutLeases(bounded); err == nil {
			revision, err = h.log.leases.Create(bounded, h.key, []byte(h.token))
		}
	}
	if err == nil {
		h.revision, h.renewed = revision, began
	}
	return err
}

// renew keeps the lease until ctx ends. When it is lost, or cannot be known to hold any longer, lost is called.
func (h *lease) renew(ctx context.Context, lost func()) {
	lifetime := h.log.cfg.Lease
	for pause(ctx, lifetime/renewalsALease) {
		err := h.update(ctx)
		if ctx.Err() != nil {
			return
		}
		if changedByOther(err) || gone(err) {
			// Gone with a server that was restarted, taken by another, or renewed by an update whose answer was lost.
			if err = h.create(ctx); changedByOther(err) {
				err = h.adopt(ctx)
			}
		}
		if changedByOther(err) || err != nil && h.log.cfg.Now().Sub(h.renewed) > lifetime-lifetime/renewalsALease {
			h.log.cfg.Log.Warn("lost the lease of a group", "group", h.key, "error", err)
			lost()
			return
		}
	}
}

func (h *lease) update(ctx context.Context) error {
	began := h.log.cfg.Now()
	bounded, _, cancel := h.log.bounded(ctx, h.log.cfg.Lease/renewalsALease)
	defer cancel()
	revision, err := h.log.leases.Update(bounded, h.key, []byte(h.token), h.revision)
	if err == nil {
		h.revision, h.renewed = revision, began
	}
	return err
}

// adopt renews the lease where it is still this claim's under a revision that nobody told of.
func (h *lease) adopt(ctx context.Context) error {
	bounded, _, cancel := h.log.bounded(ctx, h.log.cfg.Lease/renewalsALease)
	defer cancel()
	entry, err := h.log.leases.Get(bounded, h.key)
	if err != nil {
		return err
	}
	if string(entry.Value()) != h.token {
		return fmt.Errorf("another member has it: %w", jetstream.ErrKeyExists)
	}
	h.revision = entry.Revision()
	return h.update(ctx)
}

// release lets another member take over at once. Should that not get through, the lease runs out by itself.
func (h *lease) release(ctx context.Context) {
	if h.log.life.Err() != nil {
		return
	}
	bounded, _, cancel := h.log.bounded(context.WithoutCancel(ctx), releaseMax)
	defer cancel()
	err := h.log.leases.Delete(bounded, h.key, jetstream.LastRevision(h.revision))
	if err != nil && !changedByOther(err) && !errors.Is(err, jetstream.ErrKeyNotFound) {
		h.log.cfg.Log.Debug("cannot release the lease of a group; it runs out", "group", h.key, "error", err)
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
