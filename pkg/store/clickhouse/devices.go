package clickhouse

import (
	"cmp"
	"encoding/json"
	"time"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// deviceBlock gathers what one write has seen of devices: a row each, which the table merges with what it has.
type deviceBlock struct {
	slots map[deviceKey]int
	seen  []seen
}

type deviceKey struct{ tenant, device string }

// seen is what a write has seen of one device; its texts alias the rows.
type seen struct {
	deviceKey
	first, last telemetry.Time // ingest times
	typed       telemetry.Time // ingest time of the message that gave kind
	kind        string
	session     session // the newest message of a connection's begin or end
	beginning   session // the newest begin
}

// session is a message of telemetry.KindSession.
type session struct {
	known      bool
	at         telemetry.Time
	partition  int32
	position   int64
	credential string
	telemetry.Session
}

func newDeviceBlock() deviceBlock { return deviceBlock{slots: make(map[deviceKey]int)} }

func (b *deviceBlock) reset() {
	clear(b.slots)
	clear(b.seen)
	b.seen = b.seen[:0]
}

// see takes a message into its device's row.
func (b *deviceBlock) see(m *store.MessageRow) {
	key := deviceKey{m.Tenant, m.DeviceID}
	slot, known := b.slots[key]
	if !known {
		slot = len(b.seen)
		b.slots[key] = slot
		b.seen = append(b.seen, seen{deviceKey: key})
	}
	d := &b.seen[slot]
	spoke := true
	if m.Kind == telemetry.KindSession {
		spoke = d.takeSession(m)
	}
	if spoke { // Millrace's own message of an end is nothing that the device sent
		if d.first == 0 || m.IngestTime < d.first {
			d.first = m.IngestTime
		}
		d.last = max(d.last, m.IngestTime)
	}
	if m.DeviceType != "" && m.IngestTime >= d.typed {
		d.typed, d.kind = m.IngestTime, m.DeviceType
	}
}

// takeSession reports whether the message is of a begin. One that cannot be read changes nothing: Millrace itself writes them.
func (d *seen) takeSession(m *store.MessageRow) (begin bool) {
	var s telemetry.Session
	if err := json.Unmarshal(m.ChannelValue, &s); err != nil {
		return false
	}
	position, err := store.PackPosition(m.Origin.Position)
	if err != nil {
		position = 0 // not reached: such rows are refused
	}
	this := session{true, m.EventTime, m.Origin.Partition, position, m.Credential, s}
	if this.newer(&d.session) {
		d.session = this
	}
	if s.Connected && this.newer(&d.beginning) {
		d.beginning = this
	}
	return s.Connected
}

func (s *session) newer(t *session) bool {
	return !t.known || cmp.Or(cmp.Compare(s.at, t.at), cmp.Compare(s.partition, t.partition), cmp.Compare(s.position, t.position)) > 0
}

func deviceColumns() []columnType {
	return []columnType{
		{"tenant", kindText},
		{"device_id", kindText},
		{"first_seen", "SimpleAggregateFunction(min, " + kindTimeNull + ")"},
		{"last_seen", "SimpleAggregateFunction(max, " + kindTimeNull + ")"},
		{"type", "SimpleAggregateFunction(max, Tuple(at Int64, device_type String))"},
		{"session", "SimpleAggregateFunction(max, Tuple(at Int64, partition Int32, position Int64, known UInt8, connected UInt8, reason String))"},
		{
			"beginning", "SimpleAggregateFunction(max, Tuple(at Int64, partition Int32, position Int64, known UInt8, " +
				"address String, client_id String, protocol String, credential String))",
		},
	}
}

func (b *deviceBlock) columns() []any {
	n := len(b.seen)
	tenants, devices := make([]string, n), make([]string, n)
	first, last := make([]*time.Time, n), make([]*time.Time, n)
	types, sessions, beginnings := make([][]any, n), make([][]any, n), make([][]any, n)
	for i := range b.seen {
		d := &b.seen[i]
		tenants[i], devices[i] = text(d.tenant), text(d.device)
		first[i], last[i] = momentOrNull(d.first), momentOrNull(d.last)
		types[i] = []any{int64(d.typed), text(d.kind)}
		s, t := &d.session, &d.beginning
		sessions[i] = []any{int64(s.at), s.partition, s.position, bit(s.known), bit(s.Connected), text(s.reason())}
		beginnings[i] = []any{int64(t.at), t.partition, t.position, bit(t.known), text(t.Address), text(t.ClientID), text(t.Protocol), text(t.credential)}
	}
	return []any{tenants, devices, first, last, types, sessions, beginnings}
}

// reason is why the connection ended; a begin has none.
func (s *session) reason() string {
	if s.Connected {
		return ""
	}
	return s.Reason
}

func bit(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}
