package nats

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/millrace/millrace/pkg/bus"
)

type ownFunc func(context.Context, bus.Share) error

// Subscribe implements bus.Log. One member at a time, which holds the group's lease, owns all shares; the others wait, and one
// takes over as soon as it leaves, or within Config.Lease after it died. (Dealing the shares out over the members is to come.)
// From its first Subscribe on a group holds the records of its topics until it has committed.
func (l *Log) Subscribe(ctx context.Context, group string, topics []string, own func(context.Context, bus.Share) error) error {
	if err := l.subscribe(ctx, group, topics, own); err != nil {
		return fmt.Errorf("subscribe %s to %v: %w", group, topics, err)
	}
	return nil
}

func (l *Log) subscribe(ctx context.Context, group string, topics []string, own ownFunc) error {
	if group == "" || len(topics) == 0 {
		return fmt.Errorf("group %q of %d topics, want a name and at least one topic", group, len(topics))
	}
	if err := l.fault(); err != nil {
		return err
	}
	life, leave := context.WithCancel(ctx)
	defer leave()
	defer context.AfterFunc(l.life, leave)() //nolint:contextcheck // Close ends it, whatever ctx says
	if err := l.join(life, group, topics); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	var first error
	for life.Err() == nil {
		held, err := l.acquire(life, group)
		if err != nil {
			return errors.Join(first, err)
		}
		if held == nil {
			break
		}
		ended, err := l.ownAll(life, held, group, topics, own)
		held.release(life)
		if first == nil {
			first = err
		}
		if ended {
			return first
		}
	}
	if first != nil || ctx.Err() != nil {
		return first
	}
	return l.fault() // closed
}

// join makes the group known, so that the trimmer keeps what it has not read.
func (l *Log) join(ctx context.Context, group string, topics []string) error {
	for _, topic := range topics {
		for n := range l.cfg.Partitions {
			id := bus.PartitionID{Topic: topic, Number: n}
			if _, err := l.partition(id); err != nil {
				return fmt.Errorf("topic %q: %w", topic, err)
			}
			c := commit{key: commitKey(group, id)}
			if err := c.put(ctx, l, bus.Progress{}); err != nil {
				return fmt.Errorf("join on %s: %w", id, err)
			}
		}
	}
	return nil
}

// ownAll runs own on every share until all have returned. ended is true when one returned although its context lived; the
// error is the first of any.
func (l *Log) ownAll(ctx context.Context, held *lease, group string, topics []string, own ownFunc) (ended bool, err error) {
	term, stop := context.WithCancel(ctx)
	defer stop()
	var (
		owns sync.WaitGroup
		mu   sync.Mutex
	)
	for n := range l.cfg.Partitions {
		share := bus.Share{Number: n}
		for _, topic := range topics {
			id := bus.PartitionID{Topic: topic, Number: n}
			share.Partitions = append(share.Partitions, &view{log: l, part: l.parts[id], commit: &commit{key: commitKey(group, id)}})
		}
		owns.Go(func() {
			failure := own(term, share)
			mu.Lock()
			defer mu.Unlock()
			if term.Err() == nil {
				ended = true
				stop()
			}
			if err == nil {
				err = failure
			}
		})
	}
	var renewal sync.WaitGroup
	renewed, enough := context.WithCancel(context.WithoutCancel(ctx))
	renewal.Go(func() { // until the last own has returned, also when ctx has ended
		held.renew(renewed, stop)
	})
	owns.Wait()
	enough()
	renewal.Wait()
	return ended, err
}
