package parquet

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
)

// ErrClosed is returned by whatever is called after Close.
var ErrClosed = errors.New("history: closed")

// History keeps history in one folder. It implements store.HistoryWriter and store.History and is safe for concurrent use.
type History struct {
	cfg    Config
	unlock func() error
	stop   context.CancelFunc
	done   sync.WaitGroup

	commitMu sync.Mutex // one manifest at a time; taken before mu, never within
	upkeepMu sync.Mutex // one Maintain at a time

	mu       sync.Mutex
	catalog  catalog
	lanes    map[lane]*laneState
	durable  map[source]bus.Progress // what the manifest covers
	taken    map[source]taken        // what memory covers beyond it and beyond what is closing
	bytes    int64                   // of the rows in memory, closing ones included
	active   int64                   // of bytes, those that are not closing
	rows     int                     // in memory and not closing
	since    time.Time               // when the oldest of them came; zero where nothing is new
	writes   uint64                  // calls of Write that changed something
	flush    uint64                  // of writes, those that somebody wants on disk now
	closing  *batch                  // what is being closed; nil where nothing is
	through  uint64                  // of writes, those that are on disk
	attempts uint64                  // closes that failed
	failure  error                   // of the newest close; nil where it went well
	next     uint64                  // number of the next file
	changed  chan struct{}           // closed, and made anew, when any of these may have changed
	health   Health
	growth   growth
	closed   bool
}

type laneState struct{ active *segment }

// taken is the run of a source that rows in memory cover.
type taken struct {
	after   bus.Position
	through bus.Progress
}

var (
	_ store.HistoryWriter = (*History)(nil)
	_ store.History       = (*History)(nil)
)

// Open opens the history in cfg.Dir, removes what an earlier process left half done, and starts the goroutines that close and
// merge. They end with Close; ctx is only for the opening. It refuses a folder that another process has open, and one that
// holds files but no manifest, since it would have to remove them.
func Open(ctx context.Context, cfg Config) (*History, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := cfg.FS.MkdirAll(cfg.Dir); err != nil {
		return nil, fmt.Errorf("history: open %s: %w", cfg.Dir, err)
	}
	if err := cfg.FS.MkdirAll(filepath.Dir(cfg.Manifest)); err != nil {
		return nil, fmt.Errorf("history: open %s: %w", cfg.Dir, err)
	}
	unlock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("history: open %s: %w", cfg.Dir, err)
	}
	h := &History{
		cfg: cfg, unlock: unlock,
		lanes: map[lane]*laneState{}, taken: map[source]taken{}, changed: make(chan struct{}),
		catalog: catalog{readers: map[uint64]int{}},
	}
	if err := h.recover(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("history: open %s: %w", cfg.Dir, err), unlock())
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	h.stop = stop
	h.done.Go(func() { h.closeLoop(run) })
	if cfg.MaintainEvery > 0 {
		h.done.Go(func() { h.maintainLoop(run) })
	}
	return h, nil
}

// announce wakes everybody who waits for a change. Callers hold mu.
func (h *History) announce() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// Write implements store.Writer. It returns when the rows are in memory, visible to Snapshot; Progress says when they are on
// disk. It waits while MemoryBytes are held, and returns why no file can be closed when that is so: the same write may be
// repeated later. Rows whose texts are not UTF-8 are refused, and then nothing is written: with the progress taken, a crash before
// they are dead letters would lose them.
//
// A write that starts where the files end, though memory is further, is a new owner's who reads the log again: it takes the
// place of what was in memory of that share.
func (h *History) Write(ctx context.Context, commit store.Commit, rows []store.MessageRow) error {
	if err := check(commit); err != nil {
		return err
	}
	for {
		wait, refused, err := h.take(commit, rows)
		if err != nil {
			return err
		}
		if wait == nil {
			if len(refused.Rows) > 0 {
				return refused
			}
			return nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return fmt.Errorf("write history: wait for room in memory: %w", context.Cause(ctx))
		}
	}
}

func check(commit store.Commit) error {
	if len(commit.Spans) == 0 {
		return errors.New("write history: a commit without spans")
	}
	if commit.Checkpoint != nil {
		return errors.New("write history: a checkpoint, which this store cannot keep")
	}
	return nil
}

// take adds rows to their lane, or returns what to wait for.
func (h *History) take(commit store.Commit, rows []store.MessageRow) (wait <-chan struct{}, refused *store.Refused, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, nil, ErrClosed
	}
	refused = new(store.Refused)
	switch step := h.step(commit); step {
	case stepRepeat:
		return nil, refused, nil
	case stepFenced:
		return nil, nil, fmt.Errorf("write history: %v after %v: %w", commit.Spans[0].Partition, commit.Spans[0].After, store.ErrFenced)
	case stepRewind:
		if h.closing != nil && h.failure == nil {
			return h.changed, nil, nil // what is being closed may make it a stale one
		}
		if h.closing != nil {
			return nil, nil, fmt.Errorf("write history: begin again at what is on disk: %w", h.failure)
		}
		h.rewind(laneOf(commit))
	case stepNext:
	}
	if h.bytes >= h.cfg.MemoryBytes {
		if h.failure != nil {
			return nil, nil, fmt.Errorf("write history: %d bytes are held, and no file can be closed: %w", h.bytes, h.failure)
		}
		return h.changed, nil, nil
	}
	h.append(commit, rows, refused)
	return nil, refused, nil
}

