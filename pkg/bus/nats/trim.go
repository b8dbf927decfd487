package nats

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/millrace/millrace/pkg/bus"
)

const (
	trimEvery = 30 * time.Second
	trimMax   = 20 * time.Second // for one round
	// trimAgainAfter is how soon a full partition is trimmed again.
	trimAgainAfter = 200 * time.Millisecond
	// A partition is purged down to this share of its size, so that there is room for what is to be read.
	keepNumerator, keepDenominator = 4, 5
)

// trimNowAndThen purges what is read until the log is closed.
func (l *Log) trimNowAndThen() {
	for pause(l.life, trimEvery) {
		if err := l.Trim(l.life); err != nil && l.life.Err() == nil {
			l.cfg.Log.Warn("cannot trim the log; it goes on growing", "error", err)
		}
	}
}

// Trim purges from every partition what every group of its topic has read, where that is older than Retention.Age or where the
// partition is larger than four fifths of its part of Retention.BytesMax. The groups of a topic are those that ever
// subscribed to it, and those of Config.Readers. A topic without any is trimmed by age and size alone. It is called every 30 s
// where Config.Trim is set.
func (l *Log) Trim(ctx context.Context) error {
	bounded, cause, cancel := l.bounded(ctx, trimMax)
	defer cancel()
	read, err := l.readByAll(bounded)
	if err != nil {
		return errors.Join(cause(), err)
	}
	var faults []error
	for _, p := range l.parts {
		if err := l.trimPartition(bounded, p, read[p.id]); err != nil {
			faults = append(faults, errors.Join(cause(), fmt.Errorf("trim %s: %w", p.id, err)))
		}
	}
	return errors.Join(faults...)
}

// trimForRoom trims one partition that is full and reports whether it may have room now.
func (l *Log) trimForRoom(ctx context.Context, p *partition) bool {
	if !p.mayTrim(l.cfg.Now()) {
		return false
	}
	bounded, _, cancel := l.bounded(ctx, requestTimeout)
	defer cancel()
	read, err := l.readByAll(bounded)
	if err != nil {
		return false
	}
	return l.trimPartition(bounded, p, read[p.id]) == nil
}

// mayTrim keeps appends to a full partition from looking at all groups each time.
func (p *partition) mayTrim(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.trimmed) < trimAgainAfter {
		return false
	}
	p.trimmed = now
	return true
}

// unlimited is the sequence of a partition whose topic no group reads.
const unlimited = ^uint64(0)

// readByAll returns the sequence through which every group has read whole frames, for each partition.
func (l *Log) readByAll(ctx context.Context) (map[bus.PartitionID]uint64, error) {
	read := map[bus.PartitionID]uint64{}
	for id := range l.parts {
		read[id] = unlimited
	}
	keys, err := l.positionKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the groups: %w", err)
	}
	seen := map[string]bool{}
	for _, key := range keys {
		id, ok := l.partitionOfKey(key)
		if !ok || strings.HasPrefix(key, keyToken(bus.OnlookerPrefix)) {
			continue
		}
		seen[key] = true
		c := commit{key: key}
		progress, err := c.get(ctx, l)
		if err != nil {
			return nil, fmt.Errorf("read the commit %s: %w", key, err)
		}
		// The frame of the position itself may have more to read.
		read[id] = min(read[id], max(progress.Through.Seq, 1)-1)
	}
	for topic, groups := range l.cfg.Readers {
		for _, group := range groups {
			for n := range l.cfg.Partitions {
				id := bus.PartitionID{Topic: topic, Number: n}
				if !seen[commitKey(group, id)] {
					read[id] = 0
				}
			}
		}
	}
	return read, nil
}

func (l *Log) positionKeys(ctx context.Context) ([]string, error) {
	lister, err := l.positions.ListKeys(ctx)
	if err != nil {
		return nil, err
	}
	var keys []string
	for key := range lister.Keys() {
		keys = append(keys, key)
	}
	return keys, ctx.Err() // when it ended, the list may be short of a group
}

// partitionOfKey returns the partition that commitKey put into key; ok is false for one that this log does not have.
func (l *Log) partitionOfKey(key string) (bus.PartitionID, bool) {
	parts := strings.Split(key, ".")
	if len(parts) != 3 {
		return bus.PartitionID{}, false
	}
	for id := range l.parts {
		if commitKey("", id) == "."+parts[1]+"."+parts[2] {
			return id, true
		}
	}
	return bus.PartitionID{}, false
}

// trimPartition purges p, at most through sequence read.
func (l *Log) trimPartition(ctx context.Context, p *partition, read uint64) error {
	stream, err := l.js.Stream(ctx, p.stream)
	if err != nil {
		return err
	}
	state := stream.CachedInfo().State
	through := min(read, state.LastSeq)
	if state.Msgs == 0 || through < state.FirstSeq {
		return nil
	}
	bySize := l.beyondSize(state)
	byAge, err := l.beyondAge(ctx, stream, p, state, through)
	if err != nil {
		return err
	}
	through = min(through, max(bySize, byAge))
	if through < state.FirstSeq {
		return nil
	}
	if l.ends != nil { // first, so that what a crash leaves is never taken for a loss
		if err := l.ends.trimmed(p.stream, through+1); err != nil {
			return err
		}
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSequence(through+1)); err != nil {
		return fmt.Errorf("purge through %d: %w", through, err)
	}
	l.metrics.trimmed(through - state.FirstSeq + 1)
	return nil
}

// beyondSize returns the sequence through which to purge so that the size is right, taking all messages to be of the same size:
// what that gets wrong the next round gets right.
func (l *Log) beyondSize(state jetstream.StreamState) uint64 {
	limit := uint64(l.cfg.Retention.BytesMax) / uint64(l.cfg.Partitions) //nolint:gosec // validate has seen them
	keep := limit / keepDenominator * keepNumerator
	if state.Bytes <= keep {
		return 0
	}
	surplus := float64(state.Bytes-keep) / float64(state.Bytes)
	return state.FirstSeq + uint64(surplus*float64(state.LastSeq-state.FirstSeq+1))
}

// beyondAge returns the highest sequence, up to through, whose message is older than Retention says; 0 where none is.
func (l *Log) beyondAge(ctx context.Context, stream jetstream.Stream, p *partition, state jetstream.StreamState, through uint64) (uint64, error) {
	oldest := l.cfg.Now().Add(-l.cfg.Retention.Of(p.id.Topic))
	if !state.FirstTime.Before(oldest) {
		return 0, nil
	}
	low, high := state.FirstSeq, through // low is too old; what is above high is not known to be
	for low < high {
		middle := low + (high-low+1)/2
		msg, err := stream.GetMsg(ctx, middle, jetstream.WithGetMsgSubject(p.subject)) // or the next one, where a damage has left a gap
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			high = middle - 1
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("look up the age of %d: %w", middle, err)
		}
		if msg.Time.Before(oldest) {
			low = middle
		} else {
			high = middle - 1
		}
	}
	return low, nil
}
