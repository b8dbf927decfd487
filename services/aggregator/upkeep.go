package aggregator

import (
	"context"
	"log/slog"
	"time"

	"github.com/millrace/millrace/pkg/telemetry"
)

const upkeepEvery = time.Minute

// upkeep forgets states that no correction needs any more, and says when a limit is being passed.
type upkeep struct {
	store interface {
		ForgetStates(ctx context.Context, now telemetry.Time) error
	}
	metrics *metrics
	log     *slog.Logger
	now     func() time.Time
}

// start runs u once a minute until ctx ends or stop is called, which returns when it has ended.
func (u upkeep) start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(upkeepEvery)
		defer ticker.Stop()
		var before [3]uint64
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if err := u.store.ForgetStates(ctx, telemetry.At(u.now())); err != nil && ctx.Err() == nil {
				u.log.WarnContext(ctx, "the states of old windows are kept until the next try", "worker", Worker, "error", err)
			}
			before = u.limits(ctx, before)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

func (u upkeep) limits(ctx context.Context, before [3]uint64) (now [3]uint64) {
	w := &u.metrics.windows
	now = [3]uint64{w.BeyondDevices(), w.BeyondChannels(), w.BeyondWindows()}
	for i, key := range [...]string{"devices_max", "channels_max", "windows_max"} {
		if n := now[i] - before[i]; n > 0 {
			u.log.WarnContext(ctx, "a limit is passed: messages are merged into stored windows one by one", "worker", Worker,
				"limit", key, "messages", n)
		}
	}
	return now
}
