package move

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
)

// Worker is the name under which the target's stores keep how far the move has come.
const Worker = "move"

// Limits of one write. They may never change: a write that was cut off is repeated, and must be the same.
const (
	batchRows  = 20_000
	batchBytes = 32 << 20
)

// partition is where the positions of a table's rows are counted.
func partition(table string) bus.PartitionID { return bus.PartitionID{Topic: "embedded-" + table} }

// table is one table on its way.
type table[Row any] struct {
	name   string
	chunks []chunk
	read   reading[Row]
	weigh  func(r *Row) int // bytes of its texts, roughly
}

func total(chunks []chunk) (units uint64) {
	for _, c := range chunks {
		units += c.units
	}
	return units
}

// copyTable writes what w does not have of t yet.
func copyTable[Row any](ctx context.Context, r *runner, t table[Row], w store.Writer[Row]) error {
	c := copying[Row]{runner: r, table: t, to: w}
	if err := c.run(ctx); err != nil {
		return fmt.Errorf("move %s: row %d of %d: %w", t.name, c.at, total(t.chunks), err)
	}
	return nil
}

// copying is the state of one table's copy.
type copying[Row any] struct {
	*runner
	table table[Row]
	to    store.Writer[Row]

	at    uint64 // units that the target has
	read  uint64 // units that were read, or passed over
	batch []Row
	bytes int
}

func (c *copying[Row]) run(ctx context.Context) error {
	all := total(c.table.chunks)
	var progress bus.Progress
	err := c.retry(ctx, c.table.name, func() (err error) {
		progress, _, err = c.to.Progress(ctx, Worker, partition(c.table.name))
		return err
	})
	if err != nil {
		return err
	}
	if c.at = progress.Through.Seq; c.at > all {
		return errors.New("the target has more than that from an earlier move: of another instance, or the instance has lost rows since")
	}
	c.began(c.table.name, c.at, all)
	label := ""
	for _, chunk := range c.table.chunks {
		if c.read+chunk.units <= c.at { // the target has all of it
			c.read += chunk.units
			continue
		}
		if chunk.label != label {
			if err := c.write(ctx); err != nil {
				return err
			}
			label = chunk.label
		}
		if err := c.readChunk(ctx, chunk); err != nil {
			return err
		}
	}
	if err := c.write(ctx); err != nil {
		return err
	}
	if c.read != all {
		return fmt.Errorf("%d rows were read where %d were counted: somebody writes to the source", c.read, all)
	}
	if b, ok := c.to.(store.Buffered); ok {
		return c.retry(ctx, c.table.name, func() error { return b.Flush(ctx) })
	}
	return nil
}

func (c *copying[Row]) readChunk(ctx context.Context, chunk chunk) error {
	before := c.read
	for unit, err := range c.table.read(ctx, chunk) {
		if err != nil {
			return err
		}
		c.read++
		if c.read <= c.at {
			continue
		}
		for i := range unit {
			c.bytes += c.table.weigh(&unit[i])
		}
		c.batch = append(c.batch, unit...)
		if len(c.batch) >= batchRows || c.bytes >= batchBytes {
			if err := c.write(ctx); err != nil {
				return err
			}
		}
	}
	if c.read-before != chunk.units {
		return fmt.Errorf("%s %s: %d rows where %d were counted: somebody writes to the source", chunk.label, chunk.path, c.read-before, chunk.units)
	}
	return nil
}

func (c *copying[Row]) write(ctx context.Context) error {
	if len(c.batch) == 0 {
		return nil
	}
	span := store.Span{Partition: partition(c.table.name), After: bus.Position{Seq: c.at}, Through: bus.Progress{Through: bus.Position{Seq: c.read}}}
	commit := store.Commit{Worker: Worker, Spans: []store.Span{span}}
	err := c.retry(ctx, c.table.name, func() error { return c.to.Write(ctx, commit, c.batch) })
	if errors.Is(err, store.ErrFenced) {
		return fmt.Errorf("another move into the same target is under way, or was since this one began: %w", err)
	}
	if refused, ok := errors.AsType[*store.Refused](err); ok {
		return fmt.Errorf("the target can never take row %+v: %w", c.batch[refused.Rows[0]], refused)
	}
	if err != nil {
		return err
	}
	c.at = c.read
	clear(c.batch)
	c.batch, c.bytes = c.batch[:0], 0
	c.reached(c.at)
	return nil
}

// retryFor is how long a store may be away before the move ends; begun again it goes on.
const retryFor = 5 * time.Minute

// retry does what a store may refuse for a while.
func (r *runner) retry(ctx context.Context, table string, do func() error) error {
	policy := backoff.WithContext(backoff.NewExponentialBackOff(backoff.WithMaxElapsedTime(retryFor), backoff.WithMaxInterval(10*time.Second)), ctx)
	return backoff.RetryNotify(func() error {
		err := do()
		_, refused := errors.AsType[*store.Refused](err)
		if refused || errors.Is(err, store.ErrFenced) {
			return backoff.Permanent(err)
		}
		return err
	}, policy, func(err error, wait time.Duration) {
		r.log.Warn("the target does not answer as it should, trying again", "table", table, "error", err, "in", wait.Round(time.Millisecond))
	})
}
