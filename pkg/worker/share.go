package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// share is one life of one share's task: from finding where to start to the last commit. Its fields belong to the goroutine
// of run, except where their comments say otherwise.
type share[Row any] struct {
	loop     *Loop[Row]
	bus      bus.Share
	track    *shareTrack // safe for concurrent use
	care     *care       // what earlier lives have learned
	hand     *inHand     // what the next process must know, should this one die
	steps    steps       // safe for concurrent use, as far as supervise needs it
	parts    []*part
	upstream []upstream
	task     Task[Row]
	owner    uint32       // names this life in what it writes
	state    bus.Position // how far the progress of the state is, see stateTopic
	stateful Stateful     // nil where the task has no state, or there is nowhere to keep it
	// accountant is the task where it keeps account, and the bus the progress; else nil.
	accountant Accountant

	out        Output[Row]
	letters    []bus.Record // dead letters to append before the commit
	bytes      int          // of the records taken since the last commit
	gathered   int          // how many those are
	newest     place        // of them
	committing bool         // a commit is under way
	dirty      bool         // something was taken or came out since the last commit
	topics     []topicBatch // reused by publish
	snapshot   []byte       // reused by write

	leaving <-chan struct{} // closed when the share is to be left, or the process to end

	nextCommit time.Time
	nextSilent time.Time // likewise, where a commit would be silent
	nextHint   time.Time
	hintBytes  int // of the records committed since the last hint

	fetched chan fetched        // filled by the readers
	ahead   *semaphore.Weighted // bytes in fetched and in the readers' hands
	failed  chan error          // from a reader that cannot go on; unbuffered, since it waits
}

// part is one partition of a share.
type part struct {
	bus.Partition
	id       bus.PartitionID
	topic    int          // its place among the topics of the loop
	start    bus.Start    // where reading begins
	progress bus.Progress // taken by the task
	written  bus.Position // committed with the rows
	origins  bus.Origins  // as of written
	hinted   bus.Position // committed to the bus
	moved    bool         // records came since the last tick
	track    *partTrack
}

// fetched is a batch on its way from a reader to the task.
type fetched struct {
	part  *part
	batch bus.Batch
	bytes int64 // to give back to ahead
}

func newShare[Row any](l *Loop[Row], b bus.Share, track *workerTrack, care *care) *share[Row] {
	s := &share[Row]{
		loop: l, bus: b, care: care,
		fetched: make(chan fetched, prefetchBatches), ahead: semaphore.NewWeighted(prefetchBytes),
		failed: make(chan error), owner: newOwner(),
	}
	for i, p := range b.Partitions {
		s.parts = append(s.parts, &part{Partition: p, id: p.ID(), topic: i, track: l.Metrics.newPartTrack(l.Worker, p.ID())})
	}
	s.track = track.add(s.parts)
	return s
}

func (s *share[Row]) taskName() string { return strconv.Itoa(s.bus.Number) }

// begin finds where to start and makes the task ready for its first record.
func (s *share[Row]) begin(ctx context.Context) error {
	// What an earlier life left in a buffering store must not be written a second time after the place that is on disk.
	if err := s.flush(ctx); err != nil {
		return err
	}
	progress := make([]bus.Progress, 0, len(s.parts))
	for _, p := range s.parts {
		err := s.retry(ctx, "find where to start in "+p.id.String(), func() error { return s.resume(ctx, p) })
		if err != nil {
			return err
		}
		progress = append(progress, p.progress.Clone())
	}
	if err := s.retry(ctx, "open what is upstream", func() error { return s.findUpstream(ctx) }); err != nil {
		return err
	}
	task, err := s.loop.NewTask(s.bus.Number)
	if err != nil {
		return fmt.Errorf("make the task: %w", err)
	}
	s.task = task
	if a, ok := task.(Accountant); ok && s.loop.busProgress() {
		s.accountant = a
	}
	if err := s.restore(ctx); err != nil {
		return err
	}
	if s.loop.Warm == nil {
		return nil
	}
	return s.retry(ctx, "warm the task", func() error { return s.loop.Warm(ctx, s.task, s.bus, progress) })
}

