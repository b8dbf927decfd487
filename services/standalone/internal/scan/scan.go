// Package scan reads what the embedded database answers to statements of ours.
package scan

import (
	"context"
	"iter"
	"time"

	"github.com/millrace/millrace/pkg/store/duckdb"
	"github.com/millrace/millrace/pkg/telemetry"
)

// Query yields the rows of a statement, and ends with the first error; the values hold until the next row.
func Query(ctx context.Context, db *duckdb.DB, statement string, args ...any) iter.Seq2[[]any, error] {
	return func(yield func([]any, error) bool) {
		result, err := db.Rows(ctx, statement, args...)
		if err != nil {
			yield(nil, err)
			return
		}
		defer result.Close() //nolint:contextcheck // it gives its connection back also when ctx has ended
		for row, err := range result.Rows() {
			if !yield(row, err) || err != nil {
				return
			}
		}
	}
}

// As returns a value as a T, or T's zero value where it is none, as null is not.
func As[T any](v any) T { //nolint:ireturn // a type parameter
	out, _ := v.(T)
	return out
}

// Time returns a value as a time, 0 where it is none, as null is not.
func Time(v any) telemetry.Time {
	if t, ok := v.(time.Time); ok {
		return telemetry.At(t)
	}
	return 0
}
