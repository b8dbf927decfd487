package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace/millrace/pkg/bus"
)

// own works on one share until ctx ends. A task that panics or hangs is thrown away with everything that is not committed, and a fresh
// one reads it again, since nobody knows what is left of its state. What one record does so again and again becomes a dead letter: see care.
func (l *Loop[Row]) own(ctx context.Context, share bus.Share, track *workerTrack) error {
	care := newCare()
	hand, was, times, err := l.recall(share.Number, care)
	if err != nil {
		l.Log.WarnContext(ctx, "a record that ends the process will not be found", "worker", l.Worker, "share", share.Number, "error", err)
	}
	defer func() {
		if err := hand.end(); err != nil {
			l.Log.WarnContext(ctx, "the note of what was in hand stays", "worker", l.Worker, "share", share.Number, "error", err)
		}
	}()
	if was != nil {
		l.told(ctx, share.Number, was, times)
	}
	again := newBackoff()
	for {
		hand.keeps(care.limit)
		err := l.work(ctx, share, track, care, hand)
		var f *failed
		if !errors.As(err, &f) {
			return err
		}
		l.told(ctx, share.Number, f, care.learn(f))
		if f.how == hung && hand != nil {
			hand.lost = true
		}
		if ctx.Err() != nil {
			return err // what it had in hand is not finished
		}
		between := track.add(nil) // so that the reason shows meanwhile
		between.retry("begin again", f)
		ok := wait(ctx, again.NextBackOff())
		track.remove(between)
		if !ok {
			return nil
		}
	}
}

// work is one life of a share's task. A panic outside of Add and Tick, such as in a snapshot, ends that life too, and not the
// process with all its other workers; so does a task that hangs.
func (l *Loop[Row]) work(ctx context.Context, share bus.Share, track *workerTrack, care *care, hand *inHand) error {
	living, end := context.WithCancel(ctx)
	defer end()
	s := newShare(l, share, track, care.clone())
	s.hand = hand
	defer track.remove(s.track)
	ended := make(chan error, 1)
	go func() { ended <- s.live(living) }()
	err := s.supervise(ended)
	if f, given := errors.AsType[*failed](err); !given || f.how != hung {
		*care = *s.care
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && errors.Is(err, errEarly):
		return nil // it ended while it was still finding where to start
	default:
		return fmt.Errorf("share %d: %w", share.Number, err)
	}
}

// errEarly is the end of a life whose context ended before it had begun.
var errEarly = errors.New("it ended while it was finding where to start")

// live works until ctx ends. What it has in hand may outlive that by the loop's Drain.
func (s *share[Row]) live(ctx context.Context) (err error) {
	s.steps.name()
	defer func() {
		if v := recover(); v != nil {
			f := panicked(place{}, v)
			if s.committing && s.gathered > 0 {
				f.at, f.taken = s.newest, s.gathered
			}
			err = f
		}
	}()
	s.leaving = ctx.Done()
	work, stop := outlive(ctx, s.loop.Drain)
	defer stop()
	if err = s.begin(ctx); err == nil {
		err = s.run(ctx, work)
	}
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) && work.Err() == nil {
		return errEarly
	}
	return err
}
