// Package answer holds what the answers to queries have in common, whichever engine gives them: the request with its limits, the
// errors to test for, how a value is written, and the forms in which a result is sent (JSON, NDJSON, CSV, Arrow, Parquet). A driver
// that answers SQL from outside implements Result; the query API sends it with the Encoding that EncodingFor picks.
package answer

import (
	"errors"
	"iter"
	"time"
)

// What is wrong with a query, or with the moment; an error that wraps none of these is the engine's own trouble.
var (
	// ErrNotAllowed is SQL that is not one read-only statement within the limits.
	ErrNotAllowed = errors.New("not allowed")
	// ErrInvalid is SQL that the engine does not take; the message says where.
	ErrInvalid = errors.New("invalid query")
	// ErrBusy says that as many queries as are allowed are under way.
	ErrBusy = errors.New("too many queries are under way")
	// ErrTimeout is a query that was stopped at its deadline.
	ErrTimeout = errors.New("the query took too long and was stopped")
	// ErrResources is a query that needs more memory, temporary space or rows than it may have.
	ErrResources = errors.New("the query needs more memory than it may have")
	// ErrNotAcceptable is returned by EncodingFor when it knows none of the media types.
	ErrNotAcceptable = errors.New("none of the media types is available: application/json, application/x-ndjson, text/csv, " +
		"application/vnd.apache.arrow.stream, application/vnd.apache.parquet")
)

// The limits of a query where the request names none, and the most it may name.
const (
	DefaultRows    = 10_000
	MaxRows        = 10_000_000
	DefaultTimeout = 30 * time.Second
	MaxTimeout     = 10 * time.Minute
	QueryBytesMax  = 256 << 10
)

// Request is a query from outside.
type Request struct {
	SQL     string        // one statement, up to QueryBytesMax
	Params  []any         // for ? or $1 in SQL: nil, string, bool or float64
	MaxRows int           // 0 means DefaultRows; more than MaxRows means MaxRows. Result.Truncated tells when there were more
	Timeout time.Duration // of the execution; 0 means DefaultTimeout; more than MaxTimeout means MaxTimeout
}

// Limits returns the request's limits with the defaults in place.
func (r *Request) Limits() (maxRows int, timeout time.Duration) {
	maxRows, timeout = r.MaxRows, r.Timeout
	if maxRows <= 0 {
		maxRows = DefaultRows
	}
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	return min(maxRows, MaxRows), min(timeout, MaxTimeout)
}

// Column is one column of a result: its name, and its type as DuckDB writes it, whichever engine answers.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// Result is the answer of one query. It is used by one goroutine, and closed, soon: it holds what others wait for.
type Result interface {
	// Columns are known from the start.
	Columns() []Column
	// Rows yields the rows in their order, once, each until the next is asked for. A value is nil, bool, string, []byte, any
	// integer or float, *big.Int, Decimal, time.Time in UTC, Interval, []any, map[string]any or Map. It ends with an error
	// when the caller's context has ended, or when the engine broke off.
	Rows() iter.Seq2[[]any, error]
	// Truncated reports, after Rows has ended, whether there were more rows than the request wanted.
	Truncated() bool
	// Close lets go of everything. Calling it again does nothing.
	Close()
}

// Decimal is a decimal number as digits, such as 12.34.
type Decimal string

// Interval is a length of time as SQL has it.
type Interval struct {
	Months, Days int32
	Micros       int64
}

// Map is a map with its keys in order.
type Map struct {
	Keys, Values []any // side by side
}
