package window

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/telemetry"
)

// snapshotMagic begins every snapshot; the byte behind it is the version.
const snapshotMagic = "MRW"

const (
	snapshotBare    = 1 // without the lateness
	snapshotVersion = 2
)

// Snapshot implements worker.Stateful. It holds the specs of its windows and the lateness, so that a changed configuration is seen
// (see Restore), the clocks, the devices and their open windows. It costs about 60 bytes a window and 8 for each of its values.
func (t *Task) Snapshot(dst []byte) ([]byte, error) {
	n := len(t.series)
	if t.retired() == 0 {
		n = len(t.cfg.Specs)
	}
	dst = append(append(dst, snapshotMagic...), snapshotVersion)
	dst = appendTime(dst, t.lateness)
	dst = binary.AppendUvarint(dst, uint64(n))
	for i := range t.series[:n] {
		dst = appendSeries(dst, &t.series[i])
	}
	dst = appendTime(dst, t.newest)
	dst = binary.AppendUvarint(dst, uint64(len(t.list)))
	for _, d := range t.list {
		dst = appendDevice(dst, d, n)
	}
	return dst, nil
}

func appendSeries(dst []byte, s *series) []byte {
	dst = append(dst, byte(s.Kind))
	for _, d := range [...]time.Duration{s.Length, s.Hop, s.Gap} {
		dst = binary.AppendVarint(dst, int64(d))
	}
	return appendTime(dst, s.storedThrough)
}

func appendDevice(dst []byte, d *device, series int) []byte {
	dst = appendText(appendText(appendText(dst, d.tenant), d.id), d.kind)
	dst = appendTime(appendTime(dst, d.clock), d.heard)
	for _, closed := range d.closed[:series] {
		dst = appendTime(dst, closed)
	}
	dst = binary.AppendUvarint(dst, uint64(len(d.channels)))
	for _, c := range d.channels {
		dst = appendText(dst, c.key)
		for i := range c.lanes[:series] {
			dst = binary.AppendUvarint(dst, uint64(len(c.lanes[i].open)))
			for _, w := range c.lanes[i].open {
				dst = appendTime(appendTime(dst, w.start), w.end)
				dst = appendSummary(dst, &w.summary)
			}
		}
	}
	return dst
}

// Restore implements worker.Stateful, on a fresh task. Windows of a spec that the configuration has no more close before the
// next record is taken, with what they hold: a spec that comes back later is a new one, and not one that goes on with a gap. Of a spec
// that is new, windows begin with the next record; the first ones lack what came before it, unless the store still has a row that they
// complete. A window that closed under a shorter lateness stays closed. An error wraps ErrState, and the task is of no more use.
func (t *Task) Restore(state []byte) error {
	if !strings.HasPrefix(string(state[:min(len(state), len(snapshotMagic))]), snapshotMagic) {
		return fmt.Errorf("restore windows: begins with %q, want %q: %w", state[:min(len(state), len(snapshotMagic))], snapshotMagic, ErrState)
	}
	r := &reader{b: state, at: len(snapshotMagic)}
	lateness := t.readLateness(r)
	from, known := t.readSeries(r)
	if t.newest = r.time(); t.newest != minTime && !possible(t.newest) {
		r.fail("ingest time %d", t.newest)
	}
	for range r.length(1) {
		if r.err != nil {
			break
		}
		t.readDevice(r, from)
	}
	r.end()
	if r.err != nil {
		return fmt.Errorf("restore windows: %w", r.err)
	}
	t.changedConfig = len(t.series) > len(t.cfg.Specs) || lateness > t.lateness
	t.settleConfig(known, lateness)
	t.tellChanges(known, lateness)
	return nil
}

// tellChanges says how the configuration differs from that of the snapshot, and what becomes of its windows.
func (t *Task) tellChanges(known []bool, lateness telemetry.Time) {
	if t.cfg.Changed == nil {
		return
	}
	for i := range t.cfg.Specs {
		if !known[i] {
			t.cfg.Changed(fmt.Sprintf("windows %v are new: those under way hold what comes from now on, and what the store has of them", t.cfg.Specs[i]))
		}
	}
	for i := len(t.cfg.Specs); i < len(t.series); i++ {
		t.cfg.Changed(fmt.Sprintf("windows %v are no more: %d that were open are written with what they hold", t.series[i].Spec, t.openOf(i)))
	}
	if lateness != t.lateness {
		t.cfg.Changed(fmt.Sprintf("lateness was %v and is %v: what has closed stays closed, and is corrected",
			time.Duration(lateness), time.Duration(t.lateness)))
	}
}

