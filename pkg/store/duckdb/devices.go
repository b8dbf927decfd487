package duckdb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"strings"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// deviceTable keeps devices: whole rows in memory (about 400 bytes a device), since each message changes one of them.
type deviceTable struct {
	ids     map[string]int32 // key to the index in entries, which is the entry_id
	entries []device
	before  map[int32]device // the entries that the write under way changed, as they were; new ones have stored false
	key     []byte           // scratch
}

// device is a row of devices.
type device struct {
	tenant, id, kind string
	first, last      telemetry.Time // ingest times
	typed            telemetry.Time // ingest time of the message that gave kind

	session                                    version
	hasSession, connected                      bool
	since, gone                                telemetry.Time
	reason, address, client, protocol, account string

	stored bool
}

func (t *deviceTable) reload(ctx context.Context, c *sql.Conn) error {
	t.ids, t.entries, t.before = make(map[string]int32), nil, make(map[int32]device)
	rows, err := c.QueryContext(ctx, `SELECT * FROM internal.devices ORDER BY entry_id`)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		d, id, err := scanDevice(rows)
		if err != nil {
			return err
		}
		if id != int64(len(t.entries)) {
			return fmt.Errorf("devices: entry_id %d where %d was expected: %w", id, len(t.entries), ErrDamaged)
		}
		t.ids[string(t.keyOf(d.tenant, d.id))] = int32(len(t.entries)) //nolint:gosec // memory ends before
		t.entries = append(t.entries, d)
	}
	return rows.Err()
}

func scanDevice(rows *sql.Rows) (d device, id int64, err error) {
	d.stored = true
	var first, last, since, gone, session sql.NullTime
	var connected sql.NullBool
	var position int64
	err = rows.Scan(&id, &d.tenant, &d.id, &d.kind, &first, &last, &connected, &since, &gone, &d.reason, &d.address, &d.client,
		&d.protocol, &d.account, &session, &d.session.partition, &position)
	d.hasSession, d.connected = connected.Valid, connected.Bool
	d.session.position = store.UnpackPosition(position)
	for _, m := range []struct {
		to   *telemetry.Time
		from sql.NullTime
	}{{&d.first, first}, {&d.last, last}, {&d.since, since}, {&d.gone, gone}, {&d.session.time, session}} {
		if m.from.Valid {
			*m.to = telemetry.At(m.from.Time)
		}
	}
	return d, id, err
}

func (t *deviceTable) keyOf(tenant, id string) []byte {
	t.key = append(append(append(t.key[:0], tenant...), 0), id...)
	return t.key
}

// see takes a message into the device's row in memory; store puts it into the database and settle makes it stay.
func (t *deviceTable) see(m *store.MessageRow) {
	id, known := t.ids[string(t.keyOf(m.Tenant, m.DeviceID))]
	if !known {
		id = int32(len(t.entries)) //nolint:gosec // memory ends before
		t.ids[string(t.key)] = id
		t.entries = append(t.entries, device{tenant: strings.Clone(m.Tenant), id: strings.Clone(m.DeviceID)})
	}
	old := t.entries[id]
	d := &t.entries[id]
	if m.Kind == telemetry.KindSession {
		d.takeSession(m)
	}
	d.takeTimes(m)
	if *d == old && known {
		return
	}
	if _, changed := t.before[id]; !changed {
		t.before[id] = old
	}
}

// takeTimes widens first and last; Millrace's own message of an end is nothing that the device sent.
func (d *device) takeTimes(m *store.MessageRow) {
	if m.Kind != telemetry.KindSession || d.connected {
		if d.first == 0 || m.IngestTime < d.first {
			d.first = m.IngestTime
		}
		d.last = max(d.last, m.IngestTime)
	}
	if m.DeviceType != "" && m.IngestTime >= d.typed {
		d.typed = m.IngestTime
		if d.kind != m.DeviceType {
			d.kind = strings.Clone(m.DeviceType)
		}
	}
}

