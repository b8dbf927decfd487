package rig

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/millrace/millrace/test/torture/proxy"
)

// Fault is one way to break something, and to mend it again.
type Fault struct {
	Kind string // as --faults names it
	// Do breaks, waits, mends, and returns when what it broke serves again.
	Do func(ctx context.Context, dice *rand.Rand) error
}

// between draws a duration.
func between(dice *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(dice.Int64N(int64(most-least)))
}

// processFaults are the faults of any process.
func processFaults(p *process, stop time.Duration) []Fault {
	return []Fault{
		{"kill", func(ctx context.Context, dice *rand.Rand) error {
			p.kill()
			nap(ctx, between(dice, 0, 300*time.Millisecond))
			return p.launch(ctx)
		}},
		{"stop", func(ctx context.Context, dice *rand.Rand) error {
			p.pause()
			nap(ctx, between(dice, stop/20, stop))
			p.resume()
			return p.ensure(ctx)
		}},
		{"term", func(ctx context.Context, _ *rand.Rand) error {
			if err := p.terminate(); err != nil {
				return err
			}
			return p.launch(ctx)
		}},
		// It is killed while it still starts, once or twice.
		{"kill-young", func(ctx context.Context, dice *rand.Rand) error {
			for range 1 + dice.IntN(2) {
				p.kill()
				young, cancel := context.WithTimeout(ctx, between(dice, 50*time.Millisecond, 1500*time.Millisecond))
				_ = p.launch(young) // it need not come up
				cancel()
			}
			p.kill()
			return p.launch(ctx)
		}},
	}
}

// lineFaults are the faults of a connection.
func lineFaults(name string, p *proxy.Proxy) []Fault {
	return []Fault{
		{name + "-cut", func(context.Context, *rand.Rand) error {
			p.Cut()
			return nil
		}},
		{name + "-hang", func(ctx context.Context, dice *rand.Rand) error {
			p.Hang()
			nap(ctx, between(dice, 200*time.Millisecond, 3*time.Second))
			if dice.IntN(2) == 0 {
				p.Cut() // it never comes back
			}
			p.Resume()
			return nil
		}},
		{name + "-slow", func(ctx context.Context, dice *rand.Rand) error {
			p.Slow(20_000 + dice.IntN(200_000))
			nap(ctx, between(dice, 500*time.Millisecond, 3*time.Second))
			p.Resume()
			return nil
		}},
	}
}

// Happened is one fault of a run, for its story.
type Happened struct {
	At           time.Duration // since the run began
	Acknowledged int
	Kind         string
	Took         time.Duration
}

// String is a line of the story.
func (h Happened) String() string {
	return fmt.Sprintf("%8.3fs %8d acknowledged: %s, %v", h.At.Seconds(), h.Acknowledged, h.Kind, h.Took.Round(time.Millisecond))
}
