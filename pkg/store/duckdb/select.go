package duckdb

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// Select implements store.Reader, over one state of the tables and of history. Only ctx bounds it.
func (db *DB) Select(ctx context.Context, s store.Selection, each func(row []any) error) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if !slices.Contains(selectTables(), s.Table) {
		return fmt.Errorf("select: there is no table %.100q", s.Table)
	}
	q := &selectQuery{}
	q.build(&s)
	result, err := db.Rows(ctx, q.text.String(), q.args...)
	if err != nil {
		return fmt.Errorf("select from %s: %w", s.Table, err)
	}
	defer result.Close() //nolint:contextcheck // it gives its connection back also when ctx has ended
	for row, err := range result.Rows() {
		if err != nil {
			return fmt.Errorf("select from %s: %w", s.Table, err)
		}
		if err := each(row); err != nil {
			return err
		}
	}
	return nil
}

func selectTables() []string {
	return []string{
		store.TableDevices, store.TableState, store.TableMessages, store.TableAggregates, store.TableAlarms, store.TableLogs, store.TableDeadLetters,
	}
}

// selectQuery is the statement of a selection. Names have been looked at by Validate; what comes from outside is an argument.
type selectQuery struct {
	text strings.Builder
	args []any
}

func (q *selectQuery) write(parts ...string) {
	for _, p := range parts {
		q.text.WriteString(p)
	}
}

func (q *selectQuery) build(s *store.Selection) {
	names := make([]string, 0, len(s.Columns)+len(s.Order))
	for _, c := range slices.Concat(s.Columns, s.Order) {
		names = append(names, columnName(c))
	}
	q.write("SELECT ", strings.Join(names, ", "), " FROM ", columnName(s.Table), " WHERE true")
	for _, c := range s.Where {
		q.condition(c)
	}
	order := names[len(s.Columns):]
	sign, direction := ">", " NULLS LAST"
	if s.Descending {
		sign, direction = "<", " DESC NULLS LAST"
	}
	if s.After != nil {
		marks := make([]string, len(s.After))
		for i, v := range s.After {
			marks[i] = q.mark(v)
		}
		q.write(" AND (", strings.Join(order, ", "), ") ", sign, " (", strings.Join(marks, ", "), ")")
		if _, ok := s.After[0].(telemetry.Time); ok { // said once more, so that files and row groups can be passed over
			q.write(" AND ", order[0], " ", sign, "= ", q.mark(s.After[0]))
		}
	}
	q.write(" ORDER BY ", strings.Join(order, direction+", "), direction, fmt.Sprintf(" LIMIT %d", s.Limit))
}

// columnName quotes a name; several of ours are words of SQL.
func columnName(name string) string {
	if name == store.RowID {
		return "rowid"
	}
	return `"` + name + `"`
}

// mark takes v as an argument and returns what stands for it.
func (q *selectQuery) mark(v any) string {
	if t, ok := v.(telemetry.Time); ok {
		q.args = append(q.args, int64(t))
		return "make_timestamp_ns(?)"
	}
	q.args = append(q.args, v)
	return "?"
}

func (q *selectQuery) condition(c store.Condition) {
	or := " AND ("
	for _, name := range c.Columns {
		q.write(or)
		or = " OR "
		q.comparison(columnName(name), c)
	}
	q.write(")")
}

func (q *selectQuery) comparison(column string, c store.Condition) {
	switch c.Op {
	case store.Equal:
		q.write(column, " = ", q.mark(c.Value))
	case store.NotEqual:
		q.write(column, " <> ", q.mark(c.Value))
	case store.AtLeast:
		q.write(column, " >= ", q.mark(c.Value))
	case store.Below:
		q.write(column, " < ", q.mark(c.Value))
	case store.In:
		values, _ := c.Value.([]string) // Validate has looked
		marks := make([]string, len(values))
		for i, v := range values {
			marks[i] = q.mark(v)
		}
		q.write(column, " IN (", strings.Join(marks, ", "), ")")
	case store.Contains:
		q.write("contains(lower(", column, "), lower(", q.mark(c.Value), "))")
	}
}
