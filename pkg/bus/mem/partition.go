package mem

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sort"
	"sync"

	"github.com/millrace/millrace/pkg/bus"
)

var errNoGroup = errors.New("the partition was opened outside of any group")

// partition is one partition's records and the progress of its groups.
type partition struct {
	id   bus.PartitionID
	disk *disk

	mu        sync.Mutex
	recs      []bus.Record // sorted by position; the values are never written again
	bytes     int64
	seq       uint64                  // of the newest append
	last      bus.Position            // of the newest record, which may be trimmed
	time      int64                   // of the newest record
	committed map[string]bus.Progress // by group, zero for one that has only joined
	more      chan struct{}           // closed by the next append; nil while nobody waits
}

// append stores recs, unless l is down or there is no room.
func (p *partition) append(l *Log, recs []bus.Record) error {
	size := 0
	for i := range recs {
		size += len(recs[i].Value)
	}
	now := p.disk.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := l.fault(); err != nil {
		return err
	}
	if limit := p.disk.cfg.BytesMax; limit > 0 && p.bytes+int64(size) > limit {
		p.makeRoom(limit - int64(size))
		if p.bytes+int64(size) > limit {
			return bus.ErrFull
		}
	}
	p.seq++
	p.time = max(p.time, now) // so that a search by time works when the clock is set back
	values := make([]byte, 0, size)
	for i := range recs {
		values = append(values, recs[i].Value...)
		p.last = bus.Position{Seq: p.seq, Index: uint32(i)}
		p.recs = append(p.recs, bus.Record{
			Position: p.last, Origin: recs[i].Origin, Time: p.time,
			Value: values[len(values)-len(recs[i].Value) : len(values) : len(values)],
		})
	}
	p.bytes += int64(size)
	if p.more != nil {
		close(p.more)
		p.more = nil
	}
	return nil
}

// makeRoom trims, oldest first, what every group has read until at most limit bytes are left. Where no group ever joined,
// only the size counts.
func (p *partition) makeRoom(limit int64) {
	var through bus.Position
	for _, r := range p.recs {
		if p.bytes <= limit || !p.readByAll(r.Position) {
			break
		}
		p.bytes -= int64(len(r.Value))
		through = r.Position
	}
	p.drop(p.after(through))
}

func (p *partition) readByAll(at bus.Position) bool {
	for group, progress := range p.committed {
		if bus.Onlooker(group) {
			continue
		}
		if progress.Through.Compare(at) < 0 {
			return false
		}
	}
	return true
}

func (p *partition) trim(through bus.Position) {
	n := p.after(through)
	for _, r := range p.recs[:n] {
		p.bytes -= int64(len(r.Value))
	}
	p.drop(n)
}

// cut forgets what came after at, as if it had never been appended.
func (p *partition) cut(at bus.Position) {
	n := p.after(at)
	for _, r := range p.recs[n:] {
		p.bytes -= int64(len(r.Value))
	}
	p.recs = p.recs[:n:n]
	p.seq, p.last = min(p.seq, at.Seq), at
}

// drop forgets the first n records. The array goes when appending has outgrown it.
func (p *partition) drop(n int) {
	clear(p.recs[:n])
	p.recs = p.recs[n:]
}

// after returns the index of the first record after at.
func (p *partition) after(at bus.Position) int {
	return sort.Search(len(p.recs), func(i int) bool { return p.recs[i].Position.Compare(at) > 0 })
}

// begin resolves start to the position after which to read.
func (p *partition) begin(start bus.Start) (bus.Position, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case start.Newest:
		return p.last, nil
	case start.Time != 0:
		i := sort.Search(len(p.recs), func(i int) bool { return p.recs[i].Time >= start.Time })
		if i == 0 {
			return bus.Position{}, nil
		}
		return p.recs[i-1].Position, nil
	case start.Position.Seq > p.seq:
		return start.Position, fmt.Errorf("after %s, but the end is %s: %w", start.Position, p.last, bus.ErrAhead)
	default:
		return start.Position, nil
	}
}

// next returns copies of some records after at, or a channel that is closed when there may be some.
func (p *partition) next(at bus.Position) ([]bus.Record, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	rest := p.recs[p.after(at):]
	if len(rest) == 0 {
		if p.more == nil {
			p.more = make(chan struct{})
		}
		return nil, p.more
	}
	n, size := 0, 0
	for n < len(rest) && n < p.disk.cfg.BatchRecords && (n == 0 || size+len(rest[n].Value) <= defaultBatchBytes) {
		size += len(rest[n].Value)
		n++
	}
	return copyRecords(rest[:n]), nil
}

// copyRecords returns records that the caller may keep and change.
func copyRecords(recs []bus.Record) []bus.Record {
	size := 0
	for i := range recs {
		size += len(recs[i].Value)
	}
	out, values := slices.Clone(recs), make([]byte, 0, size)
	for i := range out {
		values = append(values, out[i].Value...)
		out[i].Value = values[len(values)-len(out[i].Value) : len(values) : len(values)]
	}
	return out
}

