package live

import (
	"context"
	"errors"
	"io"
	"time"
)

// What a Store's error says about the query; an error that wraps none of these is the server's own trouble.
var (
	// ErrQuery is a query that cannot be run: the words say what is wrong with it, and where.
	ErrQuery = errors.New("the query cannot be run")
	// ErrLimit is a query that would take more time or memory than it may have.
	ErrLimit = errors.New("the query takes more than it may have")
	// ErrBusy says that as many queries as are allowed are under way.
	ErrBusy = errors.New("too many queries are under way")
	// ErrAccept says that the answer is not to be had in any of the media types asked for.
	ErrAccept = errors.New("the answer is not to be had in this form")
)

// Store answers SQL over the tables that every engine has. Safe for concurrent use. live/embedded makes one of the embedded
// database.
type Store interface {
	// Rows runs a statement of ours, with args for its question marks, and calls each with every row, which holds until each
	// returns. Values are nil, string, bool, any integer or float, or time.Time in UTC.
	Rows(ctx context.Context, statement string, args []any, each func(row []any) error) error
	// Query runs one statement that someone outside has written, read only and within its limits. Once it is known that there
	// is an answer, it calls begin with the media type and writes the answer to what that returns.
	Query(ctx context.Context, q Query, begin func(mediaType string) io.Writer) (truncated bool, err error)
}

// Query is a query from outside.
type Query struct {
	SQL     string
	Params  []any         // for the question marks: nil, string, bool or float64
	Accept  string        // as the HTTP header; "" is JSON
	MaxRows int           // in the answer
	Timeout time.Duration // of the execution
}