// resume sets where p starts: the store's progress, else the group's commit, else the loop's Start.
func (s *share[Row]) resume(ctx context.Context, p *part) error {
	committed, known, err := p.Committed(ctx)
	if err != nil {
		return fmt.Errorf("read the group's commit: %w", err)
	}
	if known {
		p.hinted = committed.Through
	}
	from, ok := committed, known
	if !s.loop.busProgress() {
		if from, ok, err = s.loop.Store.Progress(ctx, s.loop.Worker, p.id); err != nil {
			s.estimate(ctx, p, committed.Through)
			return fmt.Errorf("read the store's progress: %w", err)
		}
		if known && from.Through.Compare(committed.Through) < 0 { // as it was emptied, or restored from an older copy
			s.loop.Log.WarnContext(ctx, "the store has less than the group committed, reading again what the log still has of it",
				"worker", s.loop.Worker, "partition", p.id.String(), "stored", from.Through.String(), "committed", committed.Through.String())
		}
	}
	if !ok && s.loop.busProgress() && s.loop.Start.Newest {
		if from.Through, err = p.End(ctx); err != nil {
			return fmt.Errorf("find the end: %w", err)
		}
		if from.Through.IsZero() {
			from.Through = bus.Position{Index: 1} // before every record as well, but a commit of zero is none
		}
		if err := p.Commit(ctx, from); err != nil {
			return fmt.Errorf("commit the end as the start: %w", err)
		}
		p.hinted, ok = from.Through, true
	}
	if ok {
		p.progress = from.Clone()
	}
	p.start = bus.Start{Position: p.progress.Through}
	if !ok && s.loop.busProgress() {
		p.start = s.loop.Start
	}
	p.written, p.origins = p.progress.Through, from.Clone().Origins
	p.track.begins(p.written)
	return nil
}

// restore gives the task the state that belongs to the progress.
func (s *share[Row]) restore(ctx context.Context) error {
	stateful, ok := s.task.(Stateful)
	if !ok || s.loop.Checkpoints == nil {
		return nil
	}
	s.stateful = stateful
	if err := s.findState(ctx); err != nil {
		return err
	}
	var state []byte
	var found bool
	err := s.retry(ctx, "read the checkpoint", func() (err error) {
		state, found, err = s.loop.Checkpoints.Checkpoint(ctx, s.loop.Worker, s.taskName())
		return err
	})
	if err != nil {
		return err
	}
	if !found {
		s.warnOfNoCheckpoint(ctx)
		return nil
	}
	outbox, state, err := splitOutbox(state)
	if err != nil {
		return fmt.Errorf("restore the checkpoint of task %s: %w", s.taskName(), err)
	}
	if err := stateful.Restore(state); err != nil {
		return fmt.Errorf("restore the checkpoint of task %s (%d bytes): %w", s.taskName(), len(state), err)
	}
	return s.publishAgain(ctx, outbox)
}

// warnOfNoCheckpoint says it where records were taken before, whose effects on the state are not known any more.
func (s *share[Row]) warnOfNoCheckpoint(ctx context.Context) {
	for _, p := range s.parts {
		if !p.progress.Through.IsZero() {
			s.loop.Log.WarnContext(ctx, "the store has progress and no checkpoint: what was under way before it is not known", "worker", s.loop.Worker,
				"task", s.taskName(), "partition", p.id.String(), "through", p.progress.Through.String())
			return
		}
	}
}

