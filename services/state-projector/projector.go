package stateprojector

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
)

// projector is the task of one share. Of what gathers for one write it keeps one row a channel, the newest, and of each
// device at most two rows more, which only say when it was heard: so a flood of a thousand devices is a few thousand rows.
//
// The rows stand in the output; the projector knows where. It sees from an empty output that they were written.
type projector struct {
	message  telemetry.Message // scratch
	channels map[channelKey]slot
	devices  map[deviceKey]int // to an index in touches
	touches  []touch
}

// The keys alias the records of the rows that they lead to.
type (
	deviceKey  struct{ tenant, device string }
	channelKey struct{ tenant, device, channel string }
)

// slot is where a channel's newest message stands.
type slot struct{ row, device int } // indexes in the output's rows and in touches

// touch says where the rows of a device stand that stand for messages which have no row of their own.
type touch struct{ first, last int } // indexes in the output's rows, none where there is none

const none = -1

func newProjector() *projector {
	return &projector{channels: make(map[channelKey]slot), devices: make(map[deviceKey]int)}
}

var errNoDevice = errors.New("device_id: empty, want the name of a device")

// Add implements worker.Task.
func (t *projector) Add(out *worker.Output[store.MessageRow], _ string, r bus.Record) error {
	if len(out.Rows) == 0 && len(t.touches) > 0 {
		clear(t.channels)
		clear(t.devices)
		t.touches = t.touches[:0]
	}
	m := &t.message
	m.Reset()
	if err := telemetry.ParseMessage(r.Value, m); err != nil {
		return fmt.Errorf("read the message: %w", err)
	}
	if m.DeviceID == "" {
		return errNoDevice
	}
	switch m.Kind {
	case telemetry.KindChannel, telemetry.KindEvent:
		t.state(out, r.Origin)
	case telemetry.KindSession:
		out.Rows = append(out.Rows, rowOf(m, r.Origin)) // rare, and each begin and end counts
	case telemetry.KindLog, telemetry.KindUnknown:
		t.heard(out, t.device(m), &store.MessageRow{Message: *m, Origin: r.Origin})
	}
	return nil
}

// Tick implements worker.Task.
func (t *projector) Tick(*worker.Output[store.MessageRow], telemetry.Time, telemetry.Time) {}

// state takes t.message as the state of its channel, unless a newer one has come.
func (t *projector) state(out *worker.Output[store.MessageRow], origin bus.Origin) {
	m := &t.message
	key := channelKey{m.Tenant, m.DeviceID, m.ChannelKey}
	at, known := t.channels[key]
	if !known {
		t.channels[key] = slot{row: len(out.Rows), device: t.device(m)}
		out.Rows = append(out.Rows, rowOf(m, origin))
		return
	}
	row := rowOf(m, origin)
	if newer(&row, &out.Rows[at.row]) {
		row, out.Rows[at.row] = out.Rows[at.row], row
	}
	t.heard(out, at.device, &row)
}

// rowOf returns the row of m without what no state has a column for, whose memory m goes on using.
func rowOf(m *telemetry.Message, origin bus.Origin) store.MessageRow {
	row := store.MessageRow{Message: *m, Origin: origin}
	row.Properties = nil
	return row
}

// newer orders the messages of a channel, as every store of state does.
func newer(a, b *store.MessageRow) bool {
	if c := cmp.Compare(a.EventTime, b.EventTime); c != 0 {
		return c > 0
	}
	if c := cmp.Compare(a.Origin.Partition, b.Origin.Partition); c != 0 {
		return c > 0
	}
	return a.Origin.Compare(b.Origin.Position) > 0
}

// device returns the index in touches of m's device.
func (t *projector) device(m *telemetry.Message) int {
	key := deviceKey{m.Tenant, m.DeviceID}
	at, known := t.devices[key]
	if !known {
		at = len(t.touches)
		t.devices[key] = at
		t.touches = append(t.touches, touch{none, none})
	}
	return at
}

// heard keeps the ingest time of a message that has no row of its own: the earliest such of a device has a row, and the latest.
func (t *projector) heard(out *worker.Output[store.MessageRow], device int, m *store.MessageRow) {
	at := &t.touches[device]
	switch {
	case at.first == none:
		at.first = len(out.Rows)
		out.Rows = append(out.Rows, touchOf(m))
	case m.IngestTime < out.Rows[at.first].IngestTime:
		earlier := out.Rows[at.first]
		out.Rows[at.first] = touchOf(m)
		t.last(out, at, &earlier)
	default:
		t.last(out, at, m)
	}
}

func (t *projector) last(out *worker.Output[store.MessageRow], at *touch, m *store.MessageRow) {
	if at.last == none {
		at.last = len(out.Rows)
		out.Rows = append(out.Rows, touchOf(m))
		return
	}
	row := &out.Rows[at.last]
	if m.IngestTime < row.IngestTime {
		return
	}
	kind := row.DeviceType
	*row = touchOf(m)
	if row.DeviceType == "" {
		row.DeviceType = kind // what the device said of itself before still holds
	}
}

// touchOf returns the row that says no more than that the device was heard, which is what a log says to a store of state.
func touchOf(m *store.MessageRow) store.MessageRow {
	row := store.MessageRow{Origin: m.Origin}
	row.Tenant, row.DeviceID, row.DeviceType, row.Kind = m.Tenant, m.DeviceID, m.DeviceType, telemetry.KindLog
	row.EventTime, row.IngestTime = m.EventTime, m.IngestTime
	return row
}
