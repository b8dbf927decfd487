package parquet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store/gather"
	"github.com/millrace/millrace/pkg/store/parquetfile"
	"github.com/millrace/millrace/pkg/telemetry"
)

// closing is a batch on its way into files: a close that went wrong is done again over the same names.
type closing struct {
	batch  *gather.Batch
	number uint64
}

// number returns a number for a file. Callers hold mu.
func (h *History) number() uint64 {
	h.next++
	return h.next
}

func (h *History) closeFailed(err error) {
	h.cfg.Log.Error("history: rows cannot be put on disk; they stay in memory and it is tried again", "error", err)
	h.cfg.Metrics.closeFailures.Inc()
}

// closeBatch writes a batch into files, one an hour, and makes them count.
func (h *History) closeBatch(ctx context.Context, b *gather.Batch) error {
	if h.closing == nil || h.closing.batch != b {
		h.mu.Lock()
		h.closing = &closing{batch: b, number: h.number()}
		h.mu.Unlock()
	}
	start, number := h.cfg.Now(), h.closing.number
	views := make([]parquetfile.View, 0, len(b.Segments))
	for _, g := range b.Segments {
		views = append(views, g.View())
	}
	files, err := h.writeViews(ctx, views, "close", number, h.cfg.HoursMax)
	if err != nil {
		return fmt.Errorf("close %d rows: %w", b.Rows, err)
	}
	covered := make(map[gather.Source]bus.Progress, len(b.Covers))
	err = h.commit(func(m *manifest) error {
		m.Files = append(m.Files, files...)
		m.Next = max(m.Next, number)
		for from, t := range b.Covers {
			m.cover(from, t.Through)
			covered[from] = t.Through
		}
		return nil
	}, func() { h.rows.Settle(covered, nil) })
	if err != nil {
		return fmt.Errorf("close %d rows: %w", b.Rows, err)
	}
	h.closing = nil
	h.cfg.Metrics.closed(b.Rows, len(files), h.cfg.Now().Sub(start))
	return nil
}

// writeViews puts the rows of views into one sorted file for each hour, at most hoursMax of them: the hours with the fewest
// rows then share a file, which is split later. Nothing refers to the files yet; after an error they are those that are done.
func (h *History) writeViews(ctx context.Context, views []parquetfile.View, kind string, number uint64, hoursMax int) ([]FileInfo, error) {
	hours := parquetfile.Spread(views, parquetfile.Order(views), hoursMax)
	var files []FileInfo
	var dirs []string
	for _, hour := range hours {
		if err := ctx.Err(); err != nil {
			return files, err
		}
		info := FileInfo{Path: pathOf(kind, hour, number), Spread: hour.Spread, Closed: telemetry.At(h.cfg.Now())}
		path := filepath.Join(h.cfg.Dir, filepath.FromSlash(info.Path))
		err := h.writeRows(path, &info, func(w io.Writer, stats *parquetfile.Stats) error {
			return parquetfile.WriteHour(w, h.cfg.RowGroupRows, stats, views, hour)
		})
		if err != nil {
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

// writeRows puts the file that write writes into path in one step, and completes info.
func (h *History) writeRows(path string, info *FileInfo, write func(io.Writer, *parquetfile.Stats) error) error {
	var stats parquetfile.Stats
	try := func() (size int64, sum uint32, err error) {
		if err := h.cfg.FS.MkdirAll(filepath.Dir(path)); err != nil {
			return 0, 0, fmt.Errorf("make %s: %w", filepath.Dir(path), err)
		}
		return writeFile(h.cfg.FS, path, func(w io.Writer) error { return write(w, &stats) })
	}
	size, sum, err := try()
	if errors.Is(err, fs.ErrNotExist) && stats.Rows == 0 { // the folder was empty and has just been removed
		size, sum, err = try()
	}
	info.Bytes, info.CRC, info.Rows = size, sum, stats.Rows
	info.MinEvent, info.MaxEvent, info.First, info.Last = stats.MinEvent, stats.MaxEvent, stats.First, stats.Last
	return err
}