// step is how a commit stands to what is held.
type step int

const (
	stepNext   step = iota // follows what was taken
	stepRepeat             // was taken already
	stepRewind             // follows what is on disk, though more was taken
	stepFenced
)

func (h *History) step(commit store.Commit) step {
	next, repeat, rewind := true, true, true
	for _, s := range commit.Spans {
		from := source{commit.Worker, s.Partition}
		held, known := h.held(from)
		next = next && (!known || held.Through == s.After)
		repeat = repeat && known && held.Through == s.Through.Through
		start := h.taken[from].after
		if durable, onDisk := h.durable[from]; onDisk {
			start = durable.Through
		}
		rewind = rewind && known && start == s.After
	}
	switch {
	case next:
		return stepNext
	case repeat:
		return stepRepeat
	case rewind:
		return stepRewind
	}
	return stepFenced
}

// held returns how far memory and files together cover a source.
func (h *History) held(from source) (bus.Progress, bool) {
	if t, ok := h.taken[from]; ok {
		return t.through, true
	}
	if h.closing != nil {
		if p, ok := h.closing.progress[from]; ok {
			return p, true
		}
	}
	p, ok := h.durable[from]
	return p, ok
}

// rewind drops what memory holds of a lane beyond its files; of all lanes of its worker where a lane of several numbers has a part in it.
func (h *History) rewind(l lane) {
	all := l.number == severalNumbers || h.lanes[lane{l.worker, severalNumbers}] != nil
	drop := func(other lane) bool { return other == l || all && other.worker == l.worker }
	for other, s := range h.lanes {
		if drop(other) {
			h.rows -= s.active.rows
			h.bytes, h.active = h.bytes-s.active.size, h.active-s.active.size
			delete(h.lanes, other)
		}
	}
	for from := range h.taken {
		if drop(from.lane()) {
			delete(h.taken, from)
		}
	}
	h.announce()
}

func (h *History) append(commit store.Commit, rows []store.MessageRow, refused *store.Refused) {
	l := laneOf(commit)
	s := h.lanes[l]
	if s == nil {
		s = &laneState{active: newSegment()}
		h.lanes[l] = s
	}
	before, mark := s.active.size, s.active.mark()
	for i := range rows {
		if reason := s.active.add(&rows[i]); reason != "" {
			refused.Rows = append(refused.Rows, i)
			refused.Reasons = append(refused.Reasons, reason)
		}
	}
	if len(refused.Rows) > 0 {
		s.active.back(mark)
		return
	}
	for _, span := range commit.Spans {
		from := source{commit.Worker, span.Partition}
		t, ok := h.taken[from]
		if !ok {
			t.after = span.After
		}
		t.through = span.Through.Clone()
		h.taken[from] = t
	}
	grew := s.active.size - before
	h.bytes, h.active = h.bytes+grew, h.active+grew
	h.rows += len(rows)
	h.writes++
	h.cfg.Metrics.memory(h.bytes)
	if h.since.IsZero() {
		h.since = h.cfg.Now()
		h.announce() // the closer must know when it is due
	} else if h.due(h.cfg.Now()) == 0 {
		h.announce()
	}
}

// Progress implements store.Writer: how far the files that are closed cover p.
func (h *History) Progress(_ context.Context, worker string, p bus.PartitionID) (bus.Progress, bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return bus.Progress{}, false, ErrClosed
	}
	progress, ok := h.durable[source{worker, p}]
	return progress.Clone(), ok, nil
}

// Flush implements store.Buffered: it returns when everything that was written before the call is on disk, or with the
// reason when a file could not be closed since. That is tried again in the background all the same.
func (h *History) Flush(ctx context.Context) error {
	h.mu.Lock()
	want, attempts := h.writes, h.attempts
	h.flush = max(h.flush, want)
	h.announce()
	for h.through < want {
		if h.closed {
			h.mu.Unlock()
			return ErrClosed
		}
		if h.attempts != attempts {
			err := h.failure
			h.mu.Unlock()
			if err == nil {
				err = errors.New("a close went wrong")
			}
			return fmt.Errorf("flush history: %w", err)
		}
		wait := h.changed
		h.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return fmt.Errorf("flush history: %w", context.Cause(ctx))
		}
		h.mu.Lock()
	}
	h.mu.Unlock()
	return nil
}

// Close flushes, ends the goroutines and lets others open the folder. What could not be flushed before ctx ended is not lost: the log
// has it still.
func (h *History) Close(ctx context.Context) error {
	flushed := h.Flush(ctx)
	if errors.Is(flushed, ErrClosed) {
		return flushed
	}
	return errors.Join(flushed, h.abandon())
}

// abandon is Close without a flush: what a crash leaves is the same.
func (h *History) abandon() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return ErrClosed
	}
	h.closed = true
	h.announce()
	h.mu.Unlock()
	h.stop()
	h.done.Wait()
	return h.unlock()
}
