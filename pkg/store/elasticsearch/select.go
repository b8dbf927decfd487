package elasticsearch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// searchRowsMax is the most rows that one search returns (the engine's index.max_result_window is 10,000).
const searchRowsMax = 1000

// Select implements store.Reader. Conditions are put to the engine as far as its indices can answer them, which may find too
// much but never too little, and each row is compared again here: texts that are too long for an index, letters beyond ASCII
// and columns without an index are exact, only slower.
func (db *DB) Select(ctx context.Context, s store.Selection, each func(row []any) error) error {
	q, err := newQuery(s)
	if err != nil {
		return fmt.Errorf("select %s: %w", s.Table, err)
	}
	if err := db.run(ctx, q, each); err != nil {
		return fmt.Errorf("select %s: %w", s.Table, err)
	}
	return nil
}

// query is a selection whose names have been found.
type query struct {
	store.Selection
	out   []column // Columns, then Order
	order []column
	where []condition
	body  map[string]any
}

// indices returns the pattern of a table's indices.
func (db *DB) indices(table string) string {
	switch table {
	case store.TableDevices, store.TableState:
		return db.name(table)
	}
	return db.name(table) + "-*"
}

func newQuery(s store.Selection) (*query, error) {
	columns := columnsOf(s.Table)
	if columns == nil {
		return nil, errors.New("there is no such table")
	}
	find := func(name string) (column, error) {
		at := slices.IndexFunc(columns, func(c column) bool { return c.name == name })
		if at < 0 {
			return column{}, fmt.Errorf("there is no column %q", name)
		}
		return columns[at], nil
	}
	if s.Limit < 1 {
		return nil, fmt.Errorf("limit %d, want at least 1", s.Limit)
	}
	q := &query{Selection: s}
	for _, name := range append(slices.Clone(s.Columns), s.Order...) {
		c, err := find(name)
		if err != nil {
			return nil, err
		}
		q.out = append(q.out, c)
	}
	q.order = q.out[len(s.Columns):]
	for _, w := range s.Where {
		c, err := newCondition(w, find)
		if err != nil {
			return nil, err
		}
		q.where = append(q.where, c)
	}
	return q, q.build()
}

// build makes the body of the search.
func (q *query) build() error {
	filters := []any{}
	for _, c := range q.where {
		if f := c.filter(); f != nil {
			filters = append(filters, f)
		}
	}
	direction := "asc"
	if q.Descending {
		direction = "desc"
	}
	sort := []any{}
	for _, c := range q.order {
		if c.exact == "" || c.kind == truth || c.kind == number {
			return fmt.Errorf("column %s cannot sort rows", c.name)
		}
		unmapped := map[valueKind]string{text: "keyword", whole: "long", moment: "date_nanos"}[c.kind]
		sort = append(sort, map[string]any{c.exact: map[string]any{"order": direction, "missing": "_last", "unmapped_type": unmapped}})
	}
	fields := []string{}
	add := func(c column) {
		if !slices.Contains(fields, c.field) {
			fields = append(fields, c.field)
		}
	}
	for _, c := range q.out {
		add(c)
	}
	for _, w := range q.where {
		for _, c := range w.columns {
			add(c)
		}
	}
	q.body = map[string]any{
		"query": map[string]any{"bool": map[string]any{"filter": filters}}, "sort": sort, "_source": fields, "track_total_hits": false,
	}
	if q.After == nil {
		return nil
	}
	if len(q.After) != len(q.order) {
		return fmt.Errorf("after %d values, want one for each of the %d columns of the order", len(q.After), len(q.order))
	}
	after := make([]any, len(q.After))
	for i, v := range q.After {
		var err error
		if after[i], err = q.afterValue(&q.order[i], v); err != nil {
			return err
		}
	}
	q.body["search_after"] = after
	return nil
}

// afterValue returns a value of the order as a search takes it. A null sorts last, for which numbers have a number of the
// engine's own.
func (q *query) afterValue(c *column, v any) (any, error) {
	switch v := v.(type) {
	case nil:
		switch {
		case c.kind == text:
			return nil, nil //nolint:nilnil // a null of JSON
		case !q.Descending:
			return json.Number(maxInt64Text), nil
		case c.kind == moment:
			return json.Number("0"), nil
		}
		return json.Number(minInt64Text), nil
	case string:
		if c.kind == text {
			return v, nil
		}
	case int64:
		if c.kind == whole {
			return v, nil
		}
	case telemetry.Time:
		if c.kind == moment {
			return int64(v), nil
		}
	case time.Time:
		if c.kind == moment {
			return v.UnixNano(), nil
		}
	}
	return nil, fmt.Errorf("after %v (%T), which is no value of column %s", v, v, c.name)
}

// hit is a document that a search found.
type hit struct {
	Source map[string]json.RawMessage `json:"_source"`
	Sort   []json.RawMessage          `json:"sort"`
}

// run searches page after page until the limit is reached.
func (db *DB) run(ctx context.Context, q *query, each func(row []any) error) error {
	row := make([]any, len(q.out))
	for found := 0; ; {
		size := min(q.Limit-found, searchRowsMax)
		if len(q.where) > 0 {
			size = min(max(4*size, 50), searchRowsMax) // some may not hold when looked at
		}
		q.body["size"] = size
		var answer struct {
			Hits struct {
				Hits []hit `json:"hits"`
			} `json:"hits"`
		}
		err := db.client.call(ctx, http.MethodPost, "/"+db.indices(q.Table)+"/_search?ignore_unavailable=true&allow_no_indices=true"+
			"&allow_partial_search_results=false&filter_path=hits.hits._source,hits.hits.sort", q.body, &answer)
		if err != nil {
			return err
		}
		for i := range answer.Hits.Hits {
			h := &answer.Hits.Hits[i]
			ok, err := q.holds(h.Source)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			if err := q.read(row, h.Source); err != nil {
				return err
			}
			if err := each(row); err != nil {
				return err
			}
			if found++; found == q.Limit {
				return nil
			}
		}
		if len(answer.Hits.Hits) < size {
			return nil
		}
		q.body["search_after"] = answer.Hits.Hits[len(answer.Hits.Hits)-1].Sort
	}
}

func (q *query) read(row []any, source map[string]json.RawMessage) error {
	for i := range q.out {
		var err error
		if row[i], err = q.out[i].value(source); err != nil {
			return err
		}
	}
	return nil
}

// value returns what a document has of a column: nil, string, bool, int64, float64 or time.Time.
func (c *column) value(source map[string]json.RawMessage) (any, error) {
	raw, ok := source[c.field]
	if !ok || string(raw) == "null" {
		if c.kind == text && !c.nullable {
			return "", nil
		}
		return nil, nil //nolint:nilnil // a null of SQL
	}
	var err error
	switch c.kind {
	case text:
		var s string
		if err = json.Unmarshal(raw, &s); err == nil {
			return s, nil
		}
	case whole:
		var n int64
		if n, err = strconv.ParseInt(string(raw), 10, 64); err == nil {
			return n, nil
		}
	case number:
		var f float64
		if f, err = strconv.ParseFloat(string(raw), 64); err == nil {
			return f, nil
		}
	case truth:
		return string(raw) == "true", nil
	case moment:
		var t wireTime
		if err = t.UnmarshalJSON(raw); err == nil {
			return telemetry.Time(t).Std(), nil
		}
	}
	return nil, fmt.Errorf("column %s: %w", c.name, err)
}
