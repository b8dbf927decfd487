package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
)

// commit makes everything that was taken since the last commit durable: it publishes, then appends dead letters, then writes
// rows, progress and state together, of which rows that the store refuses are dead letters first. A crash in between repeats the steps
// before it, which readers bear; the other order would lose them.
//
// A task with a state publishes after the write instead, which has kept what is to be published with the state: what it makes hangs
// on time and on what the store holds, so that another owner, or the same one after a crash, may make something else of the same
// records, and readers would have heard of what never was.
func (s *share[Row]) commit(ctx context.Context) error {
	if !s.dirty {
		return nil
	}
	l := s.loop
	s.track.writing.Store(l.Now().UnixNano())
	s.committing = true
	defer s.track.writing.Store(0)
	if l.Prepare != nil {
		if err := s.retry(ctx, "prepare the rows", func() error {
			s.hand.commits(s.gathered)
			defer s.hand.rests()
			return l.Prepare(ctx, &s.out)
		}); err != nil {
			return err
		}
	}
	if err := s.commitEarly(ctx); err != nil {
		return err
	}
	if s.stateful == nil || l.Store == nil {
		if err := s.publish(ctx); err != nil {
			return err
		}
	}
	if err := s.appendLetters(ctx); err != nil {
		return err
	}
	var took time.Duration
	if l.Store != nil {
		var err error
		if took, err = s.write(ctx); err != nil {
			return err
		}
		l.Metrics.rows.WithLabelValues(l.Worker).Add(float64(len(s.out.Rows)))
		if s.stateful != nil {
			if err := s.publishWritten(ctx); err != nil {
				return err
			}
		}
	}
	l.Metrics.commits.WithLabelValues(l.Worker).Inc()
	s.committing = false
	kept := s.stateful != nil && keeps(s.out.Publish)
	s.written()
	s.dirty = kept // a silent commit follows, which empties the outbox
	now := l.Now()
	s.nextCommit = now.Add(max(l.CommitEvery, min(commitPauseRatio*took, commitPauseMax)))
	s.nextSilent = now.Add(silentCommitEvery)
	if now.Before(s.nextHint) && (s.hintBytes < trimHintBytes || l.busProgress()) {
		return nil
	}
	return s.hint(ctx, false)
}

// publishWritten publishes what the write has kept in the outbox, and the dead letters of what the log can never take.
func (s *share[Row]) publishWritten(ctx context.Context) error {
	if err := s.confirm(ctx); err != nil {
		return err
	}
	if err := s.publish(ctx); err != nil {
		return err
	}
	return s.appendLetters(ctx)
}

// written forgets what has been committed.
func (s *share[Row]) written() {
	for _, p := range s.parts {
		p.written = p.progress.Through
		p.origins = append(p.origins[:0], p.progress.Origins...)
		p.track.committed(p.written)
	}
	s.care.grow(s.loop.BatchRecords, len(s.out.Rows)+len(s.out.Publish) > 0)
	s.hand.keeps(s.care.limit)
	if len(s.care.suspects) > 0 {
		for _, p := range s.parts {
			s.care.passed(p.id, p.written)
		}
	}
	clear(s.out.Rows) // so that nothing holds on to the records' bytes
	clear(s.out.Publish)
	clear(s.letters)
	s.out.Rows, s.out.Publish, s.letters = s.out.Rows[:0], s.out.Publish[:0], s.letters[:0]
	s.hintBytes += s.bytes
	s.bytes, s.gathered, s.dirty = 0, 0, false
}

// write gives the store rows, progress and state, and returns how long making and writing them took without the waiting
// between attempts. Rows that the store refuses become dead letters before the others are written.
func (s *share[Row]) write(ctx context.Context) (took time.Duration, err error) {
	l := s.loop
	started := l.Now()
	commit := store.Commit{Worker: l.Worker, Task: s.taskName()}
	for _, p := range s.parts {
		// A state is fenced by every partition that it covers, also where nothing came.
		if p.progress.Through != p.written || s.stateful != nil {
			commit.Spans = append(commit.Spans, store.Span{Partition: p.id, After: p.written, Through: p.progress.Clone()})
		}
	}
	if s.stateful != nil {
		commit.Spans = append(commit.Spans, store.Span{Partition: s.stateID(), After: s.state, Through: bus.Progress{Through: s.nextState()}})
		err = s.step(func() (err error) {
			s.hand.commits(s.gathered)
			s.snapshot, err = s.stateful.Snapshot(appendOutbox(s.snapshot[:0], s.out.Publish))
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("snapshot task %s: %w", s.taskName(), err)
		}
		commit.Checkpoint = s.snapshot
	}
	took = l.Now().Sub(started)
	for {
		writing, refused, err := s.writeRows(ctx, commit)
		if err != nil {
			return 0, err
		}
		took += writing
		if refused == nil {
			l.Metrics.write.WithLabelValues(l.Worker).Observe(took.Seconds())
			return took, nil
		}
		if err := s.refuseRows(ctx, refused); err != nil {
			return 0, err
		}
	}
}

// writeRows writes what there is, trying until the store has it or says which rows it will never take. took is that of the last
// attempt.
func (s *share[Row]) writeRows(ctx context.Context, commit store.Commit) (took time.Duration, refused *store.Refused, err error) {
	attempts := 0
	err = s.retry(ctx, "write", func() error {
		started := s.loop.Now()
		s.hand.commits(s.gathered)
		err := s.loop.Store.Write(ctx, commit, s.out.Rows)
		s.hand.rests()
		took = s.loop.Now().Sub(started)
		if errors.As(err, &refused) {
			return nil
		}
		if err != nil && !final(err) {
			attempts++
			err = s.suspectWrite(ctx, attempts, err)
		}
		return err
	})
	return took, refused, err
}

// refuseRows puts the rows that the store refused into dead letters, and takes them out of what is to be written.
func (s *share[Row]) refuseRows(ctx context.Context, refused *store.Refused) error {
	for i, row := range refused.Rows {
		s.refuseRow(ctx, row, refused.Reasons[i])
	}
	if err := s.appendLetters(ctx); err != nil {
		return err
	}
	row := -1
	s.out.Rows = slices.DeleteFunc(s.out.Rows, func(Row) bool {
		row++
		_, no := slices.BinarySearch(refused.Rows, row)
		return no
	})
	return nil
}
