package duckdb

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"github.com/millrace/millrace/pkg/telemetry"
)

// appendRows appends what fill adds to schema.table, every column in the table's order.
func (t *tx) appendRows(schema, table string, fill func(add func(values ...driver.Value) error) error) error {
	return t.raw(func(c driver.Conn) error {
		a, err := duckdb.NewAppenderFromConn(c, schema, table)
		if err != nil {
			return fmt.Errorf("append to %s: %w", table, err)
		}
		if err := errors.Join(fill(a.AppendRow), a.CloseWithCancel(t.ctx)); err != nil {
			return fmt.Errorf("append to %s: %w", table, err)
		}
		return nil
	})
}

// column is one column of the rows that a statement joins with.
type column struct {
	name string
	kind duckdb.Type
}

// join runs an UPDATE, DELETE or SELECT-free statement over the rows that fill adds; the statement knows them as the table s.
// DuckDB may run it several times, for 200,000 rows or so each.
func (t *tx) join(statement string, columns []column, fill func(add func(values ...driver.Value) error) error) error {
	types := make([]duckdb.TypeInfo, len(columns))
	names := make([]string, len(columns))
	for i, c := range columns {
		var err error
		if types[i], err = duckdb.NewTypeInfo(c.kind); err != nil {
			return fmt.Errorf("column %s: %w", c.name, err)
		}
		names[i] = c.name
	}
	return t.raw(func(c driver.Conn) error {
		a, err := duckdb.NewQueryAppender(c, statement, "s", types, names)
		if err != nil {
			return fmt.Errorf("%.40s…: %w", statement, err)
		}
		if err := errors.Join(fill(a.AppendRow), a.CloseWithCancel(t.ctx)); err != nil {
			return fmt.Errorf("%.40s…: %w", statement, err)
		}
		return nil
	})
}

// text returns s as DuckDB takes it: bytes that are no UTF-8 become U+FFFD.
func text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// textOf is text of bytes.
func textOf(b []byte) string { return text(string(b)) }

// textOrNull is text, or null where b is empty.
func textOrNull(b []byte) driver.Value {
	if len(b) == 0 {
		return nil
	}
	return textOf(b)
}

func moment(t telemetry.Time) driver.Value { return t.Std() }

// momentOrNull is a time, null where it is not known.
func momentOrNull(t telemetry.Time) driver.Value {
	if t == 0 {
		return nil
	}
	return t.Std()
}

func number(v float64, known bool) driver.Value {
	if !known {
		return nil
	}
	return v
}
