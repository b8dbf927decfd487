package duckdb

import (
	"context"
	"database/sql/driver"
	"fmt"
	"unicode/utf8"

	"github.com/millrace/millrace/pkg/store"
)

// deadLetterStore keeps dead_letters: plain appends.
type deadLetterStore struct{ *lane }

// Write implements store.Writer.
func (s *deadLetterStore) Write(ctx context.Context, commit store.Commit, rows []store.DeadLetterRow) error {
	return s.write(ctx, commit, func(tx *tx) error {
		if len(rows) == 0 {
			return nil
		}
		return tx.appendRows("main", "dead_letters", func(add func(...driver.Value) error) error {
			for i := range rows {
				d := &rows[i]
				payload, exact := readable(d.Payload)
				err := add(text(d.Topic), text(d.Worker), text(d.Reason), payload, moment(d.ReceivedAt), text(d.Tenant), text(d.DeviceID),
					text(d.Credential), d.Partition, text(d.Position), exact)
				if err != nil {
					return fmt.Errorf("row %d: %w", i, err)
				}
			}
			return nil
		})
	}, nil)
}

// readable returns a payload as text, as it is where it is UTF-8 without control characters other than white space; else with
// each other byte as \xNN and each backslash doubled, and beside it the exact bytes.
func readable(payload []byte) (escaped string, exact driver.Value) {
	if isText(payload) {
		return string(payload), nil
	}
	const hex = "0123456789ABCDEF"
	out := make([]byte, 0, 2*len(payload))
	for _, b := range payload {
		switch {
		case b == '\\':
			out = append(out, '\\', '\\')
		case b >= ' ' && b < 0x7f, b == '\n', b == '\t', b == '\r':
			out = append(out, b)
		default:
			out = append(out, '\\', 'x', hex[b>>4], hex[b&15])
		}
	}
	return string(out), payload
}

func isText(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	for _, c := range b {
		if c < ' ' && c != '\n' && c != '\t' && c != '\r' {
			return false
		}
	}
	return true
}
