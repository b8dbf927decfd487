package parquet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/filelock"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/gather"
)

// ErrClosed is returned by whatever is called after Close.
var ErrClosed = gather.ErrClosed

// History keeps history in one folder. It implements store.HistoryWriter and store.History and is safe for concurrent use.
type History struct {
	cfg  Config
	lock *os.File // of the folder
	stop context.CancelFunc
	done sync.WaitGroup

	commitMu sync.Mutex // one manifest at a time; taken before mu, never within
	upkeepMu sync.Mutex // one Maintain at a time

	closing *closing // belongs to the goroutine that closes

	mu      sync.Mutex
	catalog catalog
	rows    *gather.Rows // guarded by mu too, so that a snapshot sees a row in a file or in memory
	next    uint64       // number of the next file
	health  Health
	growth  growth
	closed  bool
	copied  uint64 // generation of the second manifest
	checked scrubbed
	doubted time.Time // when all files were last looked at since a query went wrong
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
	lock, err := filelock.Try(filepath.Join(cfg.Dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("history: open %s: %w", cfg.Dir, err)
	}
	h := &History{
		cfg: cfg, lock: lock,
		catalog: catalog{readers: map[uint64]int{}},
	}
	h.rows = gather.New(&h.mu, gather.Config{
		Rows: cfg.SegmentRows, Bytes: cfg.MemoryBytes / 2, Age: cfg.SegmentAge, MemoryBytes: cfg.MemoryBytes,
		Failed: h.closeFailed, Grew: cfg.Metrics.memory, Now: cfg.Now,
	})
	if err := h.recover(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("history: open %s: %w", cfg.Dir, err), lock.Close())
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	h.stop = stop
	h.done.Go(func() { h.rows.CloseLoop(run, h.closeBatch) })
	if cfg.MaintainEvery > 0 {
		h.done.Go(func() { h.maintainLoop(run) })
	}
	return h, nil
}

// Write implements store.Writer. It returns when the rows are in memory, visible to Snapshot; Progress says when they are on
// disk. It waits while MemoryBytes are held, and returns why no file can be closed when that is so: the same write may be
// repeated later. Rows whose texts are not UTF-8 are refused, and then nothing is written: with the progress taken, a crash before
// they are dead letters would lose them.
//
// A write that starts where the files end, though memory is further, is a new owner's who reads the log again: it takes the
// place of what was in memory of that share.
func (h *History) Write(ctx context.Context, commit store.Commit, rows []store.MessageRow) error {
	return h.rows.Write(ctx, commit, rows)
}

// Progress implements store.Writer: how far the files that are closed cover p.
func (h *History) Progress(_ context.Context, worker string, p bus.PartitionID) (bus.Progress, bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return bus.Progress{}, false, ErrClosed
	}
	progress, ok := h.rows.Durable(gather.Source{Worker: worker, Partition: p})
	return progress, ok, nil
}

// Flush implements store.Buffered: it returns when everything that was written before the call is on disk, or with the
// reason when a file could not be closed since. That is tried again in the background all the same.
func (h *History) Flush(ctx context.Context) error { return h.rows.Flush(ctx) }

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
	h.mu.Unlock()
	h.rows.Stop()
	h.stop()
	h.done.Wait()
	return h.lock.Close()
}
