package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/rules"
	"github.com/millrace/millrace/pkg/telemetry"
)

// snapshotVersion is the first byte of a snapshot. A state of another version is refused: it is never guessed at.
const snapshotVersion = 1

var errSnapshot = errors.New("snapshot of alerting: not the bytes that Snapshot wrote")

// Snapshot appends the state to dst: the version, our clock, the rules by name and fingerprint, the tracks (those that are
// busy, then those that are idle in the order in which they give way), and the alarms whose rules are gone. Numbers are varints,
// texts and lists are preceded by their length.
func (e *Engine) Snapshot(dst []byte) ([]byte, error) {
	w := snapshotWriter{b: append(dst, snapshotVersion)}
	w.time(e.clock)
	w.time(e.watched)
	w.number(uint64(len(e.rules)))
	for _, r := range e.rules {
		w.text(r.Name)
		w.b = binary.LittleEndian.AppendUint64(w.b, r.fingerprint())
		w.text(r.Severity)
		w.text(r.describe())
	}
	w.number(uint64(e.busy.n + e.idle.n)) //nolint:gosec // not negative
	for t := e.busy.head; t != nil; t = t.next {
		w.track(t)
	}
	for t := e.idle.head; t != nil; t = t.next {
		w.track(t)
	}
	w.number(uint64(len(e.orphans)))
	for i := range e.orphans {
		o := &e.orphans[i]
		for _, text := range []string{o.rule, o.severity, o.condition, o.tenant, o.device, o.channel} {
			w.text(text)
		}
		w.alarm(o.alarm)
	}
	return w.b, nil
}

// Restore reads what Snapshot wrote. The alarms of a rule that is gone, or that is another one now, are cleared with the next
// Tick, with that reason; what was heard is kept for the other one where it looks at the same (see inherit), the rest of what is known is
// dropped. Each such rule is told to Hooks.RuleChanged. Tracks beyond TracksMax give way as they do on a message.
func (e *Engine) Restore(state []byte) error {
	if len(state) == 0 {
		return errSnapshot
	}
	if state[0] != snapshotVersion {
		return fmt.Errorf("snapshot of alerting: version %d, want %d", state[0], snapshotVersion)
	}
	r := &snapshotReader{b: state[1:]}
	e.clock, e.watched = r.time(), r.time()
	saved := r.rules(e.rules)
	for range r.count() {
		t := new(track)
		at := r.track(t)
		if r.failed || at >= len(saved) {
			return errSnapshot
		}
		if err := e.adopt(t, &saved[at]); err != nil {
			return err
		}
	}
	for range r.count() {
		var o orphan
		for _, text := range []*string{&o.rule, &o.severity, &o.condition, &o.tenant, &o.device, &o.channel} {
			*text = r.text()
		}
		if o.alarm = r.alarm(); o.alarm == nil || r.failed {
			return errSnapshot
		}
		e.orphans = append(e.orphans, o)
	}
	if r.failed || len(r.b) > 0 {
		return fmt.Errorf("%w (%d bytes left over)", errSnapshot, len(r.b))
	}
	for len(e.tracks) > e.max && e.idle.head != nil {
		e.drop(e.idle.head)
	}
	for i := range saved {
		if s := &saved[i]; s.now < 0 {
			e.hooks.RuleChanged(s.name, s.named >= 0, s.alarms, s.kept)
		}
	}
	return nil
}

// adopt takes a track that was read, or makes an orphan of its alarm.
func (e *Engine) adopt(t *track, r *savedRule) error {
	if r.now < 0 {
		if t.alarm != nil {
			r.alarms++
			e.orphans = append(e.orphans, orphan{
				rule: r.name, severity: r.severity, condition: r.condition,
				tenant: t.tenant, device: t.device, channel: t.channel, alarm: t.alarm,
			})
		}
		if r.named < 0 {
			return nil
		}
		heard := e.rules[r.named].inherit(t, e.clock)
		if heard == nil {
			return nil
		}
		r.kept++
		t, r = heard, &savedRule{name: r.name, now: r.named}
	}
	t.key.rule, t.rule = r.now, e.rules[r.now]
	if e.tracks[t.key] != nil {
		return fmt.Errorf("%w: %s of device %q, channel %q twice", errSnapshot, r.name, t.device, t.channel)
	}
	e.tracks[t.key] = t
	e.idle.push(t)
	for _, a := range []*alarm{t.last, t.alarm} {
		if a != nil {
			e.byID[a.id] = t
		}
	}
	e.place(t)
	return nil
}

