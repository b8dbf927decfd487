package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
)

// What the zero values of Loop's fields stand for, and limits that nobody needs to set.
const (
	defaultBatchRecords = 16384
	defaultBatchBytes   = 32 << 20
	defaultDrain        = 20 * time.Second // less than service.DefaultDrain, so that a write that is slow is not cut short

	prefetchBatches   = 64      // read ahead of the task by one share, at most
	prefetchBytes     = 4 << 20 // likewise; a larger batch passes alone
	tickEvery         = time.Second
	busCommitEvery    = 2 * time.Second  // where the bus keeps the progress; each costs the log a sync for every partition
	trimHintEvery     = 10 * time.Second // where it only says what may be trimmed
	trimHintBytes     = 8 << 20          // of records since the last hint, after which one comes sooner: a full log waits for it
	silentCommitEvery = 2 * time.Second  // of a progress without rows, records or dead letters
	commitPauseMax    = 30 * time.Second // however dear a write is
	commitPauseRatio  = 5                // so writing takes a sixth of the time at most
)

// Loop reads topics as one consumer group and gives their records to tasks. Fill it, then call Run once.
type Loop[Row any] struct {
	Worker string   // name of the worker and of its consumer group
	Topics []string // all have the same number of partitions; unless bus.Ingested or bus.DeadLetters is one, the loop also reads bus.Redelivered
	Bus    bus.Log
	// Upstream says from where the records come: the clock that a task is told goes no further than these groups have passed on.
	Upstream []Upstream
	// Store takes the rows and keeps the progress; nil for a worker that only publishes, whose progress the bus keeps. Where it
	// is store.Buffered, it is flushed on a drain and only what is on disk is committed to the bus.
	Store store.Writer[Row]
	// ProgressOnBus says that Store, which is not store.Buffered, keeps no progress, so that the group's commit is the place to
	// start from. Where it is false and Store has none, reading begins at the earliest record: a store that was emptied is
	// filled again.
	ProgressOnBus bool
	// Checkpoints is where a Stateful task's state is read back; nil where tasks have none.
	Checkpoints store.Checkpoints
	// Start is where a share without any progress begins, only for a worker whose progress the bus keeps; the zero Start is
	// the earliest record. That place is committed at once, so that a restart does not skip what came in between.
	Start bus.Start
	// NewTask returns the task of one share, fresh.
	NewTask func(share int) (Task[Row], error)
	// Warm, if set, is called for a task before its first record, with the share and its progress (in the order of
	// share.Partitions), so that it may read a little of the log again. It is called after Restore.
	Warm func(ctx context.Context, task Task[Row], share bus.Share, progress []bus.Progress) error
	// Prepare, if set, is called in each commit before anything is published, and may change out. It is where rows are
	// completed from what the store holds. It is tried again until it returns nil, so it must bear being called twice with
	// the same out; what it adds belongs to the same commit.
	Prepare func(ctx context.Context, out *Output[Row]) error

	// CommitEvery is how long records may gather before they are written; the first after a pause is written at once. 0
	// writes whenever nothing more is at hand. Where writing is dear the pause grows to five times what the last write
	// took, up to 30 s. Whatever the pause, a commit comes when BatchRecords or BatchBytes have gathered. What came to no row,
	// publication or dead letter is committed to the store every 2 s at most.
	CommitEvery  time.Duration
	BatchRecords int           // most rows and publications that gather before a commit; 0 means 16384
	BatchBytes   int           // most bytes of records, which rows may alias, that gather before a commit; 0 means 32 MiB
	Drain        time.Duration // how long work in hand may outlive Run's context; 0 means what Metrics.DrainWithin says, else 20 s

	Metrics *Metrics // nil counts nothing
	Log     *slog.Logger
	Now     func() time.Time
}

// Run works until ctx ends, then finishes and commits what is in hand and returns nil. It returns an error where it could
// not finish that within Drain (nothing is lost: the log has it), and where going on makes no sense: a topic that does not
// exist, a log that was closed or is not the one that the progress is from (bus.ErrAhead), a task that cannot be made or
// restored. A worker that was fenced leaves its shares and joins
// again. Whatever else goes wrong is tried again with backoff, for ever, and shows in Metrics.Statuses.
func (l *Loop[Row]) Run(ctx context.Context) error {
	c, err := l.configured()
	if err != nil {
		return fmt.Errorf("run worker %q: %w", l.Worker, err)
	}
	track := c.Metrics.enter(c.Worker, c.Now)
	defer c.Metrics.leave(track)
	again := newBackoff()
	for {
		err := c.Bus.Subscribe(ctx, c.Worker, c.topics(), func(owning context.Context, share bus.Share) error {
			err := c.own(owning, share, track)
			lost := errors.Is(err, bus.ErrLost) || owning.Err() != nil && ctx.Err() == nil && !final(err)
			if err == nil || !lost {
				return err
			}
			// The log has what could not be finished for the share's next owner.
			c.Log.WarnContext(ctx, "a share was lost before its work was committed", "worker", c.Worker, "error", err)
			return nil
		})
		switch {
		case errors.Is(err, store.ErrFenced):
		case err != nil && ctx.Err() != nil:
			return fmt.Errorf("run worker %s: %w", c.Worker, &unfinished{err})
		case err != nil:
			return fmt.Errorf("run worker %s: %w", c.Worker, err)
		case ctx.Err() != nil:
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
		c.Log.WarnContext(ctx, "ownership ended, joining again", "worker", c.Worker, "error", err)
		if !wait(ctx, again.NextBackOff()) {
			return nil
		}
	}
}

// configured returns a copy of l with every default in place.
func (l *Loop[Row]) configured() (*Loop[Row], error) {
	var errs []error
	for what, missing := range map[string]bool{
		"Worker": l.Worker == "", "Topics": len(l.Topics) == 0, "Bus": l.Bus == nil, "NewTask": l.NewTask == nil, "Now": l.Now == nil,
	} {
		if missing {
			errs = append(errs, fmt.Errorf("%s: missing", what))
		}
	}
	if _, ok := l.Store.(store.Buffered); ok && l.ProgressOnBus {
		errs = append(errs, errors.New("ProgressOnBus: the store is buffered, so its writes say nothing of what is on disk, want one that keeps its progress"))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	c := *l
	if c.BatchRecords <= 0 {
		c.BatchRecords = defaultBatchRecords
	}
	if c.BatchBytes <= 0 {
		c.BatchBytes = defaultBatchBytes
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = newMetrics()
	}
	if c.Drain <= 0 {
		c.Drain = cmp.Or(c.Metrics.drain, defaultDrain)
	}
	return &c, nil
}

// topics returns what the loop reads: beside its own topics what is given to it once more, last. Who reads what came in has no part in
// that, as what it could not process comes in again; nor has the one that keeps dead letters.
func (l *Loop[Row]) topics() []string {
	if slices.Contains(l.Topics, bus.Ingested) || slices.Contains(l.Topics, bus.DeadLetters) {
		return l.Topics
	}
	return append(slices.Clip(l.Topics), bus.Redelivered)
}

// busProgress says whether the group's commit is where a restart goes on.
func (l *Loop[Row]) busProgress() bool { return l.Store == nil || l.ProgressOnBus }

// wait returns false when ctx ended before d had passed.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// outlive returns a context that ends grace after ctx did: for work in hand.
func outlive(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var timer *time.Timer
	armed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		timer = time.AfterFunc(grace, cancel)
		close(armed)
	})
	return work, func() {
		if !stop() {
			<-armed
			timer.Stop()
		}
		cancel()
	}
}
