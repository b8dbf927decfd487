package duckdb

import (
	"context"
	"database/sql/driver"
	"fmt"

	"github.com/millrace/millrace/pkg/store"
)

// deadLetterStore keeps dead_letters: plain appends, and updates of those that were put back.
type deadLetterStore struct{ *lane }

// Write implements store.Writer.
func (s *deadLetterStore) Write(ctx context.Context, commit store.Commit, rows []store.DeadLetterRow) error {
	return s.write(ctx, commit, func(tx *tx) error {
		if len(rows) == 0 {
			return nil
		}
		err := tx.appendRows("main", "dead_letters", func(add func(...driver.Value) error) error {
			for i := range rows {
				if rows[i].ReplayOf != "" {
					continue
				}
				if err := addDeadLetter(add, &rows[i]); err != nil {
					return fmt.Errorf("row %d: %w", i, err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for i := range rows {
			d := &rows[i]
			if d.ReplayOf == "" {
				continue
			}
			// received_at is there for the row groups that it rules out: nothing else of the table is sorted.
			const query = `UPDATE dead_letters SET replayed_at = make_timestamp_ns(?), replayed_by = ? WHERE id = ? AND received_at = make_timestamp_ns(?)`
			if err := tx.exec(query, int64(d.ReplayedAt), text(d.ReplayedBy), d.At.ID(), int64(d.ReceivedAt)); err != nil {
				return fmt.Errorf("row %d: %w", i, err)
			}
		}
		return nil
	}, nil)
}

func addDeadLetter(add func(...driver.Value) error, d *store.DeadLetterRow) error {
	payload, escaped := store.PayloadText(d.Payload)
	var exact driver.Value
	if escaped {
		exact = d.Payload
	}
	var replayed driver.Value // of a letter that comes from another engine
	if d.ReplayedAt != 0 {
		replayed = moment(d.ReplayedAt)
	}
	return add(text(d.Topic), text(d.Worker), text(d.Reason), payload, moment(d.ReceivedAt), text(d.Tenant), text(d.DeviceID),
		text(d.Credential), d.Partition, text(d.Position), exact, d.At.ID(), text(d.Context), replayed, text(d.ReplayedBy))
}
