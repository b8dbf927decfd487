package duckdb

import (
	"context"
	"database/sql/driver"
	"fmt"

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
				payload, escaped := store.PayloadText(d.Payload)
				var exact driver.Value
				if escaped {
					exact = d.Payload
				}
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