// inherit returns a track that knows of old only what was heard, and nothing of what a former rule of this name made of it; nil
// where the two do not look at the same. Without it a device that had fallen silent when a dead-man rule was changed would never be
// missed again, and the first change after a restart would be none.
func (r *Rule) inherit(old *track, now telemetry.Time) *track {
	wanted := r.wantsDevice(old.device) && (r.perDevice() || r.wants(rules.Key{DeviceID: old.device, ChannelKey: old.channel}))
	if r.On == Aggregates || r.perDevice() != (old.channel == "") || !wanted {
		return nil
	}
	t := &track{key: old.key, newest: old.newest, seen: old.seen}
	switch {
	case r.Silent > 0:
		t.newest = old.seen // its clock is ours
		// It tells apart the alarm of this rule from that of the former one, which may be of the same silence.
		t.fired = now
	case !old.known: // nothing but that the device lives
		return nil
	default:
		t.known, t.text, t.hash, t.value, t.hasValue = true, old.text, old.hash, old.value, old.hasValue
	}
	return t
}

// savedRule is a rule as of a snapshot.
type savedRule struct {
	name, severity, condition string
	now                       int // its place among today's rules, or -1
	named                     int // the place of today's rule of the same name, or -1
	alarms, kept              int // alarms that become orphans, and tracks whose hearing another rule inherits
}

type snapshotWriter struct{ b []byte }

func (w *snapshotWriter) number(v uint64)       { w.b = binary.AppendUvarint(w.b, v) }
func (w *snapshotWriter) time(t telemetry.Time) { w.b = binary.AppendVarint(w.b, int64(t)) }
func (w *snapshotWriter) text(s string)         { w.number(uint64(len(s))); w.b = append(w.b, s...) }

func (w *snapshotWriter) float(v float64) {
	w.b = binary.LittleEndian.AppendUint64(w.b, math.Float64bits(v))
}
func (w *snapshotWriter) position(p bus.Position) { w.number(p.Seq); w.number(uint64(p.Index)) }

// flags writes up to eight bits.
func (w *snapshotWriter) flags(set ...bool) {
	var b byte
	for i, on := range set {
		if on {
			b |= 1 << i
		}
	}
	w.b = append(w.b, b)
}

func (w *snapshotWriter) track(t *track) {
	w.number(uint64(t.key.rule)) //nolint:gosec // an index
	w.text(t.tenant)
	w.text(t.device)
	w.text(t.channel)
	w.flags(t.known, t.hasValue, t.judged.final, t.since != 0, t.judged.start != 0, t.alarm != nil, t.last != nil, t.hash != 0)
	w.time(t.newest)
	w.time(t.seen)
	if t.since != 0 {
		w.time(t.since)
		w.number(uint64(uint32(t.cause.Partition))) //nolint:gosec // partitions are not negative
		w.position(t.cause.Position)
		w.text(t.before)
	}
	w.time(t.calm)
	w.time(t.fired)
	if t.known {
		w.text(t.text)
	}
	if t.hash != 0 {
		w.b = binary.LittleEndian.AppendUint64(w.b, t.hash)
	}
	if t.hasValue {
		w.float(t.value)
	}
	if t.judged.start != 0 {
		w.time(t.judged.start)
		w.number(uint64(t.judged.revision))
	}
	w.number(uint64(len(t.samples)))
	for _, s := range t.samples {
		w.time(s.at)
		w.float(s.value)
	}
	w.number(uint64(len(t.raises)))
	for _, at := range t.raises {
		w.time(at)
	}
	if t.alarm != nil {
		w.alarm(t.alarm)
	}
	if t.last != nil {
		w.alarm(t.last)
	}
}