// readLateness reads the version and the lateness that the snapshot was made with.
func (t *Task) readLateness(r *reader) telemetry.Time {
	switch v := r.byte(); v {
	case snapshotBare:
		return t.lateness
	case snapshotVersion:
		lateness := r.time()
		if lateness < 0 || lateness > eventTimeMax {
			r.fail("a lateness of %d", lateness)
		}
		return lateness
	default:
		r.fail("version %d, want at most %d", v, snapshotVersion)
		return 0
	}
}

// settleConfig makes good for what the configuration before the restart has stored.
func (t *Task) settleConfig(known []bool, lateness telemetry.Time) {
	for i := range t.cfg.Specs {
		s := &t.series[i]
		if known[i] || s.Kind == Session {
			continue
		}
		if t.newest != minTime { // an earlier configuration may have had this spec, for devices that are forgotten by now too
			s.storedThrough = max(s.storedThrough, s.last(t.newest))
		}
		for _, d := range t.list {
			s.storedThrough = max(s.storedThrough, s.last(d.clock))
		}
	}
	if lateness >= t.lateness {
		return
	}
	for _, d := range t.list { // else a record that is late would open anew what has closed, and its row replace the stored one
		for i := range d.closed {
			d.closed[i] = max(d.closed[i], d.clock-lateness)
		}
	}
}

// readSeries returns, for each series of the snapshot, its index in t.series, and which of those the snapshot knows.
func (t *Task) readSeries(r *reader) (from []int, known []bool) {
	known = make([]bool, len(t.series))
	for range r.length(1) {
		s := series{Spec: Spec{Kind: Kind(r.byte()), Length: r.duration(), Hop: r.duration(), Gap: r.duration()}}
		storedThrough := r.time()
		if r.err != nil {
			return nil, known
		}
		if !s.valid() {
			r.fail("windows %+v", s.Spec)
			return nil, known
		}
		at := -1
		for i := range t.series {
			if t.series[i].Spec == s.Spec {
				at = i
			}
		}
		if at < 0 {
			at = len(t.series)
			s = newSeries(s.Spec)
			s.retired = true
			t.series = append(t.series, s)
			known = append(known, false)
		}
		if known[at] {
			r.fail("windows %+v twice", s.Spec)
			return nil, known
		}
		known[at] = true
		t.series[at].storedThrough = storedThrough
		from = append(from, at)
	}
	return from, known
}

// valid says whether s can be computed with.
func (s *Spec) valid() bool {
	const most = time.Duration(eventTimeMax / 4)
	switch s.Kind {
	case Tumbling:
		return s.Length > 0 && s.Length < most
	case Hopping:
		return s.Hop > 0 && s.Length >= s.Hop && s.Length < most
	case Session:
		return s.Gap > 0 && s.Gap < most
	default:
		return false
	}
}

func (r *reader) duration() time.Duration { return time.Duration(r.varint()) }

func (t *Task) readDevice(r *reader, from []int) {
	key := deviceKey{r.text(), r.text()}
	if t.devices[key] != nil {
		r.fail("device %q twice", key.id)
	}
	if r.err != nil {
		return
	}
	d := t.newDevice(key)
	d.kind, d.clock, d.heard = r.text(), r.time(), r.time()
	if !possible(d.clock) || !possible(d.heard) {
		r.fail("device %q: its clock is at %d, heard at %d", d.id, d.clock, d.heard)
	}
	for _, at := range from {
		d.closed[at] = r.time()
	}
	seen := make(map[string]bool)
	for range r.length(1) {
		name := r.text()
		if seen[name] {
			r.fail("device %q: channel %q twice", d.id, name)
		}
		if r.err != nil {
			return
		}
		seen[name] = true
		c := t.newChannel(d, name)
		for _, at := range from {
			t.readWindows(r, d, c, at)
		}
	}
}

func (t *Task) readWindows(r *reader, d *device, c *channel, series int) {
	s := &t.series[series]
	const timeMax = eventTimeMax + eventTimeMax/2
	before := minTime
	for i := range r.length(1) {
		start, end := r.time(), r.time()
		if r.err != nil {
			return
		}
		if start < -timeMax || end > timeMax || start <= before || end <= start || s.Kind != Session && end-start != s.length {
			r.fail("device %q: a window from %d to %d", d.id, start, end)
			return
		}
		before = start
		w := t.openWindow(d, c, series, i, start, end)
		t.memory.readSummary(r, &w.summary)
		if r.err == nil && w.size() == 0 {
			r.fail("device %q: an empty window", d.id)
		}
	}
}
