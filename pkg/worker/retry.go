package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
)

// newBackoff waits 0.1 s, then twice as long each time up to 30 s, with jitter, for ever.
func newBackoff() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(100*time.Millisecond), backoff.WithMultiplier(2), backoff.WithMaxInterval(30*time.Second),
		backoff.WithMaxElapsedTime(0))
}

// fullPauseMax bounds the pause after bus.ErrFull: that an append is refused costs next to nothing, and while one share waits for a
// room that is there already, the log's other writers take it.
const fullPauseMax = time.Second

// impatient is a backoff that waits less long where the last error says that the log is full.
type impatient struct {
	*backoff.ExponentialBackOff
	last *error
}

// NextBackOff implements backoff.BackOff.
func (b *impatient) NextBackOff() time.Duration {
	pause := b.ExponentialBackOff.NextBackOff()
	if errors.Is(*b.last, bus.ErrFull) {
		return min(pause, fullPauseMax)
	}
	return pause
}

// retry calls f until it returns nil, an error that no repetition mends, or ctx ends. While it waits nothing is taken, so
// memory stays bounded and the log keeps the rest.
func (s *share[Row]) retry(ctx context.Context, what string, f func() error) error {
	var last error
	op := func() error {
		last = f()
		if final(last) {
			return backoff.Permanent(last)
		}
		return last
	}
	err := backoff.RetryNotify(op, backoff.WithContext(&impatient{newBackoff(), &last}, ctx), func(err error, pause time.Duration) {
		s.track.retry(what, err)
		s.loop.Metrics.retries.WithLabelValues(s.loop.Worker).Inc()
		s.loop.Log.WarnContext(ctx, "trying again", "worker", s.loop.Worker, "share", s.bus.Number, "step", what, "pause", pause, "error", err)
	})
	s.track.retry(what, nil)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && !errors.Is(last, ctx.Err()) {
		return fmt.Errorf("%s: %w: %w", what, ctx.Err(), last)
	}
	return fmt.Errorf("%s: %w", what, last)
}

// final says that trying again is of no use, or does harm: a position past the end of a log that was wiped would be found some
// time, and all before it would be skipped.
func final(err error) bool {
	if _, over := errors.AsType[*failed](err); over {
		return true
	}
	return errors.Is(err, store.ErrFenced) || errors.Is(err, bus.ErrTooLarge) || errors.Is(err, bus.ErrUnknownTopic) ||
		errors.Is(err, bus.ErrClosed) || errors.Is(err, bus.ErrAhead)
}

// note logs an error that something else will mend.
func (s *share[Row]) note(ctx context.Context, what string, err error) {
	s.loop.Metrics.retries.WithLabelValues(s.loop.Worker).Inc()
	s.loop.Log.WarnContext(ctx, "will try again", "worker", s.loop.Worker, "share", s.bus.Number, "step", what, "error", err)
}
