package storetest

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// reference answers a selection from rows in memory, as the comments of Selection and Condition say: what a Reader's answers are
// compared with.
type reference map[string][]record

// page returns the rows of a page, each the values of Columns and then those of Order, as text.
func (ref reference) page(s store.Selection) []string {
	var found []record
	for _, r := range ref[s.Table] {
		if holds(r, s.Where) && (s.After == nil || compareKeys(keysOf(r, s.Order), s.After, s.Descending) > 0) {
			found = append(found, r)
		}
	}
	slices.SortStableFunc(found, func(a, b record) int { return compareKeys(keysOf(a, s.Order), keysOf(b, s.Order), s.Descending) })
	found = found[:min(len(found), s.Limit)]
	var rows []string
	for _, r := range found {
		var values []any
		for _, c := range append(slices.Clone(s.Columns), s.Order...) {
			values = append(values, r[c])
		}
		rows = append(rows, rowText(values))
	}
	return rows
}

func keysOf(r record, order []string) []any {
	keys := make([]any, len(order))
	for i, c := range order {
		keys[i] = r[c]
	}
	return keys
}

// compareKeys says whether a comes before b (below 0); null is last in both directions.
func compareKeys(a, b []any, descending bool) int {
	for i := range a {
		switch {
		case a[i] == nil && b[i] == nil:
			continue
		case a[i] == nil:
			return 1
		case b[i] == nil:
			return -1
		}
		c := compareValues(a[i], b[i])
		if descending {
			c = -c
		}
		if c != 0 {
			return c
		}
	}
	return 0
}

func compareValues(a, b any) int {
	switch a := a.(type) {
	case string:
		return strings.Compare(a, valueAs[string](b))
	case int64:
		return cmp.Compare(a, valueAs[int64](b))
	case float64:
		return cmp.Compare(a, valueAs[float64](b))
	case telemetry.Time:
		return cmp.Compare(a, valueAs[telemetry.Time](b))
	case bool:
		return cmp.Compare(strconv.FormatBool(a), strconv.FormatBool(valueAs[bool](b)))
	}
	panic(fmt.Sprintf("%T in the suite's own rows", a))
}

func valueAs[T any](v any) T { //nolint:ireturn // a type parameter
	t, ok := v.(T)
	if !ok {
		panic(fmt.Sprintf("%T where the suite wants another type", v))
	}
	return t
}

func holds(r record, where []store.Condition) bool {
	for _, c := range where {
		if !slices.ContainsFunc(c.Columns, func(column string) bool { return compares(r[column], c.Op, c.Value) }) {
			return false
		}
	}
	return true
}

// compares is false for a null, whatever the operator.
func compares(v any, op store.Op, want any) bool {
	if v == nil {
		return false
	}
	switch op {
	case store.Equal:
		return v == want
	case store.NotEqual:
		return v != want
	case store.AtLeast:
		return compareValues(v, want) >= 0
	case store.Below:
		return compareValues(v, want) < 0
	case store.In:
		return slices.Contains(valueAs[[]string](want), valueAs[string](v))
	case store.Contains:
		return strings.Contains(strings.ToLower(valueAs[string](v)), strings.ToLower(valueAs[string](want)))
	}
	panic("an operator that the suite does not know")
}

// rowText writes values so that a Reader's and the reference's compare: numbers alike whatever their type, times in nanoseconds.
func rowText(values []any) string {
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = valueText(v)
	}
	return strings.Join(parts, " | ")
}

func valueText(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return strconv.Quote(v)
	case bool:
		return strconv.FormatBool(v)
	case telemetry.Time:
		return v.Std().Format(time.RFC3339Nano)
	case time.Time:
		if v.Location() != time.UTC {
			return "not in UTC: " + v.String()
		}
		return v.Format(time.RFC3339Nano)
	case float32:
		return strconv.FormatFloat(float64(v), 'g', -1, 32)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64:
		return fmt.Sprint(v)
	}
	return fmt.Sprintf("a %T, which is no value of a Reader", v)
}

// pageOf returns a page of a Reader as text, and what the page after it begins after.
func pageOf(t *testing.T, r store.Reader, s store.Selection) (rows []string, last []any) {
	t.Helper()
	err := r.Select(t.Context(), s, func(row []any) error {
		if len(row) != len(s.Columns)+len(s.Order) {
			t.Errorf("a row of %d values, want %d and %d", len(row), len(s.Columns), len(s.Order))
			return nil
		}
		rows = append(rows, rowText(row))
		last = store.AfterOf(row[len(s.Columns):])
		return nil
	})
	if err != nil {
		t.Errorf("select %+v: %v", s, err)
	}
	return rows, last
}

func wantPage(t *testing.T, r store.Reader, ref reference, s store.Selection) {
	t.Helper()
	got, _ := pageOf(t, r, s)
	want := ref.page(s)
	if slices.Equal(got, want) {
		return
	}
	t.Errorf("select %+v: %d rows, want %d", s, len(got), len(want))
	for i := range max(len(got), len(want)) {
		g, w := "nothing", "nothing"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("row %d is\n     %s\nwant %s", i, g, w)
			return
		}
	}
}
