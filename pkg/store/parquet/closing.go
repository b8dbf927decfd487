package parquet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"time"

	pq "github.com/parquet-go/parquet-go"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

const never = time.Duration(math.MaxInt64)

// batch is the rows of every lane that are made into files together, and what they cover. It never changes, so a close that
// went wrong is simply done again, over the same names.
type batch struct {
	segments []*segment
	progress map[source]bus.Progress
	rows     int
	bytes    int64
	writes   uint64
	number   uint64
}

// due returns how long the rows in memory may wait to be closed; 0 means not at all. Callers hold mu.
func (h *History) due(now time.Time) time.Duration {
	switch {
	case h.flush > h.through && h.since != time.Time{}:
		return 0
	case h.since.IsZero():
		return never
	case h.rows >= h.cfg.SegmentRows, h.active >= h.cfg.MemoryBytes/2:
		return 0
	}
	return max(0, h.since.Add(h.cfg.SegmentAge).Sub(now))
}

// closeLoop closes what is due, one batch at a time, while new rows gather for the next.
func (h *History) closeLoop(ctx context.Context) {
	for {
		b := h.nextBatch(ctx)
		if b == nil {
			return
		}
		for pause := 100 * time.Millisecond; ; pause = min(2*pause, 10*time.Second) {
			err := h.closeBatch(ctx, b)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return
			}
			h.closeFailed(err)
			if !rest(ctx, pause) {
				return
			}
		}
	}
}

