package nats

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/millrace/millrace/pkg/bus"
)

// commitAttemptsMax is how often a commit is tried against another member's, which is the former owner at work still.
const commitAttemptsMax = 8

var errContended = errors.New("another member keeps committing")

// commit is the progress of one group on one partition, in the bucket of positions.
type commit struct {
	key string

	mu       sync.Mutex
	known    bool   // revision and progress are what the bucket had
	revision uint64 // 0 where there is nothing
	progress bus.Progress
}

// commitKey names what a group has read of a partition: group.topic.partition.
func commitKey(group string, id bus.PartitionID) string {
	return keyToken(group) + "." + id.Topic + "." + strconv.Itoa(id.Number)
}

// keyToken writes a group's name with those bytes only that may stand between the dots of a key.
func keyToken(name string) string {
	var s strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
			s.WriteByte(c)
		default:
			fmt.Fprintf(&s, "=%02X", c)
		}
	}
	return s.String()
}

// get returns what the bucket has; the zero Progress where there is nothing.
func (c *commit) get(ctx context.Context, l *Log) (bus.Progress, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.load(ctx, l); err != nil {
		return bus.Progress{}, err
	}
	return c.progress.Clone(), nil
}

func (c *commit) load(ctx context.Context, l *Log) error {
	if err := l.fault(); err != nil {
		return err
	}
	bounded, cause, cancel := l.bounded(ctx, requestTimeout)
	defer cancel()
	c.known = false
	entry, err := l.positions.Get(bounded, c.key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		c.known, c.revision, c.progress = true, 0, bus.Progress{}
		return nil
	}
	if err != nil {
		return errors.Join(cause(), err)
	}
	progress, err := bus.ParseProgress(entry.Value())
	if err != nil {
		return err
	}
	c.known, c.revision, c.progress = true, entry.Revision(), progress
	return nil
}

// put records progress unless it is behind what is recorded. It compares revisions, so that a former owner, who does not know
// yet that he is one, cannot set his successor back.
func (c *commit) put(ctx context.Context, l *Log, progress bus.Progress) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for attempt := range commitAttemptsMax {
		// A cluster refuses for the sake of a write that is still on its way to the other nodes and not yet to be read.
		if attempt > 1 && !pause(ctx, askAgain<<(attempt-2)) {
			return ctx.Err()
		}
		if !c.known {
			if err := c.load(ctx, l); err != nil {
				return err
			}
		}
		if c.revision > 0 && (progress.Through.IsZero() || progress.Through.Compare(c.progress.Through) < 0) {
			return nil
		}
		revision, err := c.write(ctx, l, progress)
		if err == nil {
			c.revision, c.progress = revision, progress.Clone()
			return nil
		}
		c.known = false
		if !changedByOther(err) {
			return err
		}
	}
	return errContended
}

func (c *commit) write(ctx context.Context, l *Log, progress bus.Progress) (uint64, error) {
	if err := l.fault(); err != nil {
		return 0, err
	}
	bounded, cause, cancel := l.bounded(ctx, requestTimeout)
	defer cancel()
	revision, err := l.positions.Update(bounded, c.key, progress.AppendBinary(nil), c.revision) // revision 0: where there is none
	if err != nil {
		if why := cause(); why != nil {
			return 0, fmt.Errorf("%w (%w)", why, err)
		}
		return 0, err
	}
	return revision, nil
}

// changedByOther reports whether a write was refused since the key has another revision.
func changedByOther(err error) bool {
	if errors.Is(err, jetstream.ErrKeyExists) {
		return true
	}
	var api *jetstream.APIError
	return errors.As(err, &api) &&
		(api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}
