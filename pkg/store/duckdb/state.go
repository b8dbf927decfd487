package duckdb

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"time"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// stateStore keeps device_state and devices. Which keys there are, and how new each is, it knows in memory (about 150 bytes
// a channel): measured, an index in the database makes a write three times as dear.
type stateStore struct {
	*lane
	ids     map[string]int32 // key of a channel to its index in channels, which is its state_id
	channel []channelEntry
	touched []int32 // channels that the write under way changes
	key     []byte  // scratch
	devices deviceTable
}

// channelEntry is what is known of one row of device_state.
type channelEntry struct {
	version
	stored  bool  // a row is in the table
	pending int32 // 1 + index of the row that the write under way will store; 0: none
}

// version orders the messages of one channel, or of one device's sessions: the latest wins by event time, then origin.
type version struct {
	time      telemetry.Time
	partition int32
	position  bus.Position
}

func versionOf(m *store.MessageRow) version {
	return version{time: m.EventTime, partition: m.Origin.Partition, position: m.Origin.Position}
}

func (v version) compare(w version) int {
	if c := cmp.Compare(v.time, w.time); c != 0 {
		return c
	}
	if c := cmp.Compare(v.partition, w.partition); c != 0 {
		return c
	}
	return v.position.Compare(w.position)
}

func newStateStore(l *lane) *stateStore {
	s := &stateStore{lane: l}
	l.load = s.reload
	return s
}

func (s *stateStore) reload(ctx context.Context, c *sql.Conn) error {
	s.ids, s.channel, s.touched = make(map[string]int32), nil, nil
	rows, err := c.QueryContext(ctx, `SELECT state_id, tenant, device_id, channel_key, event_time, origin_partition, origin_position
		FROM internal.device_state ORDER BY state_id`)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id, position int64
		var tenant, device, channel string
		var at time.Time
		e := channelEntry{stored: true}
		if err := rows.Scan(&id, &tenant, &device, &channel, &at, &e.partition, &position); err != nil {
			return err
		}
		if id != int64(len(s.channel)) {
			return fmt.Errorf("device_state: state_id %d where %d was expected: %w", id, len(s.channel), ErrDamaged)
		}
		e.time, e.position = telemetry.At(at), store.UnpackPosition(position)
		s.ids[string(s.keyOf(tenant, device, channel))] = int32(len(s.channel)) //nolint:gosec // memory ends before
		s.channel = append(s.channel, e)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return s.devices.reload(ctx, c)
}

// keyOf returns the key in scratch memory. The parts hold no zero byte: the edge refuses such names.
func (s *stateStore) keyOf(tenant, device, channel string) []byte {
	s.key = append(append(append(append(append(s.key[:0], tenant...), 0), device...), 0), channel...)
	return s.key
}

// Write implements store.Writer.
func (s *stateStore) Write(ctx context.Context, commit store.Commit, rows []store.MessageRow) error {
	if err := store.RefusePositions(rows); err != nil {
		return err
	}
	fill := func(tx *tx) error {
		s.choose(rows)
		if err := s.updateChannels(tx, rows); err != nil {
			return err
		}
		if err := s.insertChannels(tx, rows); err != nil {
			return err
		}
		return s.devices.store(tx)
	}
	return s.write(ctx, commit, fill, func(done bool) { s.settle(rows, done) })
}

// choose marks, for each channel, the newest row that is newer than what is stored.
func (s *stateStore) choose(rows []store.MessageRow) {
	for i := range rows {
		m := &rows[i]
		s.devices.see(m)
		if m.Kind != telemetry.KindChannel && m.Kind != telemetry.KindEvent {
			continue
		}
		id, known := s.ids[string(s.keyOf(m.Tenant, m.DeviceID, m.ChannelKey))]
		if !known {
			id = int32(len(s.channel)) //nolint:gosec // memory ends before
			s.ids[string(s.key)] = id
			s.channel = append(s.channel, channelEntry{pending: int32(i + 1)})
			s.touched = append(s.touched, id)
			continue
		}
		e := &s.channel[id]
		newest := e.version
		if e.pending > 0 {
			newest = versionOf(&rows[e.pending-1])
		}
		if versionOf(m).compare(newest) <= 0 {
			continue
		}
		if e.pending == 0 {
			s.touched = append(s.touched, id)
		}
		e.pending = int32(i + 1)
	}
}