// view is a partition as one handle, and perhaps one group, has it open.
type view struct {
	log   *Log
	part  *partition
	group string // "" outside of any group
}

// ID implements bus.Partition.
func (v *view) ID() bus.PartitionID { return v.part.id }

// After implements bus.Partition. Where start is Newest or a time, it is looked up when After is called, not when the
// iteration begins.
func (v *view) After(ctx context.Context, start bus.Start) iter.Seq2[bus.Batch, error] {
	from, ahead := v.part.begin(start)
	return func(yield func(bus.Batch, error) bool) {
		at := from
		if ahead != nil && ctx.Err() == nil {
			yield(bus.Batch{}, fmt.Errorf("read %s: %w", v.part.id, ahead))
			return
		}
		for ctx.Err() == nil {
			batch, err := v.read(ctx, at)
			switch {
			case ctx.Err() != nil:
			case err != nil:
				yield(bus.Batch{}, fmt.Errorf("read %s after %s: %w", v.part.id, at, err))
				return
			case len(batch) == 0:
			case !yield(bus.Batch{Records: batch}, nil):
				return
			default:
				at = batch[len(batch)-1].Position
			}
		}
	}
}

// read waits for records after at. It returns none when there may be some now, or when ctx has ended.
func (v *view) read(ctx context.Context, at bus.Position) ([]bus.Record, error) {
	if err := v.log.fault(); err != nil {
		return nil, err
	}
	for _, h := range v.log.hooks() {
		if h.BeforeRead == nil {
			continue
		}
		if err := h.BeforeRead(ctx, v.part.id, at); err != nil {
			return nil, err
		}
	}
	batch, more := v.part.next(at)
	if more == nil {
		return batch, nil
	}
	select {
	case <-more:
	case <-ctx.Done():
	case <-v.log.down:
	}
	return nil, nil
}

// ask says whether a question is answered.
func (v *view) ask(ctx context.Context) error {
	for _, h := range v.log.hooks() {
		if h.BeforeAsk == nil {
			continue
		}
		if err := h.BeforeAsk(ctx, v.part.id); err != nil {
			return err
		}
	}
	return v.log.fault()
}

// Committed implements bus.Partition.
func (v *view) Committed(ctx context.Context) (bus.Progress, bool, error) {
	if err := v.ask(ctx); err != nil {
		return bus.Progress{}, false, fmt.Errorf("read the commit of %s on %s: %w", v.group, v.part.id, err)
	}
	v.part.mu.Lock()
	defer v.part.mu.Unlock()
	progress := v.part.committed[v.group]
	return progress.Clone(), !progress.Through.IsZero(), nil
}

// Commit implements bus.Partition.
func (v *view) Commit(ctx context.Context, progress bus.Progress) error {
	if err := v.commit(ctx, progress); err != nil {
		return fmt.Errorf("commit %s on %s through %s: %w", v.group, v.part.id, progress.Through, err)
	}
	return nil
}

func (v *view) commit(ctx context.Context, progress bus.Progress) error {
	if v.group == "" {
		return errNoGroup
	}
	hooks := v.log.hooks()
	for _, h := range hooks {
		if h.BeforeCommit == nil {
			continue
		}
		if err := h.BeforeCommit(ctx, v.group, v.part.id, progress); err != nil {
			return err
		}
	}
	if err := v.record(progress); err != nil {
		return err
	}
	for _, h := range hooks {
		if h.AfterCommit == nil {
			continue
		}
		if err := h.AfterCommit(ctx, v.group, v.part.id, progress); err != nil {
			return err
		}
	}
	return nil
}

func (v *view) record(progress bus.Progress) error {
	v.part.mu.Lock()
	defer v.part.mu.Unlock()
	if err := v.log.fault(); err != nil {
		return err
	}
	if progress.Through.Compare(v.part.committed[v.group].Through) >= 0 {
		v.part.committed[v.group] = progress.Clone()
	}
	return nil
}

// End implements bus.Partition.
func (v *view) End(ctx context.Context) (bus.Position, error) {
	if err := v.ask(ctx); err != nil {
		return bus.Position{}, fmt.Errorf("find the end of %s: %w", v.part.id, err)
	}
	v.part.mu.Lock()
	defer v.part.mu.Unlock()
	return v.part.last, nil
}

// Holds reports whether the partition has any record that was not trimmed away.
func (v *view) Holds(ctx context.Context) (bool, error) {
	if err := v.ask(ctx); err != nil {
		return false, fmt.Errorf("find what %s holds: %w", v.part.id, err)
	}
	v.part.mu.Lock()
	defer v.part.mu.Unlock()
	return len(v.part.recs) > 0, nil
}
