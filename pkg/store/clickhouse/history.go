package clickhouse

import (
	"context"
	"sync"

	"github.com/millrace/millrace/pkg/store"
)

// historyStore keeps device_messages.
type historyStore struct {
	*lane
	spare sync.Pool // of *messageBlock
}

func historyColumns() []columnType {
	columns := make([]columnType, 0, 20)
	for _, c := range store.HistoryColumns() {
		columns = append(columns, columnType{c.Name, typeOf(c)})
	}
	return columns
}

// Flush implements store.Buffered: a write that has returned is on disk already.
func (s *historyStore) Flush(context.Context) error { return nil }

// Write implements store.Writer.
func (s *historyStore) Write(ctx context.Context, commit store.Commit, rows []store.MessageRow) error {
	if err := store.RefusePositions(rows); err != nil {
		return err
	}
	return s.write(ctx, commit, len(rows), func(ctx context.Context, w *writing) error {
		b := blockFrom(&s.spare)
		defer putBlock(&s.spare, b)
		for i := range rows {
			b.add(w, &rows[i])
			b.addValue(&rows[i])
			b.addRest(&rows[i])
		}
		return s.db.insert(ctx, "device_messages", historyColumns(), w.token("device_messages", len(rows)), b.history())
	})
}

// history returns the columns of device_messages.
func (b *messageBlock) history() []any {
	return []any{
		b.tenants, b.devices, b.types, b.channels, b.channelTypes, b.channelValues, b.values, b.eventTimes, b.ingestTimes,
		b.messageIDs, b.kinds, b.deviceTimes, b.properties, b.attributes, b.sources, b.credentials, b.codecs, b.partitions, b.positions,
	}
}

func blockFrom(spare *sync.Pool) *messageBlock {
	if b, ok := spare.Get().(*messageBlock); ok {
		return b
	}
	return &messageBlock{}
}

func putBlock(spare *sync.Pool, b *messageBlock) {
	b.reset()
	spare.Put(b)
}
