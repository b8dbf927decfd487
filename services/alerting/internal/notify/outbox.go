package notify

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

const (
	// rememberedMax is how many deliveries an outbox remembers; more than a commit has, so that one that is tried again
	// repeats nothing.
	rememberedMax = 4096
	// retryAfterMax bounds how long a target may ask us to wait at once.
	retryAfterMax = 5 * time.Minute
)

// Target takes one change of an alarm.
type Target interface {
	// Deliver returns nil once the target has a. An error that is a *Refused says that it never will, one that is a *Later
	// when to try again; any other error is passing. Safe for concurrent use.
	Deliver(ctx context.Context, a *telemetry.Alarm) error
}

// Refused says that a target will never take a change.
type Refused struct{ Reason string }

// Error returns the reason.
func (r *Refused) Error() string { return r.Reason }

// Later says that a target asked to be tried again after a while.
type Later struct {
	After time.Duration
	Err   error
}

// Error returns what the target answered.
func (l *Later) Error() string { return l.Err.Error() }

// Unwrap returns what the target answered.
func (l *Later) Unwrap() error { return l.Err }

// Outcome is what became of one attempt.
type Outcome string

// The outcomes.
const (
	Sent     Outcome = "sent"
	Repeated Outcome = "repeated" // it had been sent before, so it was not sent
	Rejected Outcome = "refused"
	Failed   Outcome = "failed" // tried again
)

// Outbox delivers to one target. Safe for concurrent use. Its zero value is not usable; see NewOutbox.
type Outbox struct {
	target Target
	count  func(Outcome)

	mu    sync.Mutex
	done  map[string]string // key of a delivery to why it was refused, "" where it was not
	order []string          // keys, a ring
	next  int
}

var _ store.Writer[telemetry.Alarm] = (*Outbox)(nil)

// NewOutbox returns an outbox of target; count, which may be nil, is told of every attempt.
func NewOutbox(target Target, count func(Outcome)) *Outbox {
	if count == nil {
		count = func(Outcome) {}
	}
	return &Outbox{target: target, count: count, done: make(map[string]string)}
}

// Progress knows nothing: the progress is the group's commit.
func (*Outbox) Progress(context.Context, string, bus.PartitionID) (bus.Progress, bool, error) {
	return bus.Progress{}, false, nil
}

// Write delivers alarms in their order. An error says that one could not be delivered now; those before it have been, and a
// repeated call with the same alarms goes on behind them. *store.Refused names those that never will be; the others were
// delivered.
func (o *Outbox) Write(ctx context.Context, _ store.Commit, alarms []telemetry.Alarm) error {
	var refused store.Refused
	for i := range alarms {
		reason, err := o.deliver(ctx, &alarms[i])
		if err != nil {
			return err
		}
		if reason != "" {
			refused.Rows = append(refused.Rows, i)
			refused.Reasons = append(refused.Reasons, reason)
		}
	}
	if len(refused.Rows) > 0 {
		return &refused
	}
	return nil
}

func (o *Outbox) deliver(ctx context.Context, a *telemetry.Alarm) (refused string, err error) {
	key := Key(a) + "." + string(a.State)
	if reason, ok := o.known(key); ok {
		o.count(Repeated)
		return reason, nil
	}
	err = o.target.Deliver(ctx, a)
	var never *Refused
	var later *Later
	switch {
	case err == nil:
		o.count(Sent)
	case errors.As(err, &never):
		o.count(Rejected)
		refused = never.Reason
	case errors.As(err, &later):
		o.count(Failed)
		wait(ctx, min(later.After, retryAfterMax))
		return "", fmt.Errorf("notify of alarm %s: %w", Key(a), err)
	default:
		o.count(Failed)
		return "", fmt.Errorf("notify of alarm %s: %w", Key(a), err)
	}
	o.remember(key, refused)
	return refused, nil
}

func (o *Outbox) known(key string) (reason string, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	reason, ok = o.done[key]
	return reason, ok
}

func (o *Outbox) remember(key, reason string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.order) < rememberedMax {
		o.order = append(o.order, key)
	} else {
		delete(o.done, o.order[o.next])
		o.order[o.next] = key
		o.next = (o.next + 1) % rememberedMax
	}
	o.done[key] = reason
}

// Key identifies one change of one alarm: its id, a point and the revision.
func Key(a *telemetry.Alarm) string {
	return a.AlarmID + "." + strconv.FormatUint(uint64(a.Revision), 10)
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
