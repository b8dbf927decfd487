package archive

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store/gather"
	"github.com/millrace/millrace/pkg/store/parquetfile"
)

const (
	// stagedFor is how long staged files may wait for their record; then they are written anew, long before upkeep takes them for what
	// a crash has left.
	stagedFor = time.Hour
	orphanAge = 24 * time.Hour
	// conflictsMax is how many records of one flush may find their number taken; then it waits before it goes on.
	conflictsMax = 32
)

// job is a batch on its way into the bucket. It stays the same while the batch is tried again.
type job struct {
	batch *gather.Batch
	works []*work // one a worker
}

// work is what a batch has of one worker.
type work struct {
	chain    *chain
	segments map[gather.Lane]*parquetfile.Segment
	covers   map[gather.Source]gather.Taken

	files     []move // staged, hour by hour
	written   []bool // beside files
	stagedAt  time.Time
	committed bool // or nothing is left to commit
	fenced    []gather.Source
	durable   map[gather.Source]bus.Progress
}

func (a *Archive) newJob(b *gather.Batch) *job {
	works := map[string]*work{}
	of := func(worker string) *work {
		if works[worker] == nil {
			works[worker] = &work{
				chain: a.chain(worker), segments: map[gather.Lane]*parquetfile.Segment{}, covers: map[gather.Source]gather.Taken{},
				durable: map[gather.Source]bus.Progress{},
			}
		}
		return works[worker]
	}
	for lane, s := range b.Segments {
		of(lane.Worker).segments[lane] = s
	}
	for from, t := range b.Covers {
		of(from.Worker).covers[from] = t
	}
	return &job{batch: b, works: slices.Collect(maps.Values(works))}
}

// flushBatch brings a batch into the bucket. Where it returns an error it is called again with the same batch and goes on where it was.
func (a *Archive) flushBatch(ctx context.Context, b *gather.Batch) error {
	if a.job == nil || a.job.batch != b {
		a.job = a.newJob(b)
	}
	start := a.cfg.Now()
	durable := map[gather.Source]bus.Progress{}
	var fenced []gather.Source
	for _, w := range a.job.works {
		if err := a.flushWork(ctx, w); err != nil {
			return fmt.Errorf("flush %d rows: %w", b.Rows, err)
		}
		maps.Copy(durable, w.durable)
		fenced = append(fenced, w.fenced...)
	}
	a.mu.Lock()
	a.rows.Settle(durable, fenced)
	a.cfg.Metrics.memory.Set(float64(a.rows.Held().Bytes))
	a.mu.Unlock()
	works := a.job.works
	a.job = nil
	a.cfg.Metrics.flushSeconds.Observe(a.cfg.Now().Sub(start).Seconds())
	for _, w := range works {
		if err := w.chain.prune(ctx); err != nil {
			a.cfg.Log.Warn("archive: remove old records; it is tried again with the next flush", "worker", w.chain.worker, "error", err)
		}
	}
	return nil
}

func (a *Archive) flushWork(ctx context.Context, w *work) error {
	for range conflictsMax {
		if w.committed {
			return a.publish(ctx, w)
		}
		if err := a.commit(ctx, w); err != nil {
			return err
		}
	}
	return fmt.Errorf("worker %s: %d records in a row found their number taken", w.chain.worker, conflictsMax)
}

// commit comes one step nearer to a record that has w in it: w.committed says whether it is there.
func (a *Archive) commit(ctx context.Context, w *work) error {
	h, err := w.chain.load(ctx, a.cfg.Now())
	if err != nil {
		return err
	}
	done, fenced := w.compare(h)
	switch {
	case done:
		w.settle(h)
		return nil
	case len(fenced) > 0:
		a.cfg.Log.Warn("archive: another replica has written these partitions; what memory holds of them is dropped",
			"worker", w.chain.worker, "partitions", fmt.Sprint(partitions(fenced)))
		a.cfg.Metrics.fenced.Add(float64(len(fenced)))
		a.unstage(ctx, w)
		w.drop(fenced, h)
		return nil
	}
	if err := a.stage(ctx, w); err != nil {
		return err
	}
	err = w.chain.follow(ctx, h, w, a.cfg.Now())
	if errors.Is(err, ErrExists) {
		a.cfg.Metrics.conflicts.Inc()
		return nil
	}
	return err // where nil, the next round sees whether it is in effect
}

