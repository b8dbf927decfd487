package duckdb

import (
	"context"
	"database/sql/driver"
	"fmt"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// alarmStore keeps alarms. They are few, so each write looks at the stored revisions.
type alarmStore struct{ *lane }

// Write implements store.Writer.
func (s *alarmStore) Write(ctx context.Context, commit store.Commit, rows []telemetry.Alarm) error {
	newest := make(map[string]int, len(rows)) // alarm id to its row of the highest revision
	for i := range rows {
		if have, ok := newest[rows[i].AlarmID]; !ok || rows[i].Revision >= rows[have].Revision {
			newest[rows[i].AlarmID] = i
		}
	}
	return s.write(ctx, commit, func(tx *tx) error {
		if len(rows) == 0 {
			return nil
		}
		if err := s.skipOlder(tx, rows, newest); err != nil {
			return err
		}
		columns := []column{{"alarm_id", duckdb.TYPE_VARCHAR}}
		err := tx.join(`DELETE FROM alarms USING s WHERE alarms.alarm_id = s.alarm_id`, columns, func(add func(...driver.Value) error) error {
			for id := range newest {
				if err := add(text(id)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		return appendAlarms(tx, rows, newest)
	}, nil)
}

// skipOlder takes out of newest what the table has in a higher revision.
func (s *alarmStore) skipOlder(tx *tx, rows []telemetry.Alarm, newest map[string]int) error {
	ids := make([]string, 0, len(newest))
	for id := range newest {
		ids = append(ids, text(id))
	}
	stored, err := tx.conn.QueryContext(tx.ctx, `SELECT alarm_id, revision FROM alarms WHERE alarm_id IN (SELECT unnest(?::VARCHAR[]))`, ids)
	if err != nil {
		return fmt.Errorf("stored revisions: %w", err)
	}
	defer func() { _ = stored.Close() }()
	for stored.Next() {
		var id string
		var revision uint32
		if err := stored.Scan(&id, &revision); err != nil {
			return fmt.Errorf("stored revisions: %w", err)
		}
		if i, ok := newest[id]; ok && rows[i].Revision < revision {
			delete(newest, id)
		}
	}
	return stored.Err()
}

func appendAlarms(tx *tx, rows []telemetry.Alarm, newest map[string]int) error {
	return tx.appendRows("main", "alarms", func(add func(...driver.Value) error) error {
		for i := range rows {
			a := &rows[i]
			if at, ok := newest[a.AlarmID]; !ok || at != i {
				continue
			}
			err := add(text(a.AlarmID), text(a.Tenant), text(a.Rule), text(a.DeviceID), text(a.ChannelKey), text(a.Severity), text(string(a.State)),
				text(a.Value), momentOrNull(a.RaisedAt), momentOrNull(a.AckedAt), momentOrNull(a.ClearedAt), textOrNull(a.Detail),
				text(a.PreviousValue), int32(a.Revision)) //nolint:gosec // an alarm does not change 2^31 times
			if err != nil {
				return fmt.Errorf("row %d: %w", i, err)
			}
		}
		return nil
	})
}
