package mem

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// Device is a row of devices.
type Device struct {
	Tenant, DeviceID, DeviceType string
	FirstSeen, LastSeen          telemetry.Time
	Session                      *telemetry.Session // as of the newest session message; nil where there was none
	SessionBegan, SessionEnded   telemetry.Time
	Begin                        telemetry.Session // what the newest begin said
	Credential                   string
}

type deviceKey struct{ tenant, device string }

// device is a Device and what orders its changes.
type device struct {
	Device
	typed   store.MessageRow // the newest message that named a type
	session store.MessageRow // the newest of KindSession
}

// states is device_state and devices.
type states struct {
	core[store.MessageRow]
	all     map[channelKey]store.MessageRow
	devices map[deviceKey]device
}

func newStates() *states {
	s := &states{
		core: newCore[store.MessageRow](store.TableState), all: make(map[channelKey]store.MessageRow),
		devices: make(map[deviceKey]device),
	}
	s.put = func(rows []store.MessageRow) {
		for i := range rows {
			r := cloneMessage(&rows[i])
			s.hear(&r)
			if r.Kind != telemetry.KindChannel && r.Kind != telemetry.KindEvent {
				continue
			}
			key := channelKey{r.Tenant, r.DeviceID, r.ChannelKey}
			if old, ok := s.all[key]; !ok || store.Newer(&r, &old) {
				s.all[key] = r
			}
		}
	}
	return s
}

func (s *states) rows() []store.MessageRow {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.all))
}

func (s *states) replace(o *states) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	s.all, s.devices = maps.Clone(o.all), maps.Clone(o.devices)
	s.core.replace(&o.core)
}

// hear updates the row of devices. The end of a session is not heard from the device.
func (s *states) hear(r *store.MessageRow) {
	key := deviceKey{r.Tenant, r.DeviceID}
	d := s.devices[key]
	d.Tenant, d.DeviceID = r.Tenant, r.DeviceID
	if r.Kind == telemetry.KindSession && (d.Session == nil || store.Newer(r, &d.session)) {
		d.turn(r)
	}
	if r.Kind != telemetry.KindSession || d.Session != nil && d.Session.Connected {
		if d.FirstSeen == 0 || r.IngestTime < d.FirstSeen {
			d.FirstSeen = r.IngestTime
		}
		d.LastSeen = max(d.LastSeen, r.IngestTime)
	}
	if r.DeviceType != "" && (d.DeviceType == "" || r.IngestTime >= d.typed.IngestTime) {
		d.DeviceType, d.typed = r.DeviceType, *r
	}
	s.devices[key] = d
}

// turn takes what a session message says, unless it cannot be read.
func (d *device) turn(r *store.MessageRow) {
	var said telemetry.Session
	if json.Unmarshal(r.ChannelValue, &said) != nil {
		return
	}
	d.session, d.Session, d.Credential = *r, &said, r.Credential
	if said.Connected {
		d.Begin, d.SessionBegan, d.SessionEnded = said, r.EventTime, 0
		return
	}
	d.SessionEnded = r.EventTime
}

// Devices returns the rows of devices that are on disk.
func (s *Store) Devices() []Device {
	t := s.disk.state
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]Device, 0, len(t.devices))
	for _, d := range t.devices {
		all = append(all, d.Device)
	}
	return all
}