// compare says how w stands to what is committed: it is in it (done), it follows it (neither), or somebody else has written its
// partitions. A record that has the very progress of w is as good as w's own: the same records of the log gave the same rows.
func (w *work) compare(h *head) (done bool, fenced []gather.Source) {
	moved := false
	done = true
	for from, t := range w.covers {
		have, ok := h.progress[from]
		done = done && ok && have.Through == t.Through.Through
		moved = moved || t.After != t.Through.Through
		if ok && have.Through != t.After {
			fenced = append(fenced, from)
		}
	}
	if done && (moved || len(w.files) == 0) {
		return true, nil
	}
	return false, fenced
}

func partitions(sources []gather.Source) []string {
	names := make([]string, len(sources))
	for i, s := range sources {
		names[i] = s.Partition.String()
	}
	slices.Sort(names)
	return names
}

// settle notes that h has w in it. Of its files those count that h wants in their place: if none, another has written the same
// rows, or has brought them there already.
func (w *work) settle(h *head) {
	w.committed = true
	for from := range w.covers {
		w.durable[from] = h.progress[from]
	}
}

// drop takes out the partitions that another has written, with all that shares a commit with them.
func (w *work) drop(fenced []gather.Source, h *head) {
	all := w.segments[gather.Lane{Worker: w.chain.worker, Number: gather.SeveralNumbers}] != nil
	gone := map[gather.Lane]bool{}
	for _, from := range fenced {
		gone[from.Lane()] = true
	}
	for from := range w.covers {
		if !all && !gone[from.Lane()] {
			continue
		}
		delete(w.covers, from)
		w.fenced = append(w.fenced, from)
		if p, ok := h.progress[from]; ok {
			w.durable[from] = p
		}
	}
	maps.DeleteFunc(w.segments, func(l gather.Lane, _ *parquetfile.Segment) bool { return all || gone[l] })
	w.committed = len(w.covers) == 0
}

// stage writes what is not yet written of w's files, where no reader looks.
func (a *Archive) stage(ctx context.Context, w *work) error {
	views := make([]parquetfile.View, 0, len(w.segments))
	for _, lane := range slices.SortedFunc(maps.Keys(w.segments), func(a, b gather.Lane) int { return a.Number - b.Number }) {
		views = append(views, w.segments[lane].View())
	}
	if w.files != nil && a.cfg.Now().Sub(w.stagedAt) >= stagedFor {
		w.files, w.written = nil, nil // they stay, since a record that names them may still be on its way
	}
	if w.files != nil && !slices.Contains(w.written, false) || len(views) == 0 {
		return nil
	}
	hours := parquetfile.Order(views)
	if w.files == nil {
		w.name(hours, a.cfg.Now())
	}
	uploads, ctx := errgroup.WithContext(ctx)
	uploads.SetLimit(a.cfg.Uploads)
	for i := range hours {
		if w.written[i] {
			continue
		}
		uploads.Go(func() error {
			size, rows, err := a.upload(ctx, w.files[i].From, views, hours[i])
			if err != nil {
				return err
			}
			w.written[i] = true
			a.cfg.Metrics.rows.Add(float64(rows))
			a.cfg.Metrics.bytes.Add(float64(size))
			a.cfg.Metrics.files.Inc()
			return nil
		})
	}
	return uploads.Wait()
}

// name gives each hour its file: a name that was never used and sorts by the time of the flush.
func (w *work) name(hours []parquetfile.HourRows, now time.Time) {
	w.stagedAt = now
	flush := now.UTC().Format("20060102T150405Z-") + rand.Text()[:10]
	w.files, w.written = make([]move, len(hours)), make([]bool, len(hours))
	for i := range hours {
		w.files[i] = move{
			From: fmt.Sprintf("%s%s-%05d", stagedDir(w.chain.worker), flush, i),
			To:   fmt.Sprintf("%s/%s-%05d.parquet", parquetfile.HourDir(hours[i].Hour), flush, i),
		}
	}
}

func (a *Archive) upload(ctx context.Context, key string, views []parquetfile.View, hour parquetfile.HourRows) (size, rows int64, err error) {
	var stats parquetfile.Stats
	var written atomic.Int64
	err = a.cfg.Bucket.Write(ctx, key, false, func(w io.Writer) error {
		return parquetfile.WriteHour(&counter{w, &written}, a.cfg.RowGroupRows, &stats, views, hour)
	})
	return written.Load(), stats.Rows, err
}

type counter struct {
	io.Writer
	n *atomic.Int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.n.Add(int64(n))
	return n, err
}

// unstage removes w's files from where they were staged; what stays is removed by upkeep.
func (a *Archive) unstage(ctx context.Context, w *work) {
	for i, m := range w.files {
		if w.written[i] {
			_ = a.cfg.Bucket.Remove(ctx, m.From)
		}
	}
	w.files, w.written = nil, nil
}
