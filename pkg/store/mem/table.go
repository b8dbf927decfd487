package mem

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
)

type (
	progressKey struct {
		worker string
		id     bus.PartitionID
	}
	taskKey struct{ worker, task string }
)

// core is what every table has on disk beside its rows.
type core[Row any] struct {
	name string
	put  func(rows []Row) // adds copies of rows; called under mu

	mu          sync.Mutex
	progress    map[progressKey]bus.Progress
	checkpoints map[taskKey][]byte // nil for a table that keeps none
}

func newCore[Row any](name string) core[Row] {
	return core[Row]{name: name, progress: make(map[progressKey]bus.Progress)}
}

// commit writes rows and commit in one step, unless the handle has died meanwhile.
func (c *core[Row]) commit(s *Store, commit *store.Commit, rows []Row) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := s.current(); err != nil {
		return err
	}
	if commit.Checkpoint != nil && c.checkpoints == nil {
		return ErrCheckpoint
	}
	done, err := store.Fence(commit.Spans, func(id bus.PartitionID) (bus.Progress, bool) {
		p, ok := c.progress[progressKey{commit.Worker, id}]
		return p, ok
	})
	if done || err != nil {
		return err
	}
	c.put(rows)
	for _, span := range commit.Spans {
		c.progress[progressKey{commit.Worker, span.Partition}] = span.Through.Clone()
	}
	if commit.Checkpoint != nil {
		c.checkpoints[taskKey{commit.Worker, commit.Task}] = append([]byte{}, commit.Checkpoint...)
	}
	return nil
}

func (c *core[Row]) stored(worker string, id bus.PartitionID) (bus.Progress, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.progress[progressKey{worker, id}]
	return p.Clone(), ok
}

// replace takes the progress and checkpoints of another; c.mu is held.
func (c *core[Row]) replace(o *core[Row]) {
	c.progress, c.checkpoints = maps.Clone(o.progress), maps.Clone(o.checkpoints)
}

// table is a handle's writer of one table.
type table[Row any] struct {
	store *Store
	core  *core[Row]
}

// Write implements store.Writer.
func (t table[Row]) Write(ctx context.Context, commit store.Commit, rows []Row) error {
	if err := t.write(ctx, &commit, rows); err != nil {
		return fmt.Errorf("write %s: %w", t.core.name, err)
	}
	return nil
}

func (t table[Row]) write(ctx context.Context, commit *store.Commit, rows []Row) error {
	c := Call{Table: t.core.name, Op: OpWrite, Worker: commit.Worker, Task: commit.Task, Spans: commit.Spans, Rows: len(rows)}
	if err := t.store.before(ctx, c); err != nil {
		return err
	}
	f, err := t.store.current()
	if err != nil {
		return err
	}
	if err := refused(f, t.core.name, rows); err != nil {
		return err
	}
	if err := t.core.commit(t.store, commit, rows); err != nil {
		return err
	}
	return t.store.after(ctx, c)
}

// Progress implements store.Writer.
func (t table[Row]) Progress(ctx context.Context, worker string, id bus.PartitionID) (bus.Progress, bool, error) {
	if err := t.store.before(ctx, Call{Table: t.core.name, Op: OpProgress, Worker: worker}); err != nil {
		return bus.Progress{}, false, fmt.Errorf("read the progress of %s in %s: %w", worker, t.core.name, err)
	}
	p, ok := t.core.stored(worker, id)
	return p, ok, nil
}

// Checkpoint implements store.Checkpoints.
func (t table[Row]) Checkpoint(ctx context.Context, worker, task string) ([]byte, bool, error) {
	c := Call{Table: t.core.name, Op: OpCheckpoint, Worker: worker, Task: task}
	if err := t.store.before(ctx, c); err != nil {
		return nil, false, fmt.Errorf("read the checkpoint of %s in %s: %w", worker, t.core.name, err)
	}
	t.core.mu.Lock()
	defer t.core.mu.Unlock()
	state, ok := t.core.checkpoints[taskKey{worker, task}]
	return slices.Clone(state), ok, nil
}

// grown is a table that only grows.
type grown[Row any] struct {
	core[Row]
	all []Row
}

func newGrown[Row any](name string, clone func(*Row) Row) *grown[Row] {
	g := &grown[Row]{core: newCore[Row](name)}
	g.put = func(rows []Row) {
		for i := range rows {
			g.all = append(g.all, clone(&rows[i]))
		}
	}
	return g
}

func (g *grown[Row]) rows() []Row {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clip(g.all)
}

// replace takes the content of a copy, which nobody else uses.
func (g *grown[Row]) replace(o *grown[Row]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all = o.rows()
	g.core.replace(&o.core)
}

// keyed is a table of one row a key.
type keyed[K comparable, Row any] struct {
	core[Row]
	all map[K]Row
}

// newKeyed makes a table whose rows are copied by clone; wins says whether a new row takes the place of the old one.
func newKeyed[K comparable, Row any](name string, key func(*Row) K, wins func(next, old *Row) bool, clone func(*Row) Row) *keyed[K, Row] {
	k := &keyed[K, Row]{core: newCore[Row](name), all: make(map[K]Row)}
	k.checkpoints = make(map[taskKey][]byte)
	k.put = func(rows []Row) {
		for i := range rows {
			r := clone(&rows[i])
			at := key(&r)
			if old, ok := k.all[at]; !ok || wins(&r, &old) {
				k.all[at] = r
			}
		}
	}
	return k
}

func (k *keyed[K, Row]) rows() []Row {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Collect(maps.Values(k.all))
}

func (k *keyed[K, Row]) replace(o *keyed[K, Row]) {
	k.mu.Lock()
	defer k.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	k.all = maps.Clone(o.all)
	k.core.replace(&o.core)
}
