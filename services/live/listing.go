package live

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/millrace/millrace/pkg/telemetry"
)

// kind is what a column holds.
type kind uint8

const (
	plain    kind = iota // text
	number               // also true and false
	whole                // an integer
	moment               // a time
	embedded             // JSON as text, which becomes JSON in the answer
)

// column is one column of a table, and its member in the answer.
type column struct {
	name string
	kind kind
}

// listing is a resource that is some rows of a table. All its texts are ours; what comes from outside is only ever an argument.
type listing struct {
	name    string   // of the answer's member
	table   string   //
	columns []column // in the order of the answer
	// order has the columns that sort the rows, all in one direction; together they name one row. A cursor is their values.
	order      []column
	descending bool
}

// answerBytesMax is where an answer ends early, with a cursor for the rest.
const answerBytesMax = 16 << 20

// where gathers conditions.
type where struct {
	conditions []string
	args       []any
}

func (c *where) add(condition string, args ...any) {
	c.conditions = append(c.conditions, condition)
	c.args = append(c.args, args...)
}

// equal adds column = value, unless value is empty.
func (c *where) equal(column, value string) {
	if value != "" {
		c.add(column+" = ?", value)
	}
}

// between adds from and to of the query, for a column of time: from is in it, to is not.
func (c *where) between(column string, p *params) {
	if t, ok := p.time("from"); ok {
		c.add(column+" >= make_timestamp_ns(?)", int64(t))
	}
	if t, ok := p.time("to"); ok {
		c.add(column+" < make_timestamp_ns(?)", int64(t))
	}
}

// statement returns the SQL of a page of at most limit rows after the cursor.
func (s *listing) statement(c *where, after []any, limit int) (string, []any) {
	names := func(columns []column) []string {
		var all []string
		for _, col := range columns {
			all = append(all, col.name)
		}
		return all
	}
	conditions, args := slices.Clone(c.conditions), slices.Clone(c.args)
	if after != nil {
		marks := make([]string, len(s.order))
		for i, col := range s.order {
			marks[i] = "?"
			if col.kind == moment {
				marks[i] = "make_timestamp_ns(?)"
			}
		}
		sign := " > "
		if s.descending {
			sign = " < "
		}
		conditions = append(conditions, "("+strings.Join(names(s.order), ", ")+")"+sign+"("+strings.Join(marks, ", ")+")")
		args = append(args, after...)
		if s.order[0].kind == moment { // said once more, so that files and row groups can be passed over
			conditions = append(conditions, s.order[0].name+sign[:2]+"= make_timestamp_ns(?)")
			args = append(args, after[0])
		}
	}
	text := "SELECT " + strings.Join(names(append(slices.Clone(s.columns), s.order...)), ", ") + " FROM " + s.table
	if len(conditions) > 0 {
		text += " WHERE " + strings.Join(conditions, " AND ")
	}
	direction := ""
	if s.descending {
		direction = " DESC"
	}
	return text + " ORDER BY " + strings.Join(names(s.order), direction+", ") + direction + fmt.Sprintf(" LIMIT %d", limit), args
}

// list answers with a page of the listing. It takes the parameters limit and cursor, and reports what is wrong with any.
func (l *Live) list(w http.ResponseWriter, r *http.Request, p *params, s *listing, c *where) error {
	limit := p.limit(l.cfg.Query.PageRows)
	var kinds []kind
	for _, col := range s.order {
		kinds = append(kinds, col.kind)
	}
	after, _ := p.cursor(kinds)
	if err := p.done(); err != nil {
		return err
	}
	body, _, err := l.page(r.Context(), s, c, after, limit)
	if err != nil {
		return err
	}
	answerJSON(w, r, http.StatusOK, body)
	return nil
}

// page returns {"<name>":[…],"next":"<cursor>" or null} and the number of rows.
func (l *Live) page(ctx context.Context, s *listing, c *where, after []any, limit int) (body []byte, rows int, err error) {
	if err := l.noStore(); err != nil {
		return nil, 0, err
	}
	statement, args := s.statement(c, after, limit+1)
	body = append(appendText([]byte{'{'}, s.name), ":["...)
	next, more := "", false
	bounded, cancel := context.WithTimeout(ctx, l.cfg.Query.MaxTimeout)
	defer cancel()
	err = l.deps.Store.Rows(bounded, statement, args, func(row []any) error {
		if rows == limit || len(body) > answerBytesMax {
			more = true
			return nil
		}
		if rows > 0 {
			body = append(body, ',')
		}
		rows++
		body = s.appendRow(append(body, '\n'), row)
		next = makeCursor(row[len(s.columns):])
		return nil
	})
	if err != nil {
		if bounded.Err() != nil && ctx.Err() == nil {
			return nil, 0, fmt.Errorf("%w: %v have passed; ask for less", ErrLimit, l.cfg.Query.MaxTimeout)
		}
		return nil, 0, err
	}
	body = append(body, `],"next":`...)
	if more {
		body = appendText(body, next)
	} else {
		body = append(body, "null"...)
	}
	return append(body, '}'), rows, nil
}

// appendRow appends a row as an object. A channel's value that is a JSON object or array is there once more, as "json".
func (s *listing) appendRow(dst []byte, row []any) []byte {
	dst = append(dst, '{')
	for i, col := range s.columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendText(dst, col.name), ':')
		dst = appendValue(dst, row[i], col.kind)
		if col.name != "channel_value" {
			continue
		}
		if text, ok := row[i].(string); ok && isComposite(text) {
			dst = append(append(dst, `,"json":`...), text...)
		}
	}
	return append(dst, '}')
}

// isComposite reports whether text is a JSON object or array.
func isComposite(text string) bool {
	return text != "" && (text[0] == '{' || text[0] == '[') && json.Valid([]byte(text))
}

// deviceInPath returns the device that a path names.
func deviceInPath(r *http.Request) (string, error) {
	id := r.PathValue("id")
	if err := telemetry.ValidDeviceID(id); err != nil {
		return "", badRequest("device id: " + err.Error())
	}
	return id, nil
}