// run reads and works until ctx ends, then drains. work outlives ctx by the loop's Drain.
func (s *share[Row]) run(ctx, work context.Context) error {
	reading, stop := context.WithCancel(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer stop()
	for _, p := range s.parts {
		readers.Go(func() { s.read(reading, p) })
	}
	readers.Go(func() { s.watch(reading) })
	err := s.loopUntil(ctx, work)
	stop()
	var f *failed
	switch {
	case errors.As(err, &f):
		if s.accountant != nil {
			return err // nobody knows what it counted: the next life starts where the last account ended
		}
		// The next life starts where the last commit ended; where the bus keeps that, it must know.
		if hintErr := s.hint(work, true); hintErr != nil {
			return hintErr
		}
		return err
	case err != nil:
		return err
	default:
		return s.drain(work)
	}
}

func (s *share[Row]) loopUntil(ctx, work context.Context) error {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	for ctx.Err() == nil {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case f := <-s.fetched:
			f.part.track.pending.CompareAndSwap(0, f.batch.Records[0].Time)
			err = s.apply(work, f)
		case <-tick.C:
			err = s.tick(work)
		case err = <-s.failed:
		case <-alarm.C:
		}
		if err == nil && s.dirty {
			if wait, now := s.due(s.loop.Now()); now {
				err = s.commit(work)
			} else if wait > 0 {
				alarm.Reset(wait)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// full says that so much has gathered that it must be written now.
func (s *share[Row]) full() bool {
	if limit := s.care.limit; limit > 0 && s.gathered >= limit {
		return true
	}
	return len(s.out.Rows)+len(s.out.Publish)+len(s.letters) >= s.loop.BatchRecords || s.bytes >= s.loop.BatchBytes
}

// due says whether what was taken is to be committed now, else how long that may wait; 0 until the next batch comes.
func (s *share[Row]) due(at time.Time) (wait time.Duration, now bool) {
	if s.full() {
		return 0, true
	}
	from := s.nextCommit
	if s.loop.Store != nil && s.silent() && s.nextSilent.After(from) {
		from = s.nextSilent
	} else if s.loop.CommitEvery <= 0 {
		return 0, len(s.fetched) == 0
	}
	wait = from.Sub(at)
	return max(wait, 0), wait <= 0
}

// silent says that a commit would show nothing to anybody: there are no rows, records or dead letters, only a progress and perhaps
// a state. It may wait, since all that hangs on it is how much is read again after a crash; and where a transaction costs as much
// with rows as without, a worker that seldom has any would keep the others waiting for nothing.
func (s *share[Row]) silent() bool {
	return len(s.out.Rows)+len(s.out.Publish)+len(s.letters) == 0
}

// tick tells the task the wall clock, refreshes what the metrics say, and commits to the bus what is left to commit.
func (s *share[Row]) tick(ctx context.Context) error {
	// The clock is read first: what was appended before now is then either taken or seen as unread.
	now := s.loop.Now()
	through := s.complete(ctx, telemetry.At(now))
	err := s.step(func() error {
		return guard(func() { s.task.Tick(&s.out, telemetry.At(now), through) })
	})
	if err != nil {
		return err
	}
	if len(s.out.Rows)+len(s.out.Publish) > 0 {
		s.dirty = true
	}
	if now.Before(s.nextHint) || s.accountant != nil && s.dirty { // an account covers what was committed and nothing beyond
		return nil
	}
	return s.hint(ctx, false)
}

// moved says that records came since the last tick.
func (s *share[Row]) moved() bool {
	return len(s.fetched) > 0 || slices.ContainsFunc(s.parts, func(p *part) bool { return p.moved })
}

// idle says whether nothing of the share is unread. Asking the log for an end costs it a few requests, so it is asked where
// the answer matters: each time for a state, which may depend on it; once when a partition has gone quiet; and by watch.
func (s *share[Row]) idle(ctx context.Context) bool {
	_, exact := s.task.(Stateful)
	idle := len(s.fetched) == 0
	for _, p := range s.parts {
		quiet := !p.moved
		p.moved = false
		if quiet && (exact || !p.track.caughtUp.Load()) {
			s.look(ctx, p)
		}
		idle = idle && quiet && p.track.caughtUp.Load()
	}
	return idle
}

// drain commits what was taken, once reading has stopped.
func (s *share[Row]) drain(ctx context.Context) error {
	if err := s.commit(ctx); err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	if err := s.flush(ctx); err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	if err := s.hint(ctx, true); err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	return nil
}

func (s *share[Row]) flush(ctx context.Context) error {
	buffered, ok := s.loop.Store.(store.Buffered)
	if !ok {
		return nil
	}
	return s.retry(ctx, "flush the store", func() error { return buffered.Flush(ctx) })
}
