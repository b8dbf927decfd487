package clickhouse

import (
	"context"
	"sync"

	"github.com/millrace/millrace/pkg/store"
)

// logStore keeps logs.
type logStore struct {
	*lane
	spare sync.Pool // of *messageBlock
}

func logColumns() []columnType {
	return []columnType{
		{"tenant", kindText},
		{"device_id", kindText},
		{"device_type", kindText},
		{"severity", kindText},
		{"source", kindText},
		{"message", kindText},
		{"event_time", kindTime},
		{"ingest_time", kindTime},
		{"message_id", kindText},
		{"origin_partition", "Int32"},
		{"origin_position", "Int64"},
	}
}

// Write implements store.Writer.
func (s *logStore) Write(ctx context.Context, commit store.Commit, rows []store.MessageRow) error {
	if err := store.RefusePositions(rows); err != nil {
		return err
	}
	return s.write(ctx, commit, len(rows), func(ctx context.Context, w *writing) error {
		b := blockFrom(&s.spare)
		defer putBlock(&s.spare, b)
		for i := range rows {
			m := &rows[i]
			b.add(w, m)
			b.kinds = append(b.kinds, m.Severity.Name())
			b.sources = append(b.sources, text(m.LogSource))
			b.channelValues = append(b.channelValues, text(m.Text))
		}
		return s.db.insert(ctx, "logs", logColumns(), w.token("logs", len(rows)), []any{
			b.tenants, b.devices, b.types, b.kinds, b.sources, b.channelValues, b.eventTimes, b.ingestTimes, b.messageIDs,
			b.partitions, b.positions,
		})
	})
}