func (w *snapshotWriter) alarm(a *alarm) {
	w.flags(a.flapping)
	for _, at := range []telemetry.Time{a.raised, a.acked, a.ended, a.updated, a.window} {
		w.time(at)
	}
	for _, text := range []string{a.id, a.oldText, a.newText, a.value, a.previous, a.ackedBy, a.note, a.summary, a.over} {
		w.text(text)
	}
	w.number(uint64(a.revision))
	w.number(uint64(a.flaps))
	w.number(a.count)
}

// snapshotReader reads what a snapshotWriter wrote; after a fault everything it reads is zero.
type snapshotReader struct {
	b      []byte
	failed bool
}

func (r *snapshotReader) fail() {
	r.failed = true
	r.b = nil
}

func (r *snapshotReader) number() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *snapshotReader) small() uint32 {
	v := r.number()
	if v > math.MaxUint32 {
		r.fail()
		return 0
	}
	return uint32(v)
}

// count reads the length of a list, each of whose entries takes at least a byte.
func (r *snapshotReader) count() int {
	v := r.number()
	if v > uint64(len(r.b)) {
		r.fail()
		return 0
	}
	return int(v) //nolint:gosec // bounded above
}

func (r *snapshotReader) time() telemetry.Time {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return telemetry.Time(v)
}

func (r *snapshotReader) bytes(n int) []byte {
	if n > len(r.b) {
		r.fail()
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *snapshotReader) text() string { return string(r.bytes(r.count())) }

func (r *snapshotReader) fixed() uint64 {
	b := r.bytes(8)
	if len(b) < 8 {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}

func (r *snapshotReader) float() float64 { return math.Float64frombits(r.fixed()) }

func (r *snapshotReader) position() bus.Position {
	return bus.Position{Seq: r.number(), Index: r.small()}
}

func (r *snapshotReader) flags() (set [8]bool) {
	b := r.bytes(1)
	if len(b) == 0 {
		return set
	}
	for i := range set {
		set[i] = b[0]&(1<<i) != 0
	}
	return set
}

func (r *snapshotReader) rules(today []*Rule) []savedRule {
	saved := make([]savedRule, 0, len(today))
	for range r.count() {
		s := savedRule{name: r.text(), now: -1, named: -1}
		mark := r.fixed()
		s.severity, s.condition = r.text(), r.text()
		for i, rule := range today {
			if rule.Name != s.name {
				continue
			}
			s.named = i
			if rule.fingerprint() == mark {
				s.now = i
			}
		}
		saved = append(saved, s)
		if r.failed {
			break
		}
	}
	return saved
}

// track reads into t and returns the place of its rule among those that were saved.
func (r *snapshotReader) track(t *track) (rule int) {
	rule = int(r.small())
	t.tenant, t.device, t.channel = r.text(), r.text(), r.text()
	f := r.flags()
	t.known, t.hasValue, t.judged.final = f[0], f[1], f[2]
	t.newest, t.seen = r.time(), r.time()
	if f[3] {
		t.since = r.time()
		t.cause.Partition = int32(r.small()) //nolint:gosec // as it was written
		t.cause.Position = r.position()
		t.before = r.text()
	}
	t.calm, t.fired = r.time(), r.time()
	if t.known {
		t.text = r.text()
	}
	if f[7] {
		t.hash = r.fixed()
	}
	if t.hasValue {
		t.value = r.float()
	}
	if f[4] {
		t.judged.start, t.judged.revision = r.time(), r.small()
	}
	for range r.count() {
		t.samples = append(t.samples, sample{r.time(), r.float()})
	}
	for range r.count() {
		t.raises = append(t.raises, r.time())
	}
	if f[5] {
		t.alarm = r.alarm()
	}
	if f[6] {
		t.last = r.alarm()
	}
	return rule
}

func (r *snapshotReader) alarm() *alarm {
	a := &alarm{flapping: r.flags()[0]}
	for _, at := range []*telemetry.Time{&a.raised, &a.acked, &a.ended, &a.updated, &a.window} {
		*at = r.time()
	}
	for _, text := range []*string{&a.id, &a.oldText, &a.newText, &a.value, &a.previous, &a.ackedBy, &a.note, &a.summary, &a.over} {
		*text = r.text()
	}
	a.revision, a.flaps, a.count = r.small(), r.small(), r.number()
	return a
}
