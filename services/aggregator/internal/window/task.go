package window

import (
	"errors"
	"fmt"
	"hash/maphash"
	"strings"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
)

// Output is what a task gives: rows of windows that closed (Revision 1) and deltas (see IsDelta), and records of running values.
type Output = worker.Output[store.AggregateRow]

// Task computes the windows of one share. Make it with New. Its rows and records alias its memory until the next call that
// finds the output empty.
type Task struct {
	cfg      Config
	lateness telemetry.Time
	series   []series // those of the configuration, then retired ones
	stats    *Stats
	memory   *memory
	seed     maphash.Seed
	message  telemetry.Message // scratch
	single   summary           // scratch
	arena    []byte            // of the output's states and records

	newest  telemetry.Time // ingest time, of all records
	devices map[deviceKey]*device
	list    []*device // the same, in the order of their coming
	recent  *device   // of the last record
	open    int       // windows

	changedConfig bool // since the state was written, so some windows are to close first; see closeChanged

	changed     []*window // since their running values were published
	nextRunning telemetry.Time
	free        []*window
}

var (
	_ worker.Task[store.AggregateRow] = (*Task)(nil)
	_ worker.Stateful                 = (*Task)(nil)
)

type deviceKey struct{ tenant, id string }

// device is what is known of a device.
type device struct {
	deviceKey
	kind     string           // its type
	clock    telemetry.Time   // newest event time
	heard    telemetry.Time   // newest ingest time
	due      telemetry.Time   // no window closes before its device's clock, or that of the silent, gets here
	closed   []telemetry.Time // by series: the newest end of a window that closed because the device was silent
	channels []hashed
	byKey    map[string]*channel // nil while there are few channels
	open     int                 // windows
}

// hashed is a channel beside the hash of its key, so that the others' keys need not be looked at.
type hashed struct {
	hash uint64
	*channel
}

// channel holds the open windows of one channel, by series.
type channel struct {
	key   string
	lanes []lane
}

// lane holds the open windows of one series of one channel.
type lane struct {
	latest *window   // that took the last record; nil when it has closed
	open   []*window // in the order of their starts
}

// window is one open window.
type window struct {
	start, end telemetry.Time
	summary
	device  *device
	channel *channel
	series  int
	queued  bool // is in Task.changed
	dead    bool // closed while queued
}

const (
	maxTime = telemetry.Time(1<<63 - 1)
	// eventTimeMax is the furthest from 1970 that a time may be: it keeps the arithmetic of windows within 64 bits (about the years 1824 to 2116).
	eventTimeMax = telemetry.Time(1) << 62
	// byKeyFrom is the number of channels of a device from which a map finds one quicker than looking at all.
	byKeyFrom = 32
)

// New returns an empty task. stats may be shared by all tasks of a process.
func New(cfg Config, stats *Stats) (*Task, error) {
	m, err := newMemory()
	if err != nil {
		return nil, err
	}
	t := &Task{
		cfg: cfg, lateness: telemetry.Time(cfg.Lateness), stats: stats, memory: m, seed: maphash.MakeSeed(), newest: minTime,
		devices: make(map[deviceKey]*device),
	}
	for _, s := range cfg.Specs {
		t.series = append(t.series, newSeries(s))
	}
	return t, nil
}

// possible says whether windows can be computed of t.
func possible(t telemetry.Time) bool { return t >= -eventTimeMax && t <= eventTimeMax }

var errNoDevice = errors.New("device_id: empty, want the name of a device")

