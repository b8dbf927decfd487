package clickhouse

import (
	"context"
	"sync"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// stateStore keeps device_state and devices. Of each channel it sends the newest row of a write; which row of all writes is the newest
// is the table's affair, so nothing is held in memory between writes.
type stateStore struct {
	*lane
	spare sync.Pool // of *stateScratch
}

// stateScratch is the memory of one write, used again by later ones.
type stateScratch struct {
	block   messageBlock
	slots   map[channelKey]int // index in newest
	newest  []int              // the index of the newest row of each channel
	devices deviceBlock
}

type channelKey struct{ tenant, device, channel string }

func newStateStore(l *lane) *stateStore { return &stateStore{lane: l} }

func stateColumns() []columnType {
	return []columnType{
		{"tenant", kindText},
		{"device_id", kindText},
		{"device_type", kindText},
		{"channel_key", kindText},
		{"channel_type", kindText},
		{"channel_value", kindText},
		{"value", kindNumber},
		{"event_time", kindTime},
		{"ingest_time", kindTime},
		{"message_id", kindText},
		{"origin_partition", "Int32"},
		{"origin_position", "Int64"},
	}
}

// Write implements store.Writer.
func (s *stateStore) Write(ctx context.Context, commit store.Commit, rows []store.MessageRow) error {
	if err := store.RefusePositions(rows); err != nil {
		return err
	}
	return s.write(ctx, commit, len(rows), func(ctx context.Context, w *writing) error {
		scratch, ok := s.spare.Get().(*stateScratch)
		if !ok {
			scratch = &stateScratch{slots: make(map[channelKey]int), devices: newDeviceBlock()}
		}
		defer func() {
			scratch.reset()
			s.spare.Put(scratch)
		}()
		return s.insert(ctx, w, scratch, rows)
	})
}

func (s *stateStore) insert(ctx context.Context, w *writing, scratch *stateScratch, rows []store.MessageRow) error {
	for i := range rows {
		scratch.take(rows, i)
	}
	b := &scratch.block
	for _, i := range scratch.newest {
		b.add(w, &rows[i])
		b.addValue(&rows[i])
	}
	if n := len(scratch.newest); n > 0 {
		err := s.db.insert(ctx, "device_state", stateColumns(), w.token("device_state", n), []any{
			b.tenants, b.devices, b.types, b.channels, b.channelTypes, b.channelValues, b.values, b.eventTimes, b.ingestTimes,
			b.messageIDs, b.partitions, b.positions,
		})
		if err != nil {
			return err
		}
	}
	for i := range rows { // what is seen of devices follows from all messages
		w.mixOrigin(rows[i].Origin.Partition, int64(rows[i].Origin.Seq)<<24|int64(rows[i].Origin.Index)) //nolint:gosec // only a hash
	}
	return s.db.insert(ctx, "devices", deviceColumns(), w.token("devices", len(rows)), scratch.devices.columns())
}

// take sees to row i.
func (s *stateScratch) take(rows []store.MessageRow, i int) {
	m := &rows[i]
	s.devices.see(m)
	if m.Kind != telemetry.KindChannel && m.Kind != telemetry.KindEvent {
		return
	}
	key := channelKey{m.Tenant, m.DeviceID, m.ChannelKey}
	slot, known := s.slots[key]
	switch {
	case !known:
		s.slots[key] = len(s.newest)
		s.newest = append(s.newest, i)
	case store.Newer(m, &rows[s.newest[slot]]):
		s.newest[slot] = i
	}
}

func (s *stateScratch) reset() {
	s.block.reset()
	clear(s.slots)
	s.newest = s.newest[:0]
	s.devices.reset()
}
