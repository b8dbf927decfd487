package live

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/config"
	"github.com/millrace/millrace/pkg/store/answer"
)

const (
	sqlBytesMax     = 512 << 10
	sqlWriteTimeout = 30 * time.Second
	truncatedHeader = "Millrace-Truncated"
)

// sqlRequest is the JSON body of POST /v1/sql.
type sqlRequest struct {
	Query   string `json:"query"`
	Params  []any  `json:"params"`
	MaxRows int    `json:"max_rows"`
	Timeout string `json:"timeout"`
}

// sql answers POST /v1/sql. The answer is streamed; whether rows were left out is known at its end, so that is a trailer (and a
// member of the JSON form). When it breaks amid the rows the connection is cut, so that nobody takes a part for the whole.
func (l *Live) sql(w http.ResponseWriter, r *http.Request) error {
	if l.deps.SQL == nil {
		return &fault{code: http.StatusNotImplemented, text: "no store that this process can ask answers SQL: the embedded database does, through the " +
			"`millrace run` that has it, and ClickHouse (stores.history: clickhouse); the other resources ask any store"}
	}
	q, err := l.readSQL(w, r)
	if err != nil {
		return err
	}
	form, err := answer.EncodingFor(strings.Join(r.Header.Values("Accept"), ","))
	if err != nil {
		return err
	}
	result, err := l.deps.SQL.Query(r.Context(), q)
	if err != nil {
		return err
	}
	defer result.Close()
	w.Header().Set("Content-Type", form.MediaType)
	w.Header().Set("Trailer", truncatedHeader)
	if err := form.Write(&patientWriter{w: w, control: http.NewResponseController(w), now: l.deps.Now}, result); err != nil {
		return err
	}
	w.Header().Set(truncatedHeader, fmt.Sprint(result.Truncated()))
	return nil
}

// patientWriter gives each write its own time.
type patientWriter struct {
	w       io.Writer
	control *http.ResponseController
	now     func() time.Time
}

// Write implements io.Writer.
func (p *patientWriter) Write(b []byte) (int, error) {
	_ = p.control.SetWriteDeadline(p.now().Add(sqlWriteTimeout)) // not every connection has deadlines
	return p.w.Write(b)
}

func (l *Live) readSQL(w http.ResponseWriter, r *http.Request) (answer.Request, error) {
	q := answer.Request{MaxRows: l.cfg.Query.MaxRows, Timeout: l.cfg.Query.MaxTimeout}
	mediaType := "text/plain"
	if given := r.Header.Get("Content-Type"); given != "" {
		var err error
		if mediaType, _, err = mime.ParseMediaType(given); err != nil {
			return q, &fault{code: http.StatusUnsupportedMediaType, text: fmt.Sprintf("Content-Type %.100q: %v", given, err)}
		}
	}
	b, err := readBody(w, r, sqlBytesMax)
	if err != nil {
		return q, err
	}
	switch mediaType {
	case "application/json":
		if err := l.readSQLRequest(b, &q); err != nil {
			return q, err
		}
	case "text/plain", "application/sql", "application/x-www-form-urlencoded": // the last is what curl -d says of anything
		q.SQL = string(b)
	default:
		return q, &fault{code: http.StatusUnsupportedMediaType, text: fmt.Sprintf("Content-Type %.100q, want text/plain or application/json", mediaType)}
	}
	if strings.TrimSpace(q.SQL) == "" {
		return q, badRequest("there is no query: want SQL as text/plain, or {\"query\":\"…\"} as application/json")
	}
	return q, nil
}

func (l *Live) readSQLRequest(b []byte, q *answer.Request) error {
	var body sqlRequest
	if err := strictJSON(b, &body); err != nil {
		return badRequest(`the body, want {"query":"SELECT …"}: ` + err.Error())
	}
	q.SQL, q.Params = body.Query, body.Params
	for i, v := range body.Params {
		switch v.(type) {
		case nil, string, bool, float64:
		default:
			return badRequest(fmt.Sprintf("params[%d]: want text, a number, true, false or null", i))
		}
	}
	if body.MaxRows < 0 || body.MaxRows > l.cfg.Query.MaxRows {
		return badRequest(fmt.Sprintf("max_rows: %d, want 1 to %d", body.MaxRows, l.cfg.Query.MaxRows))
	}
	if body.MaxRows > 0 {
		q.MaxRows = body.MaxRows
	}
	if body.Timeout != "" {
		d, err := config.ParseDuration(body.Timeout)
		if err != nil || d <= 0 || d > l.cfg.Query.MaxTimeout {
			return badRequest(fmt.Sprintf("timeout: %.50q, want a duration up to %v", body.Timeout, l.cfg.Query.MaxTimeout))
		}
		q.Timeout = d
	}
	return nil
}

// strictJSON reads one JSON value without unknown members and with nothing behind it.
func strictJSON(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("something follows it")
	}
	return nil
}
