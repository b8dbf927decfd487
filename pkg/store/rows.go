package store

import (
	"cmp"
	"context"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

// MessageRow is one message with its identity: the row of device_messages and of logs, and what device_state and devices are
// made from.
type MessageRow struct {
	telemetry.Message
	Origin bus.Origin
}

// Newer reports whether a comes after b in the order in which the latest state is chosen: by event time, then origin.
func Newer(a, b *MessageRow) bool {
	return cmp.Or(cmp.Compare(a.EventTime, b.EventTime), cmp.Compare(a.Origin.Partition, b.Origin.Partition),
		a.Origin.Compare(b.Origin.Position)) > 0
}

// StateWriter keeps device_state, one row a (tenant, device, channel), the latest by (event time, origin); and devices,
// one row a (tenant, device): first and last ingest time of whatever it sent, and from messages of KindSession whether, since
// when and why it is connected or gone. Messages of KindChannel and KindEvent make state; logs only touch devices.
type StateWriter = Writer[MessageRow]

// HistoryWriter keeps device_messages and the archive. It is Buffered.
type HistoryWriter interface {
	Writer[MessageRow]
	Buffered
}

// LogWriter keeps logs.
type LogWriter = Writer[MessageRow]

// AlarmWriter keeps alarms, one row an alarm id, the row with the highest revision; with the checkpoints of alerting.
type AlarmWriter interface {
	Writer[telemetry.Alarm]
	Checkpoints
}

// DeadLetterRow is one dead letter with its identity: its own place in the topic dead-letters, since one record may have
// several letters, and letters of the edge stem from no record. Where ReplayOf is set it is not a letter but the note that the one
// at At was put back: the store sets replayed_at and replayed_by in that letter's row, and where it has no such row does nothing, or
// makes it.
type DeadLetterRow struct {
	telemetry.DeadLetter
	At bus.Origin
}

// DeadLetterWriter keeps dead_letters.
type DeadLetterWriter = Writer[DeadLetterRow]

// AggregateRow is one closed window, or its correction. A row replaces the one with the same key (tenant, device, channel,
// window length, window start).
type AggregateRow struct {
	telemetry.Aggregate
	// State is the mergeable state of the window (see services/aggregator), kept beside the row while the window may still be
	// corrected; never shown to SQL.
	State []byte
	// StateUntil is when State may be forgotten, by the wall clock: a device whose clock is years behind corrects its windows too.
	StateUntil telemetry.Time
}

// AggregateWriter keeps aggregates, and the checkpoints of the aggregator.
type AggregateWriter interface {
	Writer[AggregateRow]
	Checkpoints
	// Windows returns, beside keys, the rows with their State as last written (but not StateUntil): a row with Count 0 where
	// there is none, and one without State where the state was forgotten, which can then not be corrected any more.
	Windows(ctx context.Context, keys []WindowKey) ([]AggregateRow, error)
	// ForgetStates drops every State whose StateUntil is before now; rows stay.
	ForgetStates(ctx context.Context, now telemetry.Time) error
}

// WindowKey is the key of an aggregate.
type WindowKey struct {
	Tenant, DeviceID, ChannelKey string
	WindowStart                  telemetry.Time
	WindowLength                 int64 // nanoseconds
}

// KeyOf returns the key of a. It shares a's texts.
func KeyOf(a *telemetry.Aggregate) WindowKey {
	return WindowKey{Tenant: a.Tenant, DeviceID: a.DeviceID, ChannelKey: a.ChannelKey, WindowStart: a.WindowStart, WindowLength: a.WindowLength}
}
