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

// newBackoff waits 0.1 s, then twice as long each time up to 10 s, with jitter of half of it, for ever.
func newBackoff() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(100*time.Millisecond), backoff.WithMultiplier(2), backoff.WithMaxInterval(10*time.Second),
		backoff.WithMaxElapsedTime(0))
}

// shortPauseMax bounds the pause after bus.ErrFull: that an append is refused costs next to nothing, and while one share waits for a
// room that is there already, the log's other writers take it. It also bounds the pauses of a share that is being left, whose time is short.
const shortPauseMax = time.Second

// retry calls f until it returns nil, an error that no repetition mends, or ctx ends. While it waits nothing is taken, so
// memory stays bounded and the log keeps the rest. When the share is to be left, it tries at once: what was down may be back.
func (s *share[Row]) retry(ctx context.Context, what string, f func() error) error {
	again, leaving := newBackoff(), s.leaving
	defer s.track.retry(what, nil)
	for {
		err := f()
		switch {
		case err == nil:
			return nil
		case final(err), errors.Is(err, ctx.Err()):
			return fmt.Errorf("%s: %w", what, err)
		case ctx.Err() != nil:
			return fmt.Errorf("%s: %w: %w", what, ctx.Err(), err)
		}
		pause := again.NextBackOff()
		if leaving == nil || errors.Is(err, bus.ErrFull) {
			pause = min(pause, shortPauseMax)
		}
		s.track.retry(what, err)
		s.loop.Metrics.retries.WithLabelValues(s.loop.Worker).Inc()
		s.loop.Log.WarnContext(ctx, "trying again", "worker", s.loop.Worker, "share", s.bus.Number, "step", what, "pause", pause, "error", err)
		select {
		case <-time.After(pause):
		case <-leaving:
			leaving = nil
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", what, ctx.Err(), err)
		}
	}
}

func (s *share[Row]) isLeft() bool {
	select {
	case <-s.leaving:
		return true
	default:
		return false
	}
}

// final says that trying again is of no use, or does harm: a position past the end of a log that was wiped would be found some
// time, and all before it would be skipped.
func final(err error) bool {
	if _, over := errors.AsType[*failed](err); over {
		return true
	}
	return errors.Is(err, store.ErrFenced) || errors.Is(err, bus.ErrLost) || errors.Is(err, bus.ErrTooLarge) || errors.Is(err, bus.ErrUnknownTopic) ||
		errors.Is(err, bus.ErrClosed) || errors.Is(err, bus.ErrAhead)
}

// note logs an error that something else will mend.
func (s *share[Row]) note(ctx context.Context, what string, err error) {
	s.loop.Metrics.retries.WithLabelValues(s.loop.Worker).Inc()
	s.loop.Log.WarnContext(ctx, "will try again", "worker", s.loop.Worker, "share", s.bus.Number, "step", what, "error", err)
}
