package parquet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/millrace/millrace/pkg/store/gather"
	"github.com/millrace/millrace/pkg/store/parquetfile"
	"github.com/millrace/millrace/pkg/telemetry"
)

const (
	mergeFanIn  = 32             // files of one merge: about 3 MB of pages in memory each
	mergeTier   = 8              // files of like size that are merged though their hour is not quiet
	mergeGrowth = 4              // a file joins a merge when it has at most so many times the rows of all smaller ones
	mergeCold   = 24 * time.Hour // an hour untouched for so long becomes as few files as can be
)

// planMerge picks files of one hour to be made into one, or nothing. Files of like size go together, so that a row is written
// again about once each time that its file grows several-fold: the cost of a row that came late is bounded.
func planMerge(cfg *Config, files []FileInfo, now telemetry.Time) []FileInfo {
	hours := map[string][]FileInfo{}
	for _, f := range files {
		if !f.Spread && f.Rows < cfg.MergeRows/2 && f.Bytes < cfg.MergeBytes/2 {
			dir := path.Dir(f.Path)
			hours[dir] = append(hours[dir], f)
		}
	}
	var best []FileInfo
	for _, small := range hours {
		if p := planHour(cfg, small, now); len(p) > len(best) || len(p) == len(best) && len(p) > 0 && p[0].Path < best[0].Path {
			best = p // where the most files vanish at once
		}
	}
	return best
}

func planHour(cfg *Config, small []FileInfo, now telemetry.Time) []FileInfo {
	if len(small) < 2 {
		return nil
	}
	slices.SortFunc(small, func(a, b FileInfo) int {
		return cmp.Or(cmp.Compare(a.Rows, b.Rows), cmp.Compare(a.Path, b.Path))
	})
	newest := small[0].Closed
	for _, f := range small {
		newest = max(newest, f.Closed)
	}
	end := parquetfile.HourStart(parquetfile.HourOf(small[0].MinEvent) + 1)
	if now.Sub(newest) >= mergeCold {
		return small[:min(len(small), mergeFanIn)]
	}
	want := mergeTier
	if now.Sub(end) >= cfg.MergeDelay && now.Sub(newest) >= cfg.MergeDelay {
		want = 2
	}
	for start := range small {
		sum, n := small[start].Rows, start+1
		for n < len(small) && n-start < mergeFanIn && small[n].Rows <= mergeGrowth*sum {
			sum += small[n].Rows
			n++
		}
		if n-start >= want {
			return small[start:n]
		}
	}
	return nil
}

// merge makes the files into one, or into several of MergeRows, and puts those in their place.
func (h *History) merge(ctx context.Context, inputs []FileInfo) error {
	start := h.cfg.Now()
	h.mu.Lock()
	number := h.number()
	h.mu.Unlock()
	m := &merger{history: h, ctx: ctx, dir: path.Dir(inputs[0].Path), number: number}
	want := int64(0)
	for i := range inputs {
		want += inputs[i].Rows
	}
	if err := m.run(inputs); err != nil {
		h.discard(m.outputs)
		return err
	}
	if err := h.replace(inputs, m.outputs, want, number); err != nil {
		return err
	}
	h.cfg.Metrics.merged(want, h.cfg.Now().Sub(start))
	return nil
}

// discard removes files that never counted.
func (h *History) discard(files []FileInfo) {
	for i := range files {
		_ = h.cfg.FS.Remove(filepath.Join(h.cfg.Dir, filepath.FromSlash(files[i].Path))) // what stays is removed by Open
	}
}

// replace puts outputs in the place of inputs, provided that they have the same number of rows and all inputs still count.
func (h *History) replace(inputs, outputs []FileInfo, want int64, number uint64) error {
	got := int64(0)
	for i := range outputs {
		got += outputs[i].Rows
	}
	if got != want {
		h.discard(outputs)
		return fmt.Errorf("%d files of %d rows gave %d rows: they stay as they are", len(inputs), want, got)
	}
	err := h.commit(func(m *manifest) error {
		gone := make(map[string]bool, len(inputs))
		for i := range inputs {
			gone[inputs[i].Path] = true
		}
		before := len(m.Files)
		m.Files = slices.DeleteFunc(m.Files, func(f FileInfo) bool { return gone[f.Path] })
		if before-len(m.Files) != len(inputs) {
			return errors.New("a file was removed while it was merged")
		}
		m.Files = append(m.Files, outputs...)
		m.Next = max(m.Next, number)
		return nil
	}, nil)
	switch {
	case errors.Is(err, errUncertain): // the outputs may count after a crash; the next manifest decides, and then they go
		h.mu.Lock()
		defer h.mu.Unlock()
		next := h.catalog.current.Generation + 1
		for _, path := range absolute(h.cfg.Dir, outputs) {
			h.catalog.doomed = append(h.catalog.doomed, doomed{path: path, generation: next, since: h.cfg.Now()})
		}
	case err != nil:
		h.discard(outputs)
	}
	return err
}

// merger merges sorted files, with a few hundred rows of each in memory.
type merger struct {
	history *History
	ctx     context.Context //nolint:containedctx // lives as long as one call of merge
	dir     string
	number  uint64
	heads   []*head // by their first row
	outputs []FileInfo
	worked  time.Time // since when it did not rest
}

// head is a file under way: rows read and not yet taken.
type head struct {
	reader *fileReader
	buffer []parquetfile.Row
	rows   []parquetfile.Row
}