// Add implements worker.Task. It refuses what is no message, has no device, or has a value or a time that no window can hold.
func (t *Task) Add(out *Output, _ string, r bus.Record) error {
	m := &t.message
	if err := telemetry.ParseMessage(r.Value, m); err != nil {
		return fmt.Errorf("read the message: %w", err)
	}
	numeric := m.Kind == telemetry.KindChannel && m.HasValue
	switch {
	case m.DeviceID == "":
		return errNoDevice
	case numeric && !finite(m.Value):
		return fmt.Errorf("value: %v, want a finite number", m.Value)
	}
	if m.IngestTime == 0 {
		m.IngestTime = telemetry.Time(r.Time)
	}
	if !possible(m.EventTime) || !possible(m.IngestTime) {
		return fmt.Errorf("event_time %d, ingest_time %d: want at most %d ns from 1970", m.EventTime, m.IngestTime, eventTimeMax)
	}
	t.begin(out)
	t.closeChanged(out)
	t.newest = max(t.newest, m.IngestTime)
	d := t.device(m, numeric)
	if d != nil {
		t.hear(out, d, m)
	}
	if !numeric {
		return nil
	}
	p := point{time: m.EventTime, origin: r.Origin, value: m.Value}
	if p.value == 0 {
		p.value = 0 // not -0, which sorts anywhere among zeros
	}
	if d == nil {
		t.stats.beyondDevices.Add(1)
		t.bypass(out, m, &p)
		return nil
	}
	c := t.channel(d, m.ChannelKey)
	if c == nil {
		t.stats.beyondChannels.Add(1)
		t.bypass(out, m, &p)
		return nil
	}
	for i := range t.cfg.Specs {
		if t.series[i].Kind == Session {
			t.addToSession(d, c, i, &p)
		} else {
			t.addToWindows(out, d, c, i, &p)
		}
	}
	return nil
}

// begin reuses the arena once what lay in it is written.
func (t *Task) begin(out *Output) {
	const arenaMax = 16 << 20
	if len(out.Rows) > 0 || len(out.Publish) > 0 {
		return
	}
	if cap(t.arena) > arenaMax {
		t.arena = nil
	}
	t.arena = t.arena[:0]
}

// device returns m's device. Of one that is not known it returns nil, unless it is wanted and there is room for it.
func (t *Task) device(m *telemetry.Message, wanted bool) *device {
	key := deviceKey{m.Tenant, m.DeviceID}
	if d := t.recent; d != nil && d.deviceKey == key {
		return d
	}
	d := t.devices[key]
	if d == nil {
		if !wanted || len(t.list) >= t.cfg.DevicesMax {
			return nil
		}
		d = t.newDevice(deviceKey{strings.Clone(m.Tenant), strings.Clone(m.DeviceID)})
	}
	t.recent = d
	return d
}

func (t *Task) newDevice(key deviceKey) *device {
	d := &device{deviceKey: key, clock: minTime, heard: minTime, due: maxTime, closed: make([]telemetry.Time, len(t.series))}
	for i := range d.closed {
		d.closed[i] = minTime
	}
	t.devices[key] = d
	t.list = append(t.list, d)
	return d
}

// hear moves the clocks of d and closes what they pass.
func (t *Task) hear(out *Output, d *device, m *telemetry.Message) {
	d.heard = max(d.heard, m.IngestTime)
	if m.EventTime < d.clock {
		return
	}
	d.clock = m.EventTime
	if m.DeviceType != "" && m.DeviceType != d.kind {
		d.kind = strings.Clone(m.DeviceType)
	}
	if d.clock >= d.due {
		t.closeDue(out, d, func(*series) telemetry.Time { return d.clock - t.lateness }, false)
	}
}

// channel returns the channel of d, nil where there is no room for one more.
func (t *Task) channel(d *device, key string) *channel {
	if d.byKey != nil {
		if c := d.byKey[key]; c != nil {
			return c
		}
	} else {
		hash := maphash.String(t.seed, key)
		for i := range d.channels {
			if c := &d.channels[i]; c.hash == hash && c.key == key {
				return c.channel
			}
		}
	}
	if len(d.channels) >= t.cfg.ChannelsMax {
		return nil
	}
	return t.newChannel(d, strings.Clone(key))
}

