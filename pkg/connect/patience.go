package connect

import (
	"context"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// openWithin is how long an engine may take to answer when a process starts: workers and engines start in any order.
const openWithin = time.Minute

// Patiently calls open until it succeeds, for a minute at most, with backoff, and returns its last error. An error that
// backoff.Permanent made, such as a fault of the configuration, is returned at once.
func Patiently[T any](ctx context.Context, log *slog.Logger, what string, open func() (T, error)) (T, error) {
	pauses := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(200*time.Millisecond), backoff.WithMaxInterval(5*time.Second), backoff.WithMaxElapsedTime(openWithin))
	return backoff.RetryNotifyWithData(open, backoff.WithContext(pauses, ctx), func(err error, pause time.Duration) {
		log.WarnContext(ctx, "cannot open it yet, trying again", "what", what, "pause", pause, "error", err)
	})
}
