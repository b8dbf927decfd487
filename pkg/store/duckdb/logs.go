package duckdb

import (
	"context"
	"database/sql/driver"
	"fmt"

	"github.com/millrace/millrace/pkg/store"
)

// logStore keeps logs: plain appends.
type logStore struct{ *lane }

// Write implements store.Writer.
func (s *logStore) Write(ctx context.Context, commit store.Commit, rows []store.MessageRow) error {
	if err := store.RefusePositions(rows); err != nil {
		return err
	}
	fill := func(tx *tx) error {
		if len(rows) == 0 {
			return nil
		}
		return tx.appendRows("main", "logs", func(add func(...driver.Value) error) error {
			for i := range rows {
				m := &rows[i]
				position, err := store.PackPosition(m.Origin.Position)
				if err != nil {
					return err
				}
				err = add(text(m.Tenant), text(m.DeviceID), text(m.DeviceType), m.Severity.Name(), text(m.LogSource), text(m.Text),
					moment(m.EventTime), moment(m.IngestTime), text(m.MessageID), m.Origin.Partition, position)
				if err != nil {
					return fmt.Errorf("row %d: %w", i, err)
				}
			}
			return nil
		})
	}
	return s.write(ctx, commit, fill, nil)
}
