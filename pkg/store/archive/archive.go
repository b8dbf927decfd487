package archive

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/gather"
)

// ErrClosed is returned by whatever is called after Close.
var ErrClosed = gather.ErrClosed

const (
	progressFresh = time.Minute     // Progress asks the bucket again after so long, while nothing is in memory
	writeFresh    = 5 * time.Second // and the first Write of a partition since the last flush after so long
)

// Archive keeps history in a bucket. It implements store.HistoryWriter and is safe for concurrent use; any number of processes
// may have the same bucket open.
type Archive struct {
	cfg  Config
	stop context.CancelFunc
	done sync.WaitGroup
	job  *job // belongs to the goroutine that closes

	mu     sync.Mutex
	rows   *gather.Rows // guarded by mu
	chains map[string]*chain
}

var _ store.HistoryWriter = (*Archive)(nil)

// Open opens the archive in cfg.Bucket and starts the goroutines that flush and tidy up. They end with Close; ctx is only for the
// opening. It refuses a bucket that cannot be written, and a server that does not keep a second object from taking an object's
// name (If-None-Match), since replicas would then overwrite each other's progress.
func Open(ctx context.Context, cfg Config) (*Archive, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := probe(ctx, cfg.Bucket); err != nil {
		return nil, fmt.Errorf("open the archive: %w", err)
	}
	a := &Archive{cfg: cfg, chains: map[string]*chain{}}
	a.rows = gather.New(&a.mu, gather.Config{
		Rows: 1 << 40, Bytes: cfg.FileBytes, Age: cfg.FileAge, MemoryBytes: cfg.MemoryBytes,
		Failed: func(err error) {
			cfg.Log.Error("archive: rows cannot be brought to the bucket; they stay in memory and it is tried again", "error", err)
			cfg.Metrics.failures.Inc()
		},
		Grew: func(bytes int64) { cfg.Metrics.memory.Set(float64(bytes)) }, Now: cfg.Now,
	})
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	a.stop = stop
	a.done.Go(func() { a.rows.CloseLoop(run, a.flushBatch) })
	if cfg.UpkeepEvery > 0 {
		a.done.Go(func() { a.upkeepLoop(run) })
	}
	return a, nil
}

// probe writes one small object twice: the second must be refused.
func probe(ctx context.Context, bucket Bucket) error {
	key := hidden + "/probe-" + rand.Text()
	body := func(w io.Writer) error {
		_, err := io.WriteString(w, "written to see whether the server honours If-None-Match; may be deleted\n")
		return err
	}
	if err := bucket.Write(ctx, key, true, body); err != nil {
		return fmt.Errorf("try the bucket: %w", err)
	}
	second := bucket.Write(ctx, key, true, body)
	if err := bucket.Remove(ctx, key); err != nil {
		return fmt.Errorf("try the bucket: %w", err)
	}
	switch {
	case errors.Is(second, ErrExists):
		return nil
	case second == nil:
		return errors.New("try the bucket: the server wrote an object twice that was to be written only where there is none: " +
			"it ignores If-None-Match, without which replicas would overwrite each other's progress")
	}
	return fmt.Errorf("try the bucket: write an object that exists, want it refused: %w", second)
}

func (a *Archive) chain(worker string) *chain {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.chains[worker]
	if c == nil {
		c = newChain(a.cfg.Bucket, worker)
		a.chains[worker] = c
	}
	return c
}

// Write implements store.Writer. It returns when the rows are in memory; see gather.Rows for when it waits and what it refuses. All
// spans of a commit are of one share in practice; where they are not, the rows of all shares of the worker stand and fall together.
func (a *Archive) Write(ctx context.Context, commit store.Commit, rows []store.MessageRow) error {
	for _, s := range commit.Spans {
		if err := a.refresh(ctx, gather.Source{Worker: commit.Worker, Partition: s.Partition}, writeFresh); err != nil {
			return fmt.Errorf("write history: %w", err)
		}
	}
	return a.rows.Write(ctx, commit, rows)
}

// refresh asks the bucket how far from is durable, where nothing of it is in memory and the last answer is older than fresh.
func (a *Archive) refresh(ctx context.Context, from gather.Source, fresh time.Duration) error {
	c := a.chain(from.Worker)
	now := a.cfg.Now()
	known, seen := c.last()
	a.mu.Lock()
	held := a.rows.Holds(from)
	a.mu.Unlock()
	if known != nil && (held || now.Sub(seen) < fresh) {
		return nil
	}
	if _, err := c.load(ctx, now); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	h, _ := c.last() // a flush may have gone further since
	for from, p := range h.progress {
		if !a.rows.Holds(from) {
			a.rows.SetDurable(from, p)
		}
	}
	return nil
}

// Progress implements store.Writer: how far the files in the bucket cover p. What another replica has committed shows within a
// minute, and at once to the first Write.
func (a *Archive) Progress(ctx context.Context, worker string, p bus.PartitionID) (bus.Progress, bool, error) {
	from := gather.Source{Worker: worker, Partition: p}
	if err := a.refresh(ctx, from, progressFresh); err != nil {
		return bus.Progress{}, false, fmt.Errorf("progress of history: %w", err)
	}
	a.publishLeft(ctx, a.chain(worker))
	a.mu.Lock()
	defer a.mu.Unlock()
	progress, ok := a.rows.Durable(from)
	return progress, ok, nil
}

// Flush implements store.Buffered: it returns when everything that was written before the call is in the bucket, where readers see
// it, or with the reason when that went wrong since. It is tried again in the background all the same.
func (a *Archive) Flush(ctx context.Context) error { return a.rows.Flush(ctx) }

// Close flushes and ends the goroutines. What could not be flushed before ctx ended is not lost: the log has it still.
func (a *Archive) Close(ctx context.Context) error {
	flushed := a.rows.Flush(ctx)
	if errors.Is(flushed, ErrClosed) {
		return flushed
	}
	return errors.Join(flushed, a.abandon())
}

// abandon is Close without a flush: what a crash leaves is the same.
func (a *Archive) abandon() error {
	if !a.rows.Stop() {
		return ErrClosed
	}
	a.stop()
	a.done.Wait()
	return nil
}