// settle makes the choice of a write that is on disk what is known, and forgets it otherwise.
func (s *stateStore) settle(rows []store.MessageRow, done bool) {
	s.devices.settle(done)
	kept := len(s.channel)
	for _, id := range s.touched {
		e := &s.channel[id]
		switch {
		case done:
			e.version, e.stored = versionOf(&rows[e.pending-1]), true
		case !e.stored:
			m := &rows[e.pending-1]
			delete(s.ids, string(s.keyOf(m.Tenant, m.DeviceID, m.ChannelKey)))
			kept = min(kept, int(id)) // the new ones are the last
		}
		e.pending = 0
	}
	s.channel, s.touched = s.channel[:kept], s.touched[:0]
}

func (s *stateStore) updateChannels(tx *tx, rows []store.MessageRow) error {
	columns := []column{
		{"id", duckdb.TYPE_BIGINT},
		{"device_type", duckdb.TYPE_VARCHAR},
		{"channel_type", duckdb.TYPE_VARCHAR},
		{"channel_value", duckdb.TYPE_VARCHAR},
		{"value", duckdb.TYPE_DOUBLE},
		{"event_time", duckdb.TYPE_TIMESTAMP_NS},
		{"ingest_time", duckdb.TYPE_TIMESTAMP_NS},
		{"message_id", duckdb.TYPE_VARCHAR},
		{"origin_partition", duckdb.TYPE_INTEGER},
		{"origin_position", duckdb.TYPE_BIGINT},
	}
	const update = `UPDATE internal.device_state AS d SET device_type = s.device_type, channel_type = s.channel_type,
		channel_value = s.channel_value, value = s.value, event_time = s.event_time, ingest_time = s.ingest_time,
		message_id = s.message_id, origin_partition = s.origin_partition, origin_position = s.origin_position
		FROM s WHERE d.state_id = s.id`
	if !s.any(true) {
		return nil
	}
	return tx.join(update, columns, func(add func(...driver.Value) error) error {
		for _, id := range s.touched {
			e := &s.channel[id]
			if !e.stored {
				continue
			}
			m := &rows[e.pending-1]
			position, err := store.PackPosition(m.Origin.Position)
			if err != nil {
				return err
			}
			err = add(int64(id), text(m.DeviceType), text(m.ChannelType), textOf(m.ChannelValue), number(m.Value, m.HasValue),
				moment(m.EventTime), moment(m.IngestTime), text(m.MessageID), m.Origin.Partition, position)
			if err != nil {
				return fmt.Errorf("row %d: %w", e.pending-1, err)
			}
		}
		return nil
	})
}

func (s *stateStore) insertChannels(tx *tx, rows []store.MessageRow) error {
	if !s.any(false) {
		return nil
	}
	return tx.appendRows("internal", "device_state", func(add func(...driver.Value) error) error {
		for _, id := range s.touched {
			e := &s.channel[id]
			if e.stored {
				continue
			}
			m := &rows[e.pending-1]
			position, err := store.PackPosition(m.Origin.Position)
			if err != nil {
				return err
			}
			err = add(int64(id), text(m.Tenant), text(m.DeviceID), text(m.DeviceType), text(m.ChannelKey), text(m.ChannelType),
				textOf(m.ChannelValue), number(m.Value, m.HasValue), moment(m.EventTime), moment(m.IngestTime), text(m.MessageID),
				m.Origin.Partition, position)
			if err != nil {
				return fmt.Errorf("row %d: %w", e.pending-1, err)
			}
		}
		return nil
	})
}

// any reports whether the write under way touches a channel that has a row already, or one that has none.
func (s *stateStore) any(stored bool) bool {
	for _, id := range s.touched {
		if s.channel[id].stored == stored {
			return true
		}
	}
	return false
}
