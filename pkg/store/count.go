package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/telemetry"
)

// DeviceCount is how many rows of a table one device has from one partition of the topic ingested.
type DeviceCount struct {
	Tenant, DeviceID string
	Partition        int32 // -1 in a table that does not say
	Rows             int64
}

// CountQuery says which rows are counted.
type CountQuery struct {
	Table string // with the columns tenant and device_id
	// Partitions says that the table has the column origin_partition, by which rows are told apart too.
	Partitions bool
	Where      []Condition // all of them hold
	// Order is for an engine that cannot count by itself, and gives all rows away for it: see Selection.
	Order []string
}

// Validate reports what no engine takes; see Selection.Validate.
func (q *CountQuery) Validate() error {
	s := Selection{Table: q.Table, Columns: q.Columns(), Where: q.Where, Order: q.Order, Limit: 1}
	return s.Validate()
}

// Columns returns those by which rows are told apart, in the order in which Counted reads them.
func (q *CountQuery) Columns() []string {
	if q.Partitions {
		return []string{"tenant", "device_id", "origin_partition"}
	}
	return []string{"tenant", "device_id"}
}

// Counter is a Reader that counts by itself.
type Counter interface {
	// Count calls each with the count of every device and partition that has rows, in any order.
	Count(ctx context.Context, q CountQuery, each func(DeviceCount) error) error
}

// Count asks r, which need not be a Counter: one that is none is asked for all rows, page by page.
func Count(ctx context.Context, r Reader, q CountQuery, each func(DeviceCount) error) error {
	if c, ok := r.(Counter); ok {
		if err := c.Count(ctx, q, each); !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	counts := map[DeviceCount]int64{}
	err := SelectAll(ctx, r, Selection{Table: q.Table, Columns: q.Columns(), Where: q.Where, Order: q.Order}, func(row []any) error {
		d, err := q.device(row)
		counts[d]++
		return err
	})
	if err != nil {
		return err
	}
	for d, n := range counts {
		d.Rows = n
		if err := each(d); err != nil {
			return err
		}
	}
	return nil
}

// Counted reads the values of Columns and, behind them, the number of rows. The texts are copies.
func (q *CountQuery) Counted(row []any) (DeviceCount, error) {
	d, err := q.device(row)
	if err != nil {
		return d, err
	}
	n, ok := Whole(row[len(row)-1])
	if !ok {
		return d, fmt.Errorf("the number of rows is %T, want a number", row[len(row)-1])
	}
	d.Rows = n
	return d, nil
}

func (q *CountQuery) device(row []any) (DeviceCount, error) {
	d := DeviceCount{Partition: -1}
	var texts [2]string
	for i := range texts {
		text, ok := row[i].(string)
		if !ok {
			return d, fmt.Errorf("column %d of a count is %T, want a text", i, row[i])
		}
		texts[i] = strings.Clone(text)
	}
	d.Tenant, d.DeviceID = texts[0], texts[1]
	if q.Partitions {
		n, ok := Whole(row[2])
		if !ok {
			return d, fmt.Errorf("origin_partition is %T, want a number", row[2])
		}
		d.Partition = int32(n) //nolint:gosec // partitions are few
	}
	return d, nil
}

// Whole returns an integer of whatever type an engine has given it.
func Whole(v any) (int64, bool) {
	switch n := v.(type) {
	case int64:
		return n, true
	case int32:
		return int64(n), true
	case int:
		return int64(n), true
	case uint64:
		return int64(n), true //nolint:gosec // counts and positions are far below 2^63
	case uint32:
		return int64(n), true
	case int16:
		return int64(n), true
	case int8:
		return int64(n), true
	case uint16:
		return int64(n), true
	case uint8:
		return int64(n), true
	case float64:
		return int64(n), n == float64(int64(n))
	default:
		return 0, false
	}
}

// pageRows is how many rows SelectAll asks for at a time.
const pageRows = 10_000

// SelectAll calls each with every row of a selection, whose Limit and After are set here: page by page. Rows hold until each returns.
func SelectAll(ctx context.Context, r Reader, s Selection, each func(row []any) error) error {
	for s.Limit, s.After = pageRows, nil; ; {
		rows := 0
		var last []any
		err := r.Select(ctx, s, func(row []any) error {
			if rows++; rows == s.Limit {
				last = AfterOf(row[len(s.Columns):])
			}
			return each(row)
		})
		if err != nil || last == nil {
			return err
		}
		s.After = last
	}
}

// AfterOf returns the values of Order in a row as Selection.After takes them. They hold for good.
func AfterOf(values []any) []any {
	after := make([]any, len(values))
	for i, v := range values {
		switch v := v.(type) {
		case time.Time:
			after[i] = telemetry.At(v)
		case string:
			after[i] = strings.Clone(v)
		case float64:
			after[i] = v
		case float32:
			after[i] = float64(v)
		default:
			after[i] = v
			if n, ok := Whole(v); ok {
				after[i] = n
			}
		}
	}
	return after
}
