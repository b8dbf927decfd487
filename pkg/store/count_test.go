package store_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// numbered is a table of so many rows, which gives its texts in memory that it uses again.
type numbered int

func (n numbered) Select(_ context.Context, s store.Selection, each func(row []any) error) error {
	if err := s.Validate(); err != nil {
		return err
	}
	first := 0
	if s.After != nil {
		last := int(s.After[0].(telemetry.Time))
		if want := fmt.Sprintf("%08d", last); s.After[1] != want || s.After[2] != int64(last) || s.After[3] != float64(last) {
			return fmt.Errorf("a page begins after %v, want after row %d", s.After, last)
		}
		first = last + 1
	}
	text := make([]byte, 0, 8)
	defer func() { clear(text[:cap(text)]) }()
	for i := first; i < min(int(n), first+s.Limit); i++ {
		text = fmt.Appendf(text[:0], "%08d", i)
		name := unsafe.String(&text[0], len(text))
		if err := each([]any{int32(i), time.Unix(0, int64(i)), name, uint32(i), float32(i)}); err != nil {
			return err
		}
	}
	return nil
}

func TestAllRowsOfASelectionComeOnceWhateverTheirNumber(t *testing.T) {
	for _, rows := range []int{0, 1, 9_999, 10_000, 10_001, 25_000} {
		next := 0
		s := store.Selection{Table: store.TableLogs, Columns: []string{"number"}, Order: []string{"at", "name", "unsigned", "number"}}
		err := store.SelectAll(t.Context(), numbered(rows), s, func(row []any) error {
			if n, ok := store.Whole(row[0]); !ok || n != int64(next) {
				return fmt.Errorf("row %v, want row %d", row, next)
			}
			next++
			return nil
		})
		if err != nil || next != rows {
			t.Errorf("%d rows (%v), want %d", next, err, rows)
		}
	}
}

func TestACountThatIsNoNumberIsAnError(t *testing.T) {
	q := store.CountQuery{Table: store.TableLogs, Partitions: true}
	for _, bad := range [][]any{{"t", "d", int32(1), "many"}, {"t", 7, int32(1), int64(1)}, {"t", "d", nil, int64(1)}} {
		if d, err := q.Counted(bad); err == nil {
			t.Errorf("%v is read as %+v", bad, d)
		}
	}
	want := store.DeviceCount{Tenant: "t", DeviceID: "d", Partition: 1, Rows: 5}
	if d, err := q.Counted([]any{"t", "d", int32(1), uint64(5)}); err != nil || d != want {
		t.Errorf("%+v, %v, want %+v", d, err, want)
	}
	if !slices.Equal(q.Columns(), []string{"tenant", "device_id", "origin_partition"}) {
		t.Error(q.Columns())
	}
}
