package live

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/answer"
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
	identity             // a number or a text, as the store likes: see store.RowID
)

// column is one column of a table, and its member in the answer.
type column struct {
	name string
	kind kind
}

// listing is a resource that is some rows of a table. All its texts are ours; what comes from outside is only ever a value.
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
type where []store.Condition

func (c *where) add(op store.Op, value any, columns ...string) {
	*c = append(*c, store.Condition{Columns: columns, Op: op, Value: value})
}

// equal adds column = value, unless value is empty.
func (c *where) equal(column, value string) {
	if value != "" {
		c.add(store.Equal, value, column)
	}
}

// between adds from and to of the query, for a column of time: from is in it, to is not.
func (c *where) between(column string, p *params) {
	if t, ok := p.time("from"); ok {
		c.add(store.AtLeast, t, column)
	}
	if t, ok := p.time("to"); ok {
		c.add(store.Below, t, column)
	}
}

// selection returns a page of at most limit rows after the cursor.
func (s *listing) selection(c where, after []any, limit int) store.Selection {
	names := func(columns []column) []string {
		all := make([]string, len(columns))
		for i, col := range columns {
			all[i] = col.name
		}
		return all
	}
	return store.Selection{
		Table: s.table, Columns: names(s.columns), Where: c, Order: names(s.order), Descending: s.descending, After: after, Limit: limit,
	}
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
	body, _, err := l.page(r.Context(), s, *c, after, limit)
	if err != nil {
		return err
	}
	answerJSON(w, r, http.StatusOK, body)
	return nil
}

// page returns {"<name>":[…],"next":"<cursor>" or null} and the number of rows.
func (l *Live) page(ctx context.Context, s *listing, c where, after []any, limit int) (body []byte, rows int, err error) {
	reader, err := l.table(s.table)
	if err != nil {
		return nil, 0, err
	}
	body = append(appendText([]byte{'{'}, s.name), ":["...)
	next, more := "", false
	bounded, cancel := context.WithTimeout(ctx, l.cfg.Query.MaxTimeout)
	defer cancel()
	err = reader.Select(bounded, s.selection(c, after, limit+1), func(row []any) error {
		if rows == limit || len(body) > answerBytesMax {
			more = true
			return nil
		}
		if rows > 0 {
			body = append(body, ',')
		}
		rows++
		body = s.appendRow(append(body, '\n'), row)
		next = makeCursor(row[len(s.columns):], s.order)
		return nil
	})
	if err != nil {
		if bounded.Err() != nil && ctx.Err() == nil {
			return nil, 0, fmt.Errorf("%w: %v have passed; ask for less", answer.ErrTimeout, l.cfg.Query.MaxTimeout)
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
