package nats

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/millrace/millrace/pkg/bus"
)

// Subscribe implements bus.Log. The shares are dealt out evenly over the members of the group, in this process and others: when one
// joins, the others give some up; when one leaves, its shares go to the rest at once, and when a process dies, within
// Config.Lease. Two never own a share as far as leases can promise that: a process that hangs for longer than its lease learns
// only afterwards that it has lost it, and an own that does not return within a quarter of the lease after its context has
// ended for that reason may still be at work when the next one begins. What they write then is caught by the store (ErrFenced)
// or by origins. From its first Subscribe on a group holds the records of its topics until it has committed.
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
	first, ended := l.serve(life, group, slices.Clone(topics), own)
	if ended || first != nil || ctx.Err() != nil {
		return first
	}
	return l.fault() // closed
}

// serve is a member under one lease after the other, until ctx ends, or an own ends it.
func (l *Log) serve(ctx context.Context, group string, topics []string, own ownFunc) (first error, ended bool) {
	r := l.enter() //nolint:contextcheck // it is shared by all members
	defer l.leave()
	for ctx.Err() == nil {
		held, err := r.lease(ctx)
		if held == nil {
			return errors.Join(first, err), false
		}
		m := &member{
			log: l, roster: r, lease: held, group: keyToken(group), own: own,
			joined: l.cfg.Now().UnixNano(), // anew with each lease: who comes back is the youngest, and takes nothing from its heirs
			id:     held.id + "." + strconv.FormatUint(l.sent.Add(1), 36),
			share:  func(number int) bus.Share { return l.share(number, group, topics) },
			wake:   make(chan struct{}, 1), held: map[int]*holding{}, released: map[int]uint64{},
		}
		m.serve(ctx)
		held.using.Done()
		if first == nil {
			first = m.err
		}
		if m.ended {
			return first, true
		}
	}
	return first, false
}

// share opens a share's partitions for a group.
func (l *Log) share(number int, group string, topics []string) bus.Share {
	s := bus.Share{Number: number}
	for _, topic := range topics {
		id := bus.PartitionID{Topic: topic, Number: number}
		s.Partitions = append(s.Partitions, &view{log: l, part: l.parts[id], commit: &commit{key: commitKey(group, id)}})
	}
	return s
}

// join makes the group known, so that the trimmer keeps what it has not read.
func (l *Log) join(ctx context.Context, group string, topics []string) error {
	for _, topic := range topics {
		for n := range l.cfg.Partitions {
			id := bus.PartitionID{Topic: topic, Number: n}
			if _, err := l.partition(id); err != nil {
				return fmt.Errorf("topic %q: %w", topic, err)
			}
			if err := l.joinPartition(ctx, group, id); err != nil {
				return fmt.Errorf("join on %s: %w", id, err)
			}
		}
	}
	return nil
}

// joinPartition tries until it is done: that a server does not answer for a while is no reason for a worker to end.
func (l *Log) joinPartition(ctx context.Context, group string, id bus.PartitionID) error {
	const pauseMax = time.Second
	c := commit{key: commitKey(group, id)}
	for wait := askAgain; ; wait = min(2*wait, pauseMax) {
		err := c.put(ctx, l, bus.Progress{})
		if err == nil || errors.Is(err, nats.ErrConnectionClosed) {
			return err
		}
		if fault := l.fault(); fault != nil {
			return fault
		}
		l.cfg.Log.Warn("cannot join the group yet, trying again", "group", group, "partition", id.String(), "error", err)
		if !pause(ctx, wait) {
			return err
		}
	}
}
