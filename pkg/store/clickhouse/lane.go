package clickhouse

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
)

// lane is what the stores share: the order of a write (compare, rows, progress), and what this process knows of the progress.
// Writes that share a partition wait for each other; others run side by side.
type lane struct {
	db          *DB
	name        string
	checkpoints bool

	mu    sync.Mutex
	marks map[markKey]*mark
}

type markKey struct {
	worker    string
	partition bus.PartitionID
}

// mark is what is known of one partition's progress. Its fields belong to whoever has put something into busy.
type mark struct {
	busy     chan struct{} // of size 1: a lock for which one can wait until a context ends
	known    bool          // whether what follows is what the table had when this process last looked or wrote
	written  bool          // whether there is a progress
	progress bus.Progress
}

func newLane(db *DB, name string, checkpoints bool) *lane {
	return &lane{db: db, name: name, checkpoints: checkpoints, marks: make(map[markKey]*mark)}
}

// take waits for the marks of spans and returns them beside the spans. It takes them in one order, so that no two wait for each other.
func (l *lane) take(ctx context.Context, worker string, spans []store.Span) ([]*mark, error) {
	order := make([]int, len(spans))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		p, q := spans[a].Partition, spans[b].Partition
		return cmp.Or(cmp.Compare(p.Topic, q.Topic), cmp.Compare(p.Number, q.Number))
	})
	marks := make([]*mark, len(spans))
	for _, i := range order {
		m := l.mark(worker, spans[i].Partition)
		select {
		case m.busy <- struct{}{}:
			marks[i] = m
		case <-ctx.Done():
			release(marks)
			return nil, fmt.Errorf("wait for another write of %v: %w", spans[i].Partition, ctx.Err())
		}
	}
	return marks, nil
}

func (l *lane) mark(worker string, p bus.PartitionID) *mark {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := markKey{worker, p}
	m := l.marks[key]
	if m == nil {
		m = &mark{busy: make(chan struct{}, 1)}
		l.marks[key] = m
	}
	return m
}

func release(marks []*mark) {
	for _, m := range marks {
		if m != nil {
			<-m.busy
		}
	}
}

// Progress implements store.Writer. It always asks the table: the loop calls it when it comes to own a partition, and what this
// process knew may be from an ownership before.
func (l *lane) Progress(ctx context.Context, worker string, p bus.PartitionID) (progress bus.Progress, ok bool, err error) {
	ctx, cancel := l.db.bounded(ctx)
	defer cancel()
	spans := []store.Span{{Partition: p}}
	marks, err := l.take(ctx, worker, spans)
	if err == nil {
		defer release(marks)
		err = l.readMarks(ctx, worker, spans, marks)
	}
	if err != nil {
		return bus.Progress{}, false, fmt.Errorf("progress of %s in %s: %w", worker, l.name, err)
	}
	return marks[0].progress.Clone(), marks[0].written, nil
}

// write inserts rows, then progress and checkpoint, unless commit is already there. insert gets the version of the write; it is
// not called where there are no rows.
func (l *lane) write(ctx context.Context, commit store.Commit, rows int, insert func(ctx context.Context, w *writing) error) (err error) {
	defer l.db.logSlow(ctx, l.name, rows)()
	ctx, cancel := l.db.bounded(ctx)
	defer cancel()
	if commit.Checkpoint != nil && !l.checkpoints {
		return fmt.Errorf("write %s: it keeps no checkpoints", l.name)
	}
	w, err := newWriting(l, commit)
	if err != nil {
		return fmt.Errorf("write %s: %w", l.name, err)
	}
	marks, err := l.take(ctx, commit.Worker, commit.Spans)
	if err != nil {
		return fmt.Errorf("write %s: %w", l.name, err)
	}
	defer release(marks)
	if err := l.readUnknown(ctx, commit, marks); err != nil {
		return fmt.Errorf("write %s: compare with what is stored: %w", l.name, err)
	}
	there, err := l.fence(commit, marks)
	if err != nil || there {
		return err
	}
	for _, m := range marks {
		m.known = false // until the outcome is known
	}
	if rows > 0 {
		if err := insert(ctx, w); err != nil {
			return fmt.Errorf("write %s: %w", l.name, err)
		}
	}
	if err := l.writeProgress(ctx, w, marks); err != nil {
		return fmt.Errorf("write %s: progress: %w", l.name, err)
	}
	for i, m := range marks {
		m.known, m.written, m.progress = true, true, commit.Spans[i].Through.Clone()
	}
	return nil
}

// readUnknown reads the progress of the spans of which this process does not know it.
func (l *lane) readUnknown(ctx context.Context, commit store.Commit, marks []*mark) error {
	var spans []store.Span
	var unknown []*mark
	for i, m := range marks {
		if !m.known {
			spans, unknown = append(spans, commit.Spans[i]), append(unknown, m)
		}
	}
	if len(spans) == 0 {
		return nil
	}
	return l.readMarks(ctx, commit.Worker, spans, unknown)
}

// fence compares commit with the stored progress: there says that it was written before, ErrFenced that another came between.
func (l *lane) fence(commit store.Commit, marks []*mark) (there bool, err error) {
	i := -1
	there, err = store.Fence(commit.Spans, func(bus.PartitionID) (bus.Progress, bool) {
		i++ // marks stand beside the spans
		return marks[i].progress, marks[i].written
	})
	if err != nil {
		return false, fmt.Errorf("write %s: %w", l.name, err)
	}
	return there, nil
}
