package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

var (
	// ErrDrainTimeout is returned by Supervise when run has not returned in time after a signal.
	ErrDrainTimeout = errors.New("did not drain in time")
	// ErrSecondSignal is returned by Supervise when a second signal cut the drain short.
	ErrSecondSignal = errors.New("cut short by a second signal")
)

// Run is a worker: it blocks until ctx ends, drains, and returns nil; or returns an error.
type Run func(ctx context.Context, p *Process) error

// Supervise calls run and returns its error. The first signal ends run's context (its cause names the signal) and makes
// the process unready; a second one, or p.Drain elapsing, makes Supervise return while run is still busy, with
// ErrSecondSignal or ErrDrainTimeout: the caller is to exit at once. context.Canceled after a signal counts as drained.
func Supervise(ctx context.Context, p *Process, signals <-chan os.Signal, run Run) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1) // one result, which nobody may be there to take
	go func() { done <- run(ctx, p) }()

	select {
	case err := <-done:
		return err
	case s := <-signals:
		p.Log.Info("draining, a second signal stops at once", "signal", s.String(), "at_most", p.Drain)
		p.Health.Drain()
		cancel(fmt.Errorf("signal: %v", s))
	}
	timeout := time.NewTimer(p.Drain)
	defer timeout.Stop()
	select {
	case err := <-done:
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		if err == nil {
			p.Log.Info("drained")
		}
		return err
	case <-signals:
		return ErrSecondSignal
	case <-timeout.C:
		return fmt.Errorf("%w: %v", ErrDrainTimeout, p.Drain)
	}
}
