package archive

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store/gather"
)

// recordsKept is how many of the newest records stay. Only the newest counts; the others tell people what went before.
const recordsKept = 8

// chain is the records of one worker.
type chain struct {
	bucket Bucket
	worker string

	mu     sync.Mutex
	newest *head            // as last seen; nil where it was never looked at
	seen   time.Time        // when
	moves  map[move]*moving // those of newest
}

// moving is what is known of a file that a record wants in its place.
type moving struct {
	since time.Time // first seen
	done  bool
}

func newChain(bucket Bucket, worker string) *chain {
	return &chain{bucket: bucket, worker: worker, moves: map[move]*moving{}}
}

// last returns the newest record as last seen, and when that was; nil where it was never looked at.
func (c *chain) last() (*head, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.newest, c.seen
}

// load finds the newest record; now is what the clock says.
func (c *chain) load(ctx context.Context, now time.Time) (*head, error) {
	known, _ := c.last()
	h, err := c.find(ctx, known)
	for again := 0; errors.Is(err, ErrNotFound) && again < recordsKept; again++ {
		h, err = c.find(ctx, known) // it was the newest a moment ago and has been removed: there are newer ones
	}
	if err != nil {
		return nil, fmt.Errorf("find what worker %s has committed: %w", c.worker, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.newest != nil && h.number < c.newest.number { // somebody else here was quicker
		h = c.newest
	}
	since := now
	if c.newest == nil {
		since = time.Time{} // whoever left files behind before this process began may not come back
	}
	for _, m := range h.publish {
		if c.moves[m] == nil {
			c.moves[m] = &moving{since: since}
		}
	}
	maps.DeleteFunc(c.moves, func(m move, _ *moving) bool { return !slices.Contains(h.publish, m) })
	c.newest, c.seen = h, now
	return h, nil
}

func (c *chain) find(ctx context.Context, known *head) (*head, error) {
	numbers, err := c.numbers(ctx)
	if err != nil {
		return nil, err
	}
	newest := uint64(0)
	if len(numbers) > 0 {
		newest = slices.Max(numbers)
	}
	switch {
	case known != nil && newest < known.number:
		return nil, fmt.Errorf("the newest record is %d, and %d was there before: somebody has removed it", newest, known.number)
	case known != nil && newest == known.number:
		return known, nil
	case newest == 0:
		return &head{progress: map[gather.Source]bus.Progress{}}, nil
	}
	key := recordKey(c.worker, newest)
	body, err := c.bucket.Read(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	r, err := parseRecord(body)
	if err == nil && r.Number != newest {
		err = fmt.Errorf("its number is %d", r.Number)
	}
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", key, err)
	}
	return r.head()
}

func (c *chain) numbers(ctx context.Context) ([]uint64, error) {
	var numbers []uint64
	for o, err := range c.bucket.List(ctx, recordsDir(c.worker)) {
		if err != nil {
			return nil, err
		}
		if n, ok := numberOf(o.Key); ok {
			numbers = append(numbers, n)
		}
	}
	return numbers, nil
}

// follow creates the record after h, with what w adds. ErrExists: another replica was quicker. Where it returns nil, the record
// counts only if a load then finds it in effect: a record may fill the gap that old, removed ones left, below the newest.
func (c *chain) follow(ctx context.Context, h *head, w *work, now time.Time) error {
	progress := maps.Clone(h.progress)
	for from, t := range w.covers {
		progress[from] = t.Through
	}
	r := &record{Version: recordVersion, Number: h.number + 1, Written: now.UTC(), Publish: append(c.unmoved(h), w.files...)}
	for from, p := range progress {
		r.Progress = append(r.Progress, gather.NewCoverage(from, p))
	}
	slices.SortFunc(r.Progress, func(a, b gather.Coverage) int {
		if a.Topic != b.Topic {
			return strings.Compare(a.Topic, b.Topic)
		}
		return a.Partition - b.Partition
	})
	return c.bucket.Write(ctx, recordKey(c.worker, r.Number), true, r.write)
}

// unmoved returns the files of a record that are not known to be in their place.
func (c *chain) unmoved(h *head) []move {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.publish), func(m move) bool { return c.moves[m] != nil && c.moves[m].done })
}

// left returns the files that another has committed and not brought to their place within a minute.
func (c *chain) left(now time.Time) []move {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []move
	for m, state := range c.moves {
		if !state.done && now.Sub(state.since) >= time.Minute {
			all = append(all, m)
		}
	}
	return all
}

// arrived remembers that a file is in its place.
func (c *chain) arrived(m move) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.moves[m] != nil {
		c.moves[m].done = true
	}
}

// prune removes records that are far behind the newest.
func (c *chain) prune(ctx context.Context) error {
	numbers, err := c.numbers(ctx)
	if err != nil {
		return err
	}
	slices.Sort(numbers)
	for _, n := range numbers[:max(0, len(numbers)-recordsKept)] {
		if err := c.bucket.Remove(ctx, recordKey(c.worker, n)); err != nil {
			return err
		}
	}
	return nil
}
