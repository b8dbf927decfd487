package standalone

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// unit is one worker: a name and what runs it until its context ends.
type unit struct {
	name string
	run  func(context.Context) error
}

// group runs units, each in a goroutine of its own. One that ends by an error or a panic is started again after a while;
// the others never notice.
type group struct {
	log *slog.Logger
	now func() time.Time
	// ended, if set, is told that a unit has ended and waits to be started again, and with a nil error that it is.
	ended func(name string, err error)
	all   sync.WaitGroup
}

var errNoReason = errors.New("it gave no reason")

const (
	pauseMax = 30 * time.Second
	steady   = 5 * time.Minute // who has run for so long is started again as soon as one that fails for the first time
)

func (g *group) start(ctx context.Context, units []unit) {
	for _, u := range units {
		g.all.Go(func() { g.keep(ctx, u) })
	}
}

func (g *group) wait() { g.all.Wait() }

func (g *group) keep(ctx context.Context, u unit) {
	pause := backoff.NewExponentialBackOff(backoff.WithMaxElapsedTime(0), backoff.WithMaxInterval(pauseMax))
	for {
		began := g.now()
		g.say(u.name, nil)
		err := safely(ctx, u)
		if ctx.Err() != nil {
			if err != nil {
				g.log.Error("worker did not finish what it had in hand; the log keeps it", "worker", u.name, "error", err)
			}
			return
		}
		if g.now().Sub(began) >= steady {
			pause.Reset()
		}
		g.say(u.name, cmp.Or(err, errNoReason))
		wait := pause.NextBackOff()
		g.log.Error("worker ended, starting it again", "worker", u.name, "error", err, "in", wait.Round(time.Millisecond))
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (g *group) say(name string, err error) {
	if g.ended != nil {
		g.ended(name, err)
	}
}

// safely turns a panic into an error, so that one worker's fault is not every worker's end.
func safely(ctx context.Context, u unit) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return u.run(ctx)
}
