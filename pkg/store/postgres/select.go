package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// columnKind is what a column of alarms holds.
type columnKind uint8

const (
	textColumn   columnKind = iota + 1
	timeColumn              // kept as nanoseconds in a column of its own
	jsonColumn              // kept as text in a column of its own, and given so
	numberColumn            // a bigint
)

func alarmColumn(name string) (columnKind, error) {
	switch name {
	case "alarm_id", "tenant", "rule", "device_id", "channel_key", "severity", "state", "value", "previous_value":
		return textColumn, nil
	case "raised_at", "acked_at", "cleared_at":
		return timeColumn, nil
	case "detail":
		return jsonColumn, nil
	case "revision":
		return numberColumn, nil
	}
	return 0, fmt.Errorf("%s has no column %.80q", store.TableAlarms, name)
}

// expression returns a column as it is compared and read.
func expression(name string) (string, columnKind, error) {
	kind, err := alarmColumn(name)
	switch kind {
	case timeColumn:
		name += "_ns"
	case jsonColumn:
		name += "_text"
	case textColumn, numberColumn:
	}
	return name, kind, err
}

// Select implements store.Reader, for the table alarms.
func (db *DB) Select(ctx context.Context, s store.Selection, each func(row []any) error) error {
	if err := s.Validate(); err != nil {
		return err
	}
	statement, kinds, args, err := db.statement(s)
	if err != nil {
		return fmt.Errorf("select from %s: %w", s.Table, err)
	}
	ctx, cancel := db.bounded(ctx)
	defer cancel()
	rows, err := db.pool.Query(ctx, statement, args...)
	if err != nil {
		return fmt.Errorf("select from %s: %w", s.Table, err)
	}
	defer rows.Close()
	row := make([]any, len(kinds))
	for rows.Next() {
		if err := scan(rows, kinds, row); err != nil {
			return fmt.Errorf("select from %s: %w", s.Table, err)
		}
		if err := each(row); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("select from %s: %w", s.Table, err)
	}
	return nil
}

func scan(rows pgx.Rows, kinds []columnKind, row []any) error {
	values, err := rows.Values()
	if err != nil {
		return err
	}
	for i, v := range values {
		row[i] = v
		if ns, ok := v.(int64); ok && kinds[i] == timeColumn {
			row[i] = telemetry.Time(ns).Std()
		}
	}
	return nil
}

// query is a statement under construction. All its text is ours; what comes from outside is only ever an argument.
type query struct {
	args   []any
	folded string
}

// arg adds an argument and returns its mark, as the type of a column.
func (q *query) arg(v any, kind columnKind) string {
	if t, ok := v.(telemetry.Time); ok {
		v = int64(t)
	}
	switch text := v.(type) { // as it was written
	case string:
		v = cleanText(text)
	case []string:
		clean := make([]string, len(text))
		for i := range text {
			clean[i] = cleanText(text[i])
		}
		v = clean
	}
	q.args = append(q.args, v)
	cast := "text"
	if kind == timeColumn || kind == numberColumn {
		cast = "bigint"
	}
	return fmt.Sprintf("$%d::%s", len(q.args), cast)
}

func (db *DB) statement(s store.Selection) (statement string, kinds []columnKind, args []any, err error) {
	if s.Table != store.TableAlarms {
		return "", nil, nil, errors.New("this store has only alarms")
	}
	q := &query{folded: db.folded}
	var columns, order []string
	for i, name := range slices.Concat(s.Columns, s.Order) {
		e, kind, err := expression(name)
		if err != nil {
			return "", nil, nil, err
		}
		columns, kinds = append(columns, e), append(kinds, kind)
		if i < len(s.Columns) {
			continue
		}
		if s.Descending {
			e += " DESC"
		}
		order = append(order, e+" NULLS LAST")
	}
	var where []string
	for _, c := range s.Where {
		condition, err := q.condition(c)
		if err != nil {
			return "", nil, nil, err
		}
		where = append(where, condition)
	}
	if s.After != nil {
		condition, err := q.after(s)
		if err != nil {
			return "", nil, nil, err
		}
		where = append(where, condition)
	}
	statement = "SELECT " + strings.Join(columns, ", ") + " FROM " + db.schema + ".alarms"
	if len(where) > 0 {
		statement += " WHERE " + strings.Join(where, " AND ")
	}
	statement += " ORDER BY " + strings.Join(order, ", ") + fmt.Sprintf(" LIMIT %d", s.Limit)
	return statement, kinds, q.args, nil
}

// condition returns what holds where any of c's columns compares as it says.
func (q *query) condition(c store.Condition) (string, error) {
	var either []string
	for _, name := range c.Columns {
		e, kind, err := expression(name)
		if err != nil {
			return "", err
		}
		switch c.Op {
		case store.Equal:
			either = append(either, e+" = "+q.arg(c.Value, kind))
		case store.NotEqual:
			either = append(either, e+" <> "+q.arg(c.Value, kind))
		case store.AtLeast:
			either = append(either, e+" >= "+q.arg(c.Value, kind))
		case store.Below:
			either = append(either, e+" < "+q.arg(c.Value, kind))
		case store.In:
			either = append(either, e+" = ANY("+q.arg(c.Value, kind)+"[])")
		case store.Contains:
			either = append(either, fmt.Sprintf("strpos(lower(%s COLLATE %s), lower(%s COLLATE %s)) > 0", e, q.folded, q.arg(c.Value, kind), q.folded))
		}
	}
	return "(" + strings.Join(either, " OR ") + ")", nil
}

// after returns what holds for the rows after s.After: in the first column that differs they come later, and null comes last.
func (q *query) after(s store.Selection) (string, error) {
	later := " > "
	if s.Descending {
		later = " < "
	}
	var either, same []string
	for i, name := range s.Order {
		e, kind, err := expression(name)
		if err != nil {
			return "", err
		}
		mark := q.arg(s.After[i], kind)
		either = append(either, "("+strings.Join(append(same, "("+e+later+mark+" OR "+e+" IS NULL)"), " AND ")+")")
		same = append(same, e+" = "+mark)
	}
	return "(" + strings.Join(either, " OR ") + ")", nil
}