// takeSession takes the newest message of a connection's begin or end. One that cannot be read changes nothing: Millrace
// itself writes them.
func (d *device) takeSession(m *store.MessageRow) {
	at := versionOf(m)
	if d.hasSession && at.compare(d.session) <= 0 {
		return
	}
	var s telemetry.Session
	if err := json.Unmarshal(m.ChannelValue, &s); err != nil {
		return
	}
	d.session, d.hasSession, d.connected = at, true, s.Connected
	if s.Connected {
		d.since, d.gone, d.reason = m.EventTime, 0, ""
		d.address, d.client, d.protocol = s.Address, s.ClientID, s.Protocol
		d.account = strings.Clone(m.Credential)
		return
	}
	d.gone, d.reason = m.EventTime, s.Reason
}

// store writes the changed entries.
func (t *deviceTable) store(tx *tx) error {
	if err := t.each(true, func(all func(func(...driver.Value) error) error) error {
		return tx.join(updateDevices, deviceColumns(), all)
	}); err != nil {
		return err
	}
	return t.each(false, func(all func(func(...driver.Value) error) error) error {
		return tx.appendRows("internal", "devices", all)
	})
}

// each calls write with what adds the changed entries that are, or are not, in the table yet; not at all where there is none.
func (t *deviceTable) each(stored bool, write func(all func(add func(...driver.Value) error) error) error) error {
	some := false
	for _, old := range t.before {
		some = some || old.stored == stored
	}
	if !some {
		return nil
	}
	return write(func(add func(...driver.Value) error) error {
		for id, old := range t.before {
			if old.stored != stored {
				continue
			}
			if err := add(t.entries[id].row(int64(id))...); err != nil {
				return fmt.Errorf("device %s: %w", t.entries[id].id, err)
			}
		}
		return nil
	})
}

func (d *device) row(id int64) []driver.Value {
	var connected driver.Value
	if d.hasSession {
		connected = d.connected
	}
	position, err := store.PackPosition(d.session.position)
	if err != nil {
		position = 0 // not reached: such rows are refused
	}
	return []driver.Value{
		id, text(d.tenant), text(d.id), text(d.kind), momentOrNull(d.first), momentOrNull(d.last), connected, momentOrNull(d.since),
		momentOrNull(d.gone), text(d.reason), text(d.address), text(d.client), text(d.protocol), text(d.account),
		momentOrNull(d.session.time), d.session.partition, position,
	}
}

// settle ends a write: what it changed is on disk, or is as it was.
func (t *deviceTable) settle(done bool) {
	kept := len(t.entries)
	for id, old := range t.before {
		switch {
		case done:
			t.entries[id].stored = true
		case old.stored:
			t.entries[id] = old
		default:
			delete(t.ids, string(t.keyOf(t.entries[id].tenant, t.entries[id].id)))
			kept = min(kept, int(id)) // the new ones are the last
		}
	}
	t.entries = t.entries[:kept]
	clear(t.before)
}

func deviceColumns() []column {
	v, ts := duckdb.TYPE_VARCHAR, duckdb.TYPE_TIMESTAMP_NS
	return []column{
		{"id", duckdb.TYPE_BIGINT},
		{"tenant", v},
		{"device_id", v},
		{"device_type", v},
		{"first_seen", ts},
		{"last_seen", ts},
		{"connected", duckdb.TYPE_BOOLEAN},
		{"connected_since", ts},
		{"disconnected_at", ts},
		{"disconnect_reason", v},
		{"address", v},
		{"client_id", v},
		{"protocol", v},
		{"credential", v},
		{"session_time", ts},
		{"session_partition", duckdb.TYPE_INTEGER},
		{"session_position", duckdb.TYPE_BIGINT},
	}
}

const updateDevices = `UPDATE internal.devices AS d SET device_type = s.device_type, first_seen = s.first_seen, last_seen = s.last_seen,
	connected = s.connected, connected_since = s.connected_since, disconnected_at = s.disconnected_at,
	disconnect_reason = s.disconnect_reason, address = s.address, client_id = s.client_id, protocol = s.protocol,
	credential = s.credential, session_time = s.session_time, session_partition = s.session_partition,
	session_position = s.session_position FROM s WHERE d.entry_id = s.id`
