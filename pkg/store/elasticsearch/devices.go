package elasticsearch

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// devicesRemembered bounds the devices whose rows are remembered (about 600 bytes each). Beyond it all are forgotten, which
// costs one read more for each.
const devicesRemembered = 100_000

// deviceBook keeps devices. Every message of a device changes its row, so rows are remembered with the sequence numbers of their
// documents, and written by compare-and-swap without being read. Where another process has written, the row is read and merged
// anew: what a message does to a row depends neither on order nor on repetition.
type deviceBook struct {
	db *DB

	mu    sync.Mutex
	known map[deviceID]storedDevice
}

type deviceID struct{ tenant, id string }

type storedDevice struct {
	device
	place
}

// device is a row of devices, or what some messages say of one.
type device struct {
	tenant, id, kind string
	first, last      telemetry.Time // ingest times
	typed            telemetry.Time // ingest time of the message that gave kind

	session                                    version
	hasSession, connected                      bool
	since, gone                                telemetry.Time
	reason, address, client, protocol, account string
}

func newDeviceBook(db *DB) *deviceBook {
	return &deviceBook{db: db, known: make(map[deviceID]storedDevice)}
}

// see takes a message. One of an end is Millrace's own and nothing that the device sent; a session message that cannot be read
// changes nothing.
func (d *device) see(m *store.MessageRow) {
	if m.Kind == telemetry.KindSession {
		var s telemetry.Session
		if json.Unmarshal(m.ChannelValue, &s) != nil {
			return
		}
		next := device{session: versionOf(m), hasSession: true, connected: s.Connected}
		if s.Connected {
			next.since, next.address, next.client, next.protocol = m.EventTime, s.Address, s.ClientID, s.Protocol
			next.account = strings.Clone(m.Credential)
		} else {
			next.gone, next.reason = m.EventTime, s.Reason
		}
		d.mergeSession(&next)
		if !s.Connected {
			return
		}
	}
	d.mergeTimes(m.IngestTime, m.IngestTime)
	if m.DeviceType != "" {
		d.mergeType(m.DeviceType, m.IngestTime)
	}
}

func (d *device) mergeTimes(first, last telemetry.Time) {
	if first != 0 && (d.first == 0 || first < d.first) {
		d.first = first
	}
	d.last = max(d.last, last)
}

func (d *device) mergeType(kind string, at telemetry.Time) {
	if at < d.typed || at == d.typed && kind <= d.kind {
		return
	}
	d.typed = at
	if d.kind != kind {
		d.kind = strings.Clone(kind)
	}
}

// mergeSession takes the newer session message, and who it was from the newer beginning.
func (d *device) mergeSession(s *device) {
	if s.since > d.since {
		d.since, d.address, d.client, d.protocol, d.account = s.since, s.address, s.client, s.protocol, s.account
	}
	if s.hasSession && (!d.hasSession || s.session.compare(d.session) > 0) {
		d.session, d.hasSession, d.connected, d.gone, d.reason = s.session, true, s.connected, s.gone, s.reason
	}
}

// merge takes what other messages of the same device say.
func (d *device) merge(o *device) {
	d.mergeSession(o)
	d.mergeTimes(o.first, o.last)
	if o.kind != "" {
		d.mergeType(o.kind, o.typed)
	}
}

// gather returns what rows say of each device.
func gather(rows []store.MessageRow) []*device {
	by := make(map[deviceID]*device)
	var all []*device
	for i := range rows {
		m := &rows[i]
		key := deviceID{m.Tenant, m.DeviceID}
		d := by[key]
		if d == nil {
			d = &device{tenant: strings.Clone(m.Tenant), id: strings.Clone(m.DeviceID)}
			by[deviceID{d.tenant, d.id}] = d
			all = append(all, d)
		}
		d.see(m)
	}
	return all
}

func (d *device) key() deviceID { return deviceID{d.tenant, d.id} }

// write merges what rows say into the stored devices.
func (b *deviceBook) write(ctx context.Context, rows []store.MessageRow) error {
	said := gather(rows)
	stored := make([]storedDevice, len(said))
	left := b.remembered(said, stored)
	if err := b.reread(ctx, said, stored, left); err != nil {
		return err
	}
	left = left[:0]
	for i := range said {
		left = append(left, i)
	}
	for range roundsMax {
		if len(left) == 0 {
			return nil
		}
		out := b.put(ctx, said, stored, left)
		if out.err != nil {
			b.forget(said)
		}
		if err := out.fault(); err != nil {
			return fmt.Errorf("devices: %w", b.whose(err, rows, said))
		}
		left = out.conflicts
		if err := b.reread(ctx, said, stored, left); err != nil {
			return err
		}
	}
	return fmt.Errorf("devices: %w", errRounds)
}

// whose turns refused devices into the rows that spoke of them.
func (*deviceBook) whose(err error, rows []store.MessageRow, said []*device) error {
	refused, ok := err.(*store.Refused) //nolint:errorlint // fault returns it as it is
	if !ok {
		return err
	}
	why := make(map[deviceID]string)
	for i, device := range refused.Rows {
		why[said[device].key()] = refused.Reasons[i]
	}
	of := &store.Refused{}
	for i := range rows {
		if reason, ok := why[deviceID{rows[i].Tenant, rows[i].DeviceID}]; ok {
			of.Rows, of.Reasons = append(of.Rows, i), append(of.Reasons, reason)
		}
	}
	return of
}

