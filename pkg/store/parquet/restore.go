package parquet

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/gather"
	"github.com/millrace/millrace/pkg/store/parquetfile"
)

// Restorer puts back the rows of files that were set aside, from wherever the same messages are still to be had. Rows that are in another
// file are passed over, so it may be given everything, any number of times. One goroutine uses it.
type Restorer struct {
	history *History
	lacks   []DamagedRecord
	counts  []int64           // rows put back, beside lacks
	have    map[int32][]int64 // positions of origins in files that count, rising, by partition
	taken   map[originKey]struct{}
	rows    *parquetfile.Segment
}

type originKey struct {
	partition int32
	position  int64
}

// Restore returns a Restorer for the files that were set aside and not yet searched for; nil where there are none. It reads the origins of all
// files of their time.
func (h *History) Restore(ctx context.Context) (*Restorer, error) {
	r := &Restorer{history: h, have: map[int32][]int64{}, taken: map[originKey]struct{}{}, rows: parquetfile.NewSegment()}
	s, err := h.Take()
	if err != nil {
		return nil, err
	}
	defer s.Release()
	for _, d := range s.catalog.Damaged {
		if !d.Searched && d.MaxEvent > 0 {
			r.lacks = append(r.lacks, d)
		}
	}
	if len(r.lacks) == 0 {
		return nil, nil //nolint:nilnil // nothing to restore
	}
	r.counts = make([]int64, len(r.lacks))
	for i := range s.catalog.Files {
		if err := r.know(ctx, s.paths[i], &s.catalog.Files[i]); err != nil {
			return nil, fmt.Errorf("restore rows: %w", err)
		}
	}
	for _, positions := range r.have {
		slices.Sort(positions)
	}
	return r, nil
}

// know notes the origins of a file that may hold rows of the time of what is lacking. One that turns out damaged too is set aside.
func (r *Restorer) know(ctx context.Context, path string, info *FileInfo) error {
	if !slices.ContainsFunc(r.lacks, func(d DamagedRecord) bool { return info.MinEvent <= d.MaxEvent && info.MaxEvent >= d.MinEvent }) {
		return nil
	}
	for row, err := range ReadFile(path) {
		if d := (*damagedError)(nil); errors.As(err, &d) {
			return errors.Join(err, r.history.setAside(info.Path, d.err.Error()))
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		position, err := store.PackPosition(row.Origin.Position)
		if err != nil {
			return err
		}
		r.have[row.Origin.Partition] = append(r.have[row.Origin.Partition], position)
	}
	return nil
}

// Covered returns how far the files cover a partition: what comes after is in memory or on its way, and is none of a Restorer's business.
func (r *Restorer) Covered(worker string, p bus.PartitionID) bus.Position {
	r.history.mu.Lock()
	defer r.history.mu.Unlock()
	progress, _ := r.history.rows.Durable(gather.Source{Worker: worker, Partition: p})
	return progress.Through
}

// Add takes a row where it is one of those that are lacking. It must be one that Covered covers.
func (r *Restorer) Add(ctx context.Context, m *store.MessageRow) error {
	device := Device{Tenant: m.Tenant, ID: m.DeviceID}
	i := slices.IndexFunc(r.lacks, func(d DamagedRecord) bool {
		return d.MinEvent <= m.EventTime && m.EventTime <= d.MaxEvent && d.First.Compare(device) <= 0 && device.Compare(d.Last) <= 0
	})
	if i < 0 {
		return nil
	}
	position, err := store.PackPosition(m.Origin.Position)
	if err != nil {
		return nil //nolint:nilerr // it was refused, and is a dead letter
	}
	key := originKey{m.Origin.Partition, position}
	if _, found := slices.BinarySearch(r.have[key.partition], position); found {
		return nil
	}
	if _, again := r.taken[key]; again {
		return nil
	}
	if reason := r.rows.Add(m); reason != "" {
		return nil // likewise
	}
	r.taken[key] = struct{}{}
	r.counts[i]++
	if r.rows.Rows() >= r.history.cfg.SegmentRows {
		return r.write(ctx)
	}
	return nil
}

// write puts the rows at hand into files that count.
func (r *Restorer) write(ctx context.Context) error {
	if r.rows.Rows() == 0 {
		return nil
	}
	h := r.history
	h.mu.Lock()
	number := h.number()
	h.mu.Unlock()
	files, err := h.writeViews(ctx, []parquetfile.View{r.rows.View()}, "restored", number, h.cfg.HoursMax)
	if err != nil {
		h.discard(files)
		return fmt.Errorf("restore %d rows: %w", r.rows.Rows(), err)
	}
	err = h.commit(func(m *manifest) error {
		m.Files = append(m.Files, files...)
		m.Next = max(m.Next, number)
		r.note(m, false)
		return nil
	}, nil)
	if err != nil {
		if !errors.Is(err, errUncertain) {
			h.discard(files)
		}
		return fmt.Errorf("restore %d rows: %w", r.rows.Rows(), err)
	}
	r.rows = parquetfile.NewSegment()
	return nil
}

// note brings the records of m up to date.
func (r *Restorer) note(m *manifest, searched bool) {
	for i := range m.Damaged {
		for k := range r.lacks {
			if m.Damaged[i].Path == r.lacks[k].Path && m.Damaged[i].Found == r.lacks[k].Found {
				m.Damaged[i].Restored = r.lacks[k].Restored + r.counts[k]
				m.Damaged[i].Searched = searched
			}
		}
	}
}

// Done says that everything was given that there is, and returns what became of each file. A file that counts from now on holds what was
// given, so a second Restorer would find nothing new.
func (r *Restorer) Done(ctx context.Context) ([]DamagedRecord, error) {
	if err := r.write(ctx); err != nil {
		return nil, err
	}
	err := r.history.commit(func(m *manifest) error { r.note(m, true); return nil }, nil)
	if err != nil {
		return nil, fmt.Errorf("restore rows: %w", err)
	}
	done := slices.Clone(r.lacks)
	for i := range done {
		done[i].Restored, done[i].Searched = done[i].Restored+r.counts[i], true
	}
	return done, nil
}
