package storetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/millrace/millrace/pkg/store"
)

// selectOnly hides that a reader may count by itself.
type selectOnly struct{ r store.Reader }

func (s selectOnly) Select(ctx context.Context, q store.Selection, each func(row []any) error) error {
	return s.r.Select(ctx, q, each)
}

// selectCounts holds store.Count to the rows that are there, by the engine's own counting and by reading them.
func selectCounts(t *testing.T, s SelectStore, ref reference) {
	t.Helper()
	for _, table := range []string{store.TableMessages, store.TableLogs, store.TableDeadLetters} {
		if ref[table] == nil {
			continue
		}
		q := store.CountQuery{Table: table, Partitions: table != store.TableDeadLetters, Order: []string{"event_time", "origin_partition", "origin_position"}}
		if !q.Partitions {
			q.Order = []string{"received_at", store.RowID}
		}
		t.Run(table+": counts by device are those of the rows", func(t *testing.T) {
			devices := []any{""}
			for _, r := range ref[table] {
				devices = append(devices, r["device_id"])
			}
			for _, device := range devices {
				q.Where = nil
				if device != "" {
					q.Where = []store.Condition{{Columns: []string{"device_id"}, Op: store.Equal, Value: device}}
				}
				want := map[string]int64{}
				for _, r := range ref[table] {
					if !holds(r, q.Where) {
						continue
					}
					partition := any(-1)
					if q.Partitions {
						partition = r["origin_partition"]
					}
					want[fmt.Sprint(r["tenant"], "/", r["device_id"], "/", partition)]++
				}
				for name, reader := range map[string]store.Reader{"the engine's own": s.Reader, "by reading": selectOnly{s.Reader}} {
					got := map[string]int64{}
					err := store.Count(t.Context(), reader, q, func(c store.DeviceCount) error {
						got[fmt.Sprint(c.Tenant, "/", c.DeviceID, "/", c.Partition)] += c.Rows
						return nil
					})
					if err != nil || !maps.Equal(got, want) {
						t.Errorf("%s: %v (%v), want %v: %v", name, got, err, want, slices.Sorted(maps.Keys(want)))
					}
				}
			}
		})
	}
}