func (t *Task) newChannel(d *device, key string) *channel {
	c := &channel{key: key, lanes: make([]lane, len(t.series))}
	d.channels = append(d.channels, hashed{maphash.String(t.seed, key), c})
	switch {
	case d.byKey != nil:
		d.byKey[key] = c
	case len(d.channels) >= byKeyFrom:
		d.byKey = make(map[string]*channel, 2*byKeyFrom)
		for _, c := range d.channels {
			d.byKey[c.key] = c.channel
		}
	}
	return c
}

// addToWindows adds p to the windows of series i that hold it.
func (t *Task) addToWindows(out *Output, d *device, c *channel, i int, p *point) {
	s, lane := &t.series[i], &c.lanes[i]
	start := s.last(p.time)
	if w := lane.latest; w != nil && w.start == start && s.Kind == Tumbling { // nearly always
		t.memory.add(&w.summary, p)
		t.touch(w)
		return
	}
	for ; start+s.length > p.time; start -= s.hop {
		end := start + s.length
		if end+t.lateness <= d.clock || end <= d.closed[i] {
			t.late(out, d, c, i, start, p)
			continue
		}
		at, w := find(lane.open, start)
		if w == nil {
			if t.open >= t.cfg.WindowsMax {
				t.stats.beyondWindows.Add(1)
				s.storedThrough = max(s.storedThrough, start)
				t.delta(out, &telemetry.Aggregate{Tenant: d.tenant, DeviceID: d.id, DeviceType: d.kind, ChannelKey: c.key}, s, start, p)
				continue
			}
			w = t.openWindow(d, c, i, at, start, end)
		}
		lane.latest = w
		t.memory.add(&w.summary, p)
		t.touch(w)
	}
}

// find returns the window with that start, else nil and the place where it belongs.
func find(open []*window, start telemetry.Time) (at int, w *window) {
	for at = len(open); at > 0; at-- {
		switch w := open[at-1]; {
		case w.start == start:
			return at - 1, w
		case w.start < start:
			return at, nil
		}
	}
	return 0, nil
}

// late makes a delta of a record whose window has closed, unless it comes too late for that.
func (t *Task) late(out *Output, d *device, c *channel, i int, start telemetry.Time, p *point) {
	s := &t.series[i]
	if t.cfg.CorrectWithin == 0 || start+s.length+t.lateness+telemetry.Time(t.cfg.CorrectWithin) <= d.clock {
		t.stats.tooLate.Add(1)
		return
	}
	t.stats.late.Add(1)
	t.delta(out, &telemetry.Aggregate{Tenant: d.tenant, DeviceID: d.id, DeviceType: d.kind, ChannelKey: c.key}, s, start, p)
}

// bypass makes deltas of a record that there is no room for.
func (t *Task) bypass(out *Output, m *telemetry.Message, p *point) {
	for i := range t.cfg.Specs {
		s := &t.series[i]
		if s.Kind == Session {
			t.stats.tooLate.Add(1)
			continue
		}
		for start := s.last(p.time); start+s.length > p.time; start -= s.hop {
			s.storedThrough = max(s.storedThrough, start)
			t.delta(out, &telemetry.Aggregate{
				Tenant: m.Tenant, DeviceID: m.DeviceID, DeviceType: m.DeviceType, ChannelKey: m.ChannelKey,
			}, s, start, p)
		}
	}
}

// delta appends the row of a part of a window that consists of p. It completes a, which names the channel.
func (t *Task) delta(out *Output, a *telemetry.Aggregate, s *series, start telemetry.Time, p *point) {
	t.memory.reset(&t.single)
	t.memory.add(&t.single, p)
	a.WindowStart, a.WindowLength, a.Final = start, int64(s.length), true
	t.memory.fill(a, &t.single)
	out.Rows = append(out.Rows, store.AggregateRow{Aggregate: *a, State: t.state(&t.single)})
}

// state returns the State of s, in the arena.
func (t *Task) state(s *summary) []byte {
	at := len(t.arena)
	t.arena = t.memory.appendState(t.arena, s)
	return t.arena[at:len(t.arena):len(t.arena)]
}