// rest waits for d; false means that ctx ended.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// nextBatch waits until rows are due and takes them; nil means that ctx ended.
func (h *History) nextBatch(ctx context.Context) *batch {
	for {
		h.mu.Lock()
		wait := h.due(h.cfg.Now())
		if wait == 0 {
			b := h.seal()
			h.mu.Unlock()
			return b
		}
		changed := h.changed
		h.mu.Unlock()
		timer := time.NewTimer(min(wait, time.Hour))
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
}

// seal makes a batch of everything in memory. Callers hold mu; nothing is closing.
func (h *History) seal() *batch {
	b := &batch{progress: make(map[source]bus.Progress, len(h.taken)), rows: h.rows, bytes: h.active, writes: h.writes, number: h.number()}
	for from, t := range h.taken {
		b.progress[from] = t.through
	}
	clear(h.taken)
	for key, l := range h.lanes {
		if l.active.rows == 0 {
			delete(h.lanes, key) // an idle lane costs nothing
			continue
		}
		b.segments = append(b.segments, l.active)
		l.active = newSegment()
	}
	h.closing, h.active, h.rows, h.since = b, 0, 0, time.Time{}
	return b
}

// number returns a number for a file. Callers hold mu.
func (h *History) number() uint64 {
	h.next++
	return h.next
}

func (h *History) closeFailed(err error) {
	h.cfg.Log.Error("history: rows cannot be put on disk; they stay in memory and it is tried again", "error", err)
	h.cfg.Metrics.closeFailures.Inc()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failure = err
	h.attempts++
	h.announce()
}

// closeBatch writes a batch into files, one an hour, and makes them count.
func (h *History) closeBatch(ctx context.Context, b *batch) error {
	start := h.cfg.Now()
	views := make([]view, len(b.segments))
	for i, g := range b.segments {
		views[i] = g.view()
	}
	files, err := h.writeViews(ctx, views, "close", b.number, h.cfg.HoursMax)
	if err != nil {
		return fmt.Errorf("close %d rows: %w", b.rows, err)
	}
	err = h.commit(func(m *manifest) error {
		m.Files = append(m.Files, files...)
		m.Next = max(m.Next, b.number)
		for from, p := range b.progress {
			m.cover(from, p)
		}
		return nil
	}, func() {
		maps.Copy(h.durable, b.progress)
		h.bytes -= b.bytes
		h.through, h.closing, h.failure = b.writes, nil, nil
	})
	if err != nil {
		return fmt.Errorf("close %d rows: %w", b.rows, err)
	}
	h.cfg.Metrics.closed(b.rows, len(files), h.cfg.Now().Sub(start))
	return nil
}

// writeViews puts the rows of views into one sorted file for each hour, at most hoursMax of them: the hours with the fewest
// rows then share a file, which is split later. Nothing refers to the files yet; after an error they are those that are done.
func (h *History) writeViews(ctx context.Context, views []view, kind string, number uint64, hoursMax int) ([]FileInfo, error) {
	hours := order(views)
	if len(hours) > hoursMax {
		hours = spread(hours, max(hoursMax, 1)-1)
		inOrder(views, hours[len(hours)-1].refs)
	}
	var files []FileInfo
	var dirs []string
	for _, hour := range hours {
		if err := ctx.Err(); err != nil {
			return files, err
		}
		info := FileInfo{Path: pathOf(kind, hour, number), Spread: hour.spread, Closed: telemetry.At(h.cfg.Now())}
		path := filepath.Join(h.cfg.Dir, filepath.FromSlash(info.Path))
		if err := h.writeSorted(path, views, hour.refs, &info); err != nil {
			return files, err
		}
		files = append(files, info)
		dirs = append(dirs, filepath.Dir(path))
	}
	slices.Sort(dirs)
	for _, dir := range slices.Compact(dirs) {
		if err := h.cfg.FS.SyncDir(dir); err != nil {
			return files, fmt.Errorf("make names in %s durable: %w", dir, err)
		}
	}
	return files, nil
}

// writeSorted writes the rows that refs name, in that order, and completes info.
func (h *History) writeSorted(path string, views []view, refs []ref, info *FileInfo) error {
	return h.writeRows(path, info, func(add func([]fileRow) error) error {
		rows := make([]fileRow, writeRun)
		var scratch []byte
		for len(refs) > 0 {
			n := min(len(refs), writeRun)
			scratch = scratch[:0]
			for i, r := range refs[:n] {
				v := &views[r.view]
				c := &v.chunks[r.chunk]
				scratch = v.file(&rows[i], c, &c.rows[r.row], scratch)
			}
			if err := add(rows[:n]); err != nil {
				return err
			}
			refs = refs[n:]
		}
		return nil
	})
}

// writeRun is how many rows go to the Parquet writer at once: they stay in the processor's cache.
const writeRun = 512

// writeRows writes what fill adds, which is sorted, into path in one step, and completes info.
func (h *History) writeRows(path string, info *FileInfo, fill func(add func([]fileRow) error) error) error {
	write := func() (size int64, sum uint32, err error) {
		if err := h.cfg.FS.MkdirAll(filepath.Dir(path)); err != nil {
			return 0, 0, fmt.Errorf("make %s: %w", filepath.Dir(path), err)
		}
		return writeFile(h.cfg.FS, path, func(w io.Writer) error {
			out := pq.NewGenericWriter[fileRow](w, writerOptions(h.cfg.RowGroupRows)...)
			err := fill(func(rows []fileRow) error {
				info.note(rows)
				_, err := out.Write(rows)
				return err
			})
			if err != nil {
				return err
			}
			return out.Close()
		})
	}
	size, sum, err := write()
	if errors.Is(err, fs.ErrNotExist) && info.Rows == 0 { // the folder was empty and has just been removed
		size, sum, err = write()
	}
	info.Bytes, info.CRC = size, sum
	return err
}

// note takes rows that come next in a file into its statistics.
func (i *FileInfo) note(rows []fileRow) {
	for k := range rows {
		event := telemetry.Time(rows[k].EventTime)
		if i.Rows == 0 && k == 0 {
			i.MinEvent, i.MaxEvent = event, event
			i.First = Device{Tenant: rows[k].Tenant, ID: rows[k].DeviceID}.clone()
		}
		i.MinEvent, i.MaxEvent = min(i.MinEvent, event), max(i.MaxEvent, event)
	}
	if n := len(rows); n > 0 {
		i.Last = Device{Tenant: rows[n-1].Tenant, ID: rows[n-1].DeviceID}.clone()
		i.Rows += int64(n)
	}
}