// put writes the merged rows of some devices that are changed by what was said, and remembers them.
func (b *deviceBook) put(ctx context.Context, said []*device, stored []storedDevice, some []int) *outcome {
	send := b.db.newBulk(ctx)
	send.path, send.numbers = bulkPathNumbers, true
	index := b.db.name(store.TableDevices)
	merged := make(map[int]device)
	for _, i := range some {
		d := stored[i].device
		d.merge(said[i])
		if stored[i].term != 0 && d == stored[i].device {
			continue // a replay
		}
		action, members := "index", appendPlace(nil, stored[i].place)
		if stored[i].term == 0 {
			action, members = "create", nil
			d.tenant, d.id = said[i].tenant, said[i].id
		}
		merged[i] = d
		send.end(closeDocument(appendDevice(send.act(action, index, keyID(d.tenant, d.id), members, i), &d)))
	}
	out := send.wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.known)+len(merged) > devicesRemembered {
		clear(b.known)
	}
	for i, at := range out.numbers {
		d := merged[i]
		b.known[d.key()] = storedDevice{d, at}
	}
	return out
}

// remembered fills in the devices that are remembered, and returns the others.
func (b *deviceBook) remembered(said []*device, stored []storedDevice) (others []int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, d := range said {
		var ok bool
		if stored[i], ok = b.known[d.key()]; !ok {
			others = append(others, i)
		}
	}
	return others
}

func (b *deviceBook) forget(said []*device) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range said {
		delete(b.known, d.key())
	}
}

// reread reads some devices as they are stored.
func (b *deviceBook) reread(ctx context.Context, said []*device, stored []storedDevice, some []int) error {
	if len(some) == 0 {
		return nil
	}
	index := b.db.name(store.TableDevices)
	names := make([]name, len(some))
	for at, i := range some {
		names[at] = name{index, keyID(said[i].tenant, said[i].id)}
	}
	docs, err := b.db.readMany(ctx, names)
	if err != nil {
		return fmt.Errorf("devices: %w", err)
	}
	for at, i := range some {
		stored[i] = storedDevice{}
		if !docs[at].Found {
			continue
		}
		d, err := parseDevice(docs[at].Source)
		if err != nil {
			return fmt.Errorf("devices: %s: %w", docs[at].ID, err)
		}
		d.tenant, d.id = said[i].tenant, said[i].id
		stored[i] = storedDevice{d, docs[at].place()}
	}
	return nil
}

func appendDevice(dst []byte, d *device) []byte {
	dst = addText(dst, fieldTenant, d.tenant)
	dst = addText(dst, fieldDevice, d.id)
	dst = addText(dst, fieldType, d.kind)
	dst = addTime(dst, fieldTypeTime, d.typed)
	dst = addTime(dst, fieldFirstSeen, d.first)
	dst = addTime(dst, fieldLastSeen, d.last)
	if d.hasSession {
		dst = addTruth(dst, fieldConnected, d.connected)
		dst = append(appendTime(addName(dst, fieldSessionTime), d.session.time), ',')
		packed, err := store.PackPosition(d.session.Position)
		if err != nil {
			packed = -1 // not reached: such rows are refused
		}
		dst = addWhole(addWhole(dst, fieldSessionPart, int64(d.session.Partition)), fieldSessionPlace, packed)
	}
	dst = addTime(dst, fieldSince, d.since)
	dst = addTime(dst, fieldGone, d.gone)
	dst = addText(dst, fieldWhy, d.reason)
	dst = addText(dst, fieldAddress, d.address)
	dst = addText(dst, fieldClient, d.client)
	dst = addText(dst, fieldProtocol, d.protocol)
	return addText(dst, fieldCredential, d.account)
}

func parseDevice(source []byte) (device, error) {
	var s struct {
		Kind      string   `json:"device.model.identifier"`
		Typed     wireTime `json:"millrace.type_time"`
		First     wireTime `json:"millrace.first_seen"`
		Last      wireTime `json:"millrace.last_seen"`
		Connected *bool    `json:"millrace.connected"`
		Session   wireTime `json:"millrace.session.time"`
		Partition int32    `json:"millrace.session.partition"`
		Position  int64    `json:"millrace.session.position"`
		Since     wireTime `json:"millrace.connected_since"`
		Gone      wireTime `json:"millrace.disconnected_at"`
		Reason    string   `json:"millrace.disconnect_reason"`
		Address   string   `json:"client.address"`
		Client    string   `json:"millrace.client_id"`
		Protocol  string   `json:"network.protocol"`
		Account   string   `json:"millrace.credential"`
	}
	if err := json.Unmarshal(source, &s); err != nil {
		return device{}, err
	}
	d := device{
		kind: s.Kind, typed: telemetry.Time(s.Typed), first: telemetry.Time(s.First), last: telemetry.Time(s.Last),
		since: telemetry.Time(s.Since), gone: telemetry.Time(s.Gone),
		reason: s.Reason, address: s.Address, client: s.Client, protocol: s.Protocol, account: s.Account,
	}
	if s.Connected != nil {
		d.hasSession, d.connected = true, *s.Connected
		d.session = version{telemetry.Time(s.Session), bus.Origin{Partition: s.Partition, Position: store.UnpackPosition(s.Position)}}
	}
	return d, nil
}
