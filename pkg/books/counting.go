package books

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
)

// window returns the conditions that rows of a device, "" for all, are asked for by in a table whose column of time is column.
func (r *run) window(column, device string) []store.Condition {
	where := []store.Condition{
		{Columns: []string{column}, Op: store.AtLeast, Value: r.from()}, {Columns: []string{column}, Op: store.Below, Value: r.to()},
	}
	if device != "" {
		where = append(where, store.Condition{Columns: []string{"device_id"}, Op: store.Equal, Value: device})
	}
	return where
}

func rowOrder() []string { return []string{"event_time", "origin_partition", "origin_position"} }

// countStores asks every store how many rows it has of each device.
func (r *run) countStores(ctx context.Context) error {
	for i, s := range r.Stores {
		q := store.CountQuery{Table: s.Table, Partitions: true, Where: r.window("ingest_time", r.q.Device), Order: rowOrder()}
		err := store.Count(ctx, s.Reader, q, func(c store.DeviceCount) error {
			d, err := r.of(c.Tenant, c.DeviceID, c.Partition)
			if err == nil {
				d.stores[i].rows += c.Rows
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("count %s: %w", s.Table, err)
		}
	}
	return nil
}

// countLetters asks how many dead letters of edges and routers there are. Those of the other workers are looked at where rows are
// missing.
func (r *run) countLetters(ctx context.Context) error {
	if r.Letters == nil {
		return nil
	}
	where := append(r.window("received_at", r.q.Device), store.Condition{Columns: []string{"worker"}, Op: store.In, Value: []string{WorkerEdge, WorkerRouter}})
	q := store.CountQuery{Table: store.TableDeadLetters, Where: where, Order: []string{"received_at", store.RowID}}
	err := store.Count(ctx, r.Letters, q, func(c store.DeviceCount) error {
		n := bus.PartitionOf(c.Tenant, c.DeviceID, max(1, r.Log.Partitions(bus.Ingested)))
		d, err := r.of(c.Tenant, c.DeviceID, int32(n)) //nolint:gosec // partitions are few
		if err == nil {
			d.lettersStored += uint64(max(c.Rows, 0))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("count %s: %w", store.TableDeadLetters, err)
	}
	return nil
}
