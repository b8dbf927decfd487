package elasticsearch

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// condition is a store.Condition whose columns have been found and whose value fits them.
type condition struct {
	columns []column
	op      store.Op
	texts   []string       // Equal, NotEqual, In and Contains of text; of Contains in lower case
	value   any            // Equal and NotEqual of bool and int64
	moment  telemetry.Time // AtLeast and Below
}

func newCondition(w store.Condition, find func(name string) (column, error)) (condition, error) {
	c := condition{op: w.Op}
	if len(w.Columns) == 0 {
		return c, errors.New("a condition without columns")
	}
	for _, name := range w.Columns {
		found, err := find(name)
		if err != nil {
			return c, err
		}
		c.columns = append(c.columns, found)
	}
	kinds, err := c.take(w)
	if err != nil {
		return c, err
	}
	for _, column := range c.columns {
		if !slices.Contains(kinds, column.kind) {
			return c, fmt.Errorf("column %s does not compare to %v (%T)", column.name, w.Value, w.Value)
		}
	}
	return c, nil
}

// take takes the value and returns the kinds of column that compare to it.
func (c *condition) take(w store.Condition) ([]valueKind, error) {
	switch v := w.Value.(type) {
	case string:
		switch w.Op {
		case store.Contains:
			c.texts = []string{strings.ToLower(v)}
			return []valueKind{text}, nil
		case store.Equal, store.NotEqual:
			c.texts = []string{v}
			return []valueKind{text}, nil
		case store.AtLeast, store.Below, store.In:
		}
	case []string:
		if w.Op == store.In && len(v) > 0 {
			c.texts = v
			return []valueKind{text}, nil
		}
	case bool:
		if w.Op == store.Equal || w.Op == store.NotEqual {
			c.value = v
			return []valueKind{truth}, nil
		}
	case int64:
		if w.Op == store.Equal || w.Op == store.NotEqual {
			c.value = v
			return []valueKind{whole}, nil
		}
	case telemetry.Time:
		if w.Op == store.AtLeast || w.Op == store.Below {
			c.moment = v
			return []valueKind{moment}, nil
		}
	}
	return nil, fmt.Errorf("operator %d does not take %v (%T)", w.Op, w.Value, w.Value)
}

// filter returns what finds at least the rows for which the condition holds; nil is all rows.
func (c *condition) filter() any {
	anyOf := make([]any, 0, len(c.columns))
	for i := range c.columns {
		f := c.filterOf(&c.columns[i])
		if f == nil {
			return nil
		}
		anyOf = append(anyOf, f)
	}
	return map[string]any{"bool": map[string]any{"should": anyOf, "minimum_should_match": 1}}
}

func (c *condition) filterOf(of *column) any {
	if of.exact == "" {
		return nil
	}
	switch c.op {
	case store.AtLeast, store.Below:
		return timeFilter(of, c.op, c.moment)
	case store.Contains:
		if c.texts[0] == "" {
			return nil
		}
		return either(of, wildcard(of.exact, c.texts[0]))
	case store.NotEqual:
		if c.value == nil && tooLong(of, c.texts[0]) {
			return nil
		}
		return map[string]any{"bool": map[string]any{"must_not": []any{map[string]any{"terms": map[string]any{of.exact: c.values(of)}}}}}
	case store.Equal, store.In:
	}
	equal := map[string]any{"terms": map[string]any{of.exact: c.values(of)}}
	if slices.ContainsFunc(c.texts, func(s string) bool { return tooLong(of, s) }) {
		return either(of, equal)
	}
	return equal
}

// values returns what a row may have in the index; the engine takes no longer terms in a query than it does in an index.
func (c *condition) values(of *column) []any {
	if c.value != nil {
		return []any{c.value}
	}
	all := make([]any, 0, len(c.texts))
	for _, s := range c.texts {
		if utf8.RuneCountInString(s) <= of.longest {
			all = append(all, s)
		}
	}
	return all
}

// tooLong reports whether a text may be too long for the column's index, by whichever count of characters.
func tooLong(of *column, s string) bool { return utf8.RuneCountInString(s) > of.longest/2 }

// either also finds the rows whose text was too long for the index.
func either(of *column, f any) any {
	return map[string]any{"bool": map[string]any{"minimum_should_match": 1, "should": []any{
		f, map[string]any{"term": map[string]any{"_ignored": of.exact}},
	}}}
}

// timeFilter finds by nanoseconds. Times before 1970 are beyond the engine's index, and are compared here alone.
func timeFilter(of *column, op store.Op, t telemetry.Time) any {
	if t < 0 {
		return nil
	}
	bound := "gte"
	if op == store.Below {
		bound = "lt"
	}
	found := map[string]any{"range": map[string]any{of.exact: map[string]any{bound: json.RawMessage(appendTime(nil, t)), "format": "strict_date_optional_time_nanos"}}}
	if op == store.AtLeast {
		return found
	}
	return either(of, found)
}

// wildcardRunesMax is how much of a searched text the engine is asked for.
const wildcardRunesMax = 200

// wildcard finds texts that contain part, which is in lower case. The engine knows the two cases of ASCII letters only, so whatever
// stands beside those may match anything: the row is looked at again. (A character each, "?", would make the engine's automaton
// grow with two to their number.)
func wildcard(field, part string) any {
	var b strings.Builder
	b.WriteByte('*')
	star, n := true, 0
	for _, r := range part {
		if n++; n > wildcardRunesMax {
			break
		}
		switch {
		case r >= utf8.RuneSelf || r == 'i' || r == 'k': // the latter are also the small letters of U+0130 and U+212A
			if !star {
				b.WriteByte('*')
			}
			star = true
			continue
		case r == '*' || r == '?' || r == '\\':
			b.WriteByte('\\')
		}
		b.WriteRune(r)
		star = false
	}
	if !star {
		b.WriteByte('*')
	}
	return map[string]any{"wildcard": map[string]any{field: map[string]any{"value": b.String(), "case_insensitive": true}}}
}

// holds reports whether a row fulfils all conditions.
func (q *query) holds(source map[string]json.RawMessage) (bool, error) {
	for i := range q.where {
		ok, err := q.where[i].holds(source)
		if !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (c *condition) holds(source map[string]json.RawMessage) (bool, error) {
	for i := range c.columns {
		v, err := c.columns[i].value(source)
		if err != nil {
			return false, err
		}
		if c.compare(v) {
			return true, nil
		}
	}
	return false, nil
}

// compare is false for a null.
func (c *condition) compare(v any) bool {
	switch v := v.(type) {
	case string:
		switch c.op {
		case store.Contains:
			return strings.Contains(strings.ToLower(v), c.texts[0])
		case store.NotEqual:
			return v != c.texts[0]
		case store.Equal, store.In, store.AtLeast, store.Below:
		}
		return slices.Contains(c.texts, v)
	case bool, int64:
		return (v == c.value) == (c.op == store.Equal)
	case time.Time:
		return (telemetry.At(v) >= c.moment) == (c.op == store.AtLeast)
	}
	return false
}