// run writes all of inputs into outputs. After an error those that are complete are in outputs too.
func (m *merger) run(inputs []FileInfo) error {
	defer func() {
		for _, h := range m.heads {
			h.reader.close()
		}
	}()
	dir := m.history.cfg.Dir
	for i := range inputs {
		path := filepath.Join(dir, filepath.FromSlash(inputs[i].Path))
		if err := m.open(path, &inputs[i]); err != nil {
			return err
		}
	}
	for len(m.heads) > 0 {
		if err := m.writePart(); err != nil {
			return err
		}
	}
	if err := m.history.cfg.FS.SyncDir(filepath.Join(dir, filepath.FromSlash(m.dir))); err != nil {
		return fmt.Errorf("make names in %s durable: %w", m.dir, err)
	}
	return nil
}

func (m *merger) open(path string, info *FileInfo) error {
	if err := checkSum(path, info); err != nil { // a damaged text would be copied without a sign
		return err
	}
	r, err := openReader(path)
	if err != nil {
		return err
	}
	return m.refill(&head{reader: r, buffer: make([]parquetfile.Row, parquetfile.Run)})
}

// refill reads on and puts the head where it belongs; a file that is at its end is closed.
func (m *merger) refill(h *head) error {
	n, err := h.reader.read(h.buffer)
	if err != nil {
		h.reader.close()
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	h.rows = h.buffer[:n]
	m.insert(h)
	return nil
}

func (m *merger) insert(h *head) {
	at, _ := slices.BinarySearchFunc(m.heads, h, func(a, b *head) int { return parquetfile.Compare(&a.rows[0], &b.rows[0]) })
	m.heads = slices.Insert(m.heads, at, h)
}

// writePart writes the next file, up to MergeRows.
func (m *merger) writePart() error {
	part := len(m.outputs)
	info := FileInfo{Path: mergedPath(m.dir, m.number, part), Closed: telemetry.At(m.history.cfg.Now())}
	path := filepath.Join(m.history.cfg.Dir, filepath.FromSlash(info.Path))
	err := m.history.writeRows(path, &info, func(w io.Writer, stats *parquetfile.Stats) error {
		return parquetfile.Write(w, m.history.cfg.RowGroupRows, stats, func(add func([]parquetfile.Row) error) error {
			return m.fill(add, stats)
		})
	})
	if err != nil {
		return err
	}
	m.outputs = append(m.outputs, info)
	return nil
}

// fill adds the rows of one file, and stats says how many it has.
func (m *merger) fill(add func([]parquetfile.Row) error, stats *parquetfile.Stats) error {
	rows := make([]parquetfile.Row, 0, parquetfile.Run)
	for len(m.heads) > 0 && stats.Rows+int64(len(rows)) < m.history.cfg.MergeRows {
		var err error
		if rows, err = m.next(rows); err != nil {
			return err
		}
		if len(rows) < parquetfile.Run {
			continue
		}
		if err := add(rows); err != nil {
			return err
		}
		rows = rows[:0]
		if err := m.breathe(stats.Rows); err != nil {
			return err
		}
	}
	return add(rows)
}

// next takes from the first head all rows that come before the second's, as far as there is room.
func (m *merger) next(rows []parquetfile.Row) ([]parquetfile.Row, error) {
	first := m.heads[0]
	n := min(len(first.rows), cap(rows)-len(rows))
	if len(m.heads) > 1 {
		limit := &m.heads[1].rows[0]
		k := 1
		for k < n && parquetfile.Compare(&first.rows[k], limit) <= 0 {
			k++
		}
		n = k
	}
	rows = append(rows, first.rows[:n]...)
	first.rows = first.rows[n:]
	m.heads = m.heads[1:]
	if len(first.rows) == 0 {
		return rows, m.refill(first)
	}
	m.insert(first)
	return rows, nil
}

// breathe rests now and then, for as long as it worked or as MergeRest says, so that a merge never takes the machine.
func (m *merger) breathe(rows int64) error {
	const every = 32 << 10
	if rows%every >= parquetfile.Run {
		return nil
	}
	now := time.Now() //nolint:forbidigo // measures its own work; decides nothing
	if !m.worked.IsZero() && m.history.cfg.MergeRest > 0 {
		pause := time.Duration(float64(now.Sub(m.worked)) * m.history.cfg.MergeRest)
		if !gather.Rest(m.ctx, min(pause, 5*time.Second)) {
			return context.Cause(m.ctx)
		}
		now = now.Add(pause)
	}
	m.worked = now
	return m.ctx.Err()
}

// planSplit picks spread files to be cut into their hours: those that have waited long enough for others of their kind.
func planSplit(cfg *Config, files []FileInfo, now telemetry.Time) []FileInfo {
	var spread []FileInfo
	oldest := telemetry.Time(math.MaxInt64)
	rows := int64(0)
	for _, f := range files {
		if f.Spread && (len(spread) == 0 || rows+f.Rows <= int64(cfg.SegmentRows)) {
			spread = append(spread, f)
			oldest = min(oldest, f.Closed)
			rows += f.Rows
		}
	}
	if len(spread) >= mergeTier || len(spread) > 0 && now.Sub(oldest) >= cfg.MergeDelay {
		return spread
	}
	return nil
}

// split cuts spread files into one file for each of their hours, however many.
func (h *History) split(ctx context.Context, inputs []FileInfo) error {
	h.mu.Lock()
	number := h.number()
	h.mu.Unlock()
	g := parquetfile.NewSegment()
	for i := range inputs {
		path := filepath.Join(h.cfg.Dir, filepath.FromSlash(inputs[i].Path))
		if err := checkSum(path, &inputs[i]); err != nil {
			return err
		}
		for row, err := range ReadFile(path) {
			if err != nil {
				return err
			}
			if reason := g.Add(&row); reason != "" {
				return damaged(path, errors.New(reason))
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	files, err := h.writeViews(ctx, []parquetfile.View{g.View()}, "split", number, math.MaxInt)
	if err != nil {
		h.discard(files)
		return err
	}
	return h.replace(inputs, files, int64(g.Rows()), number)
}
