package elasticsearch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// aggregateStore keeps aggregates, the mergeable states beside them, and the aggregator's checkpoints.
//
// A window is corrected by merging what came late into the State that is stored. Were rows written before the progress, a crash
// in between would let the next owner merge the same once more. So a commit is made in this order:
//
//  1. The rows, as the bulk requests that they will be, and the checkpoint are put down as parcels with new names.
//  2. The mark is swapped: progress, checkpoint and rows (as "redo") count from here, all or nothing, and a zombie ends here.
//  3. The requests are sent. A row's version is the commit's number, which rises, so that an older commit's request which
//     arrives late, of a zombie or of a connection that was slow, changes nothing.
//
// Whoever reads the mark first after a crash between 2 and 3, sends the requests again.
type aggregateStore struct {
	book

	mu      sync.Mutex
	settled map[string]int64 // by mark: the last commit whose rows are known to be there
}

func (db *DB) newAggregates() *aggregateStore {
	return &aggregateStore{book: book{db, store.TableAggregates}, settled: make(map[string]int64)}
}

// Write implements store.Writer. The partitions of a commit with a checkpoint have the number that the task is named by.
func (s *aggregateStore) Write(ctx context.Context, commit store.Commit, rows []store.AggregateRow) error {
	if err := refuseAhead(len(rows), func(i int) string { return aggregateFault(&rows[i].Aggregate) }); err != nil {
		return err
	}
	lead, err := leadOf(commit)
	if err != nil {
		return fmt.Errorf("write aggregates: %w", err)
	}
	if err := s.write(ctx, commit, lead, rows); err != nil {
		return fmt.Errorf("write aggregates: %w", err)
	}
	return nil
}

// leadOf returns the number of the mark that takes checkpoint and rows.
func leadOf(commit store.Commit) (number int, err error) {
	if commit.Checkpoint != nil {
		if number, err = strconv.Atoi(commit.Task); err != nil || number < 0 {
			return 0, fmt.Errorf("task %q, want the number of its partitions", commit.Task)
		}
		return number, nil
	}
	for i, span := range commit.Spans {
		if i == 0 || span.Partition.Number < number {
			number = span.Partition.Number
		}
	}
	return number, nil
}

func (s *aggregateStore) write(ctx context.Context, commit store.Commit, lead int, rows []store.AggregateRow) error {
	pages, err := s.open(ctx, commit, lead)
	if err != nil {
		return err
	}
	first := pages[0]
	first.once = true
	if err := s.settle(ctx, first.mark); err != nil {
		return err
	}
	if len(commit.Spans) > 0 && s.written(pages) {
		return nil
	}
	if first.done { // of several marks, the first one was all that a crash let through
		return s.close(ctx, pages)
	}
	number := max(first.Commit+1, int64(telemetry.At(s.db.cfg.Now())))
	requests := s.requests(rows, number)
	old, err := s.putDown(ctx, first.mark, commit, number, requests)
	if err != nil {
		return err
	}
	if err := s.close(ctx, pages); err != nil {
		return err
	}
	if first.Commit != number { // this very commit had been made by a request that arrived late: its rows count
		return s.settle(ctx, first.mark)
	}
	if err := s.send(ctx, requests); err != nil {
		return err
	}
	s.remember(first.id, number)
	s.db.dropParcels(ctx, old)
	return nil
}

// written reports whether every mark that has spans of the commit has it.
func (*aggregateStore) written(pages []*page) bool {
	return !slices.ContainsFunc(pages, func(p *page) bool { return len(p.spans) > 0 && !p.done })
}

// putDown puts rows and checkpoint down and changes the mark in memory to name them. It returns the parcels that the mark then
// names no more.
func (s *aggregateStore) putDown(ctx context.Context, m *mark, commit store.Commit, number int64, requests [][]byte) (old []parcel, err error) {
	b := s.db.newBulk(ctx)
	m.Commit = number
	if m.Redo != nil {
		old, m.Redo = append(old, *m.Redo), nil
	}
	if len(requests) > 0 {
		m.Redo = newParcel(m.id, "rows", number, requests)
		s.db.putPieces(b, m.Redo, requests)
	}
	if commit.Checkpoint != nil {
		pieces := cutPieces(commit.Checkpoint)
		t := taskMark{commit.Task, *newParcel(m.id, "checkpoint", number, pieces)}
		s.db.putPieces(b, &t.parcel, pieces)
		at := slices.IndexFunc(m.Tasks, func(t taskMark) bool { return t.Task == commit.Task })
		if at < 0 {
			m.Tasks = append(m.Tasks, t)
		} else {
			old, m.Tasks[at] = append(old, m.Tasks[at].parcel), t
		}
	}
	out := b.wait()
	if len(out.conflicts) > 0 && out.err == nil {
		out.err = fmt.Errorf("put down commit %d: %d documents are there already", number, len(out.conflicts))
	}
	return old, out.fault()
}

// settle sends the rows of the mark's last commit unless they are known to be there.
func (s *aggregateStore) settle(ctx context.Context, m *mark) error {
	s.mu.Lock()
	known := s.settled[m.id]
	s.mu.Unlock()
	if m.Redo == nil || known >= m.Commit {
		return nil
	}
	err := s.db.readPieces(ctx, m.Redo, func(piece []byte) error { return s.send(ctx, [][]byte{piece}) })
	if errors.Is(err, errGone) {
		fresh, again := s.read(ctx, m.Worker, m.Number)
		if again == nil && fresh.Commit > m.Commit {
			return nil // somebody went on from here, having settled it
		}
	}
	if err != nil {
		return fmt.Errorf("finish commit %d: %w", m.Commit, err)
	}
	s.remember(m.id, m.Commit)
	return nil
}

func (s *aggregateStore) remember(id string, commit int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settled[id] = max(s.settled[id], commit)
}

// Progress implements store.Writer, and finishes what a crash left.
func (s *aggregateStore) Progress(ctx context.Context, worker string, p bus.PartitionID) (progress bus.Progress, ok bool, err error) {
	m, err := s.read(ctx, worker, p.Number)
	if err != nil {
		return bus.Progress{}, false, err
	}
	if err := s.settle(ctx, m); err != nil {
		return bus.Progress{}, false, err
	}
	return m.progress(p.Topic)
}

// Checkpoint implements store.Checkpoints.
func (s *aggregateStore) Checkpoint(ctx context.Context, worker, task string) (state []byte, ok bool, err error) {
	number, wrong := strconv.Atoi(task)
	if wrong != nil || number < 0 {
		return nil, false, nil //nolint:nilerr // Write takes no checkpoint of such a task, so there is none
	}
	for range roundsMax {
		m, err := s.read(ctx, worker, number)
		if err != nil {
			return nil, false, err
		}
		at := slices.IndexFunc(m.Tasks, func(t taskMark) bool { return t.Task == task })
		if at < 0 {
			return nil, false, nil
		}
		p := &m.Tasks[at].parcel
		state = make([]byte, 0, p.Bytes)
		err = s.db.readPieces(ctx, p, func(piece []byte) error {
			state = append(state, piece...)
			return nil
		})
		if !errors.Is(err, errGone) {
			return state, err == nil, err
		}
	}
	return nil, false, fmt.Errorf("checkpoint of task %s: %w", task, errRounds)
}
