package engine

import (
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/rules"
	"github.com/millrace/millrace/pkg/telemetry"
)

// The limits of what a track keeps of values, in bytes. On-change rules need the value before as a whole; of a longer one
// `old` is the beginning, and a change behind it is still seen, by its hash.
const (
	textMax       = 256
	changeTextMax = 16 << 10
	valueMax      = 1024 // of an alarm's texts: values, summary, an operator's name and note
)

// track is what is known of one rule for one device's channel. Its times are in the rule's clock: event time, of dead-man
// rules ingest time.
type track struct {
	key
	rule       *Rule
	prev, next *track // in list
	list       *list

	newest telemetry.Time // of what was heard
	seen   telemetry.Time // when, by our clock, newest was heard

	since  telemetry.Time // since when the condition has held, while pending; else 0
	cause  bus.Origin     // of what began it
	before string         // the value before it
	calm   telemetry.Time // since when the clear condition has held, while raised; else 0
	fired  telemetry.Time // when an event rule last fired; of a dead-man rule without an alarm, when it became another one

	known    bool   // the fields below hold the value that was heard last
	text     string // cut
	hash     uint64 // of the whole, where text is cut
	value    float64
	hasValue bool

	judged  judged
	samples samples
	raises  []telemetry.Time // within the flap window

	alarm *alarm // nil while not raised
	last  *alarm // the one before, cleared; nil where there was none
}

// judged is the window that an aggregate rule has looked at last.
type judged struct {
	start    telemetry.Time
	revision uint32
	final    bool
}

// before says whether w says something that was not judged before.
func (j judged) before(w *telemetry.Aggregate) bool {
	switch {
	case w.WindowStart != j.start:
		return w.WindowStart > j.start
	case !j.final:
		return true
	default:
		return w.Final && w.Revision > j.revision
	}
}

// track returns the track of k, a fresh one where there is none, or nil where there is no room.
func (e *Engine) track(k key) *track {
	if t := e.tracks[k]; t != nil {
		return t
	}
	if len(e.tracks) >= e.max {
		if e.idle.head == nil {
			e.hooks.Untracked(e.rules[k.rule].Name, k.device, k.channel)
			return nil
		}
		e.drop(e.idle.head)
	}
	k.tenant, k.device, k.channel = strings.Clone(k.tenant), strings.Clone(k.device), strings.Clone(k.channel)
	t := &track{key: k, rule: e.rules[k.rule]}
	e.tracks[k] = t
	e.idle.push(t)
	return t
}

func (e *Engine) drop(t *track) {
	t.list.remove(t)
	delete(e.tracks, t.key)
	for _, a := range []*alarm{t.alarm, t.last} {
		if a != nil {
			delete(e.byID, a.id)
		}
	}
}

// place puts t into the list where it belongs, and notes when its time will be up.
func (e *Engine) place(t *track) {
	if t.list == nil {
		return // dropped
	}
	want := &e.idle
	if t.alarm != nil || t.since != 0 || t.rule.Silent > 0 && t.newest != 0 {
		want = &e.busy
	}
	if t.list != want || want == &e.idle {
		t.list.remove(t)
		want.push(t)
	}
	if at, step := e.step(t); step != stepNone {
		due := at.Add(t.lag() + inFlight)
		if e.nextDue == 0 || due < e.nextDue {
			e.nextDue = due
		}
	}
}

// lag is by how much the track's clock is behind ours.
func (t *track) lag() time.Duration { return t.seen.Sub(t.newest) }

func (t *track) heard(at, seen telemetry.Time) {
	if at >= t.newest {
		t.newest, t.seen = at, seen
	}
}

// remember keeps the value in hand as the one before the next.
func (t *track) remember(text []byte, value float64, hasValue bool) {
	limit := textMax
	if t.rule.OnChange {
		limit = changeTextMax
	}
	if !t.known || !t.same(text) {
		t.text, t.hash = string(text[:min(limit, len(text))]), 0
		if len(text) > limit {
			t.hash = xxhash.Sum64(text)
		}
	}
	t.known, t.value, t.hasValue = true, value, hasValue
}

// same says whether text is the value that was heard last.
func (t *track) same(text []byte) bool {
	if t.hash != 0 {
		return len(text) > len(t.text) && xxhash.Sum64(text) == t.hash
	}
	return t.text == string(text)
}

// shown is the value that was heard last, as an alarm shows it; of a dead-man rule it is when the device was last heard.
func (t *track) shown() string {
	switch {
	case t.rule.Silent > 0 && t.newest != 0:
		return t.newest.Std().Format(time.RFC3339)
	case t.hash != 0:
		return strings.ToValidUTF8(t.text, "") + "…"
	}
	return t.text
}

func (t *track) previous() rules.Previous {
	return rules.Previous{Known: t.known, Text: []byte(t.text), Value: t.value, HasValue: t.hasValue}
}

// What happens next to a track if nothing is heard.
type step uint8

const (
	stepNone step = iota
	stepRaise
	stepClear
	stepRelapse // a device that had come back is silent again
)

// step returns what happens next, and when.
func (e *Engine) step(t *track) (at telemetry.Time, what step) {
	if t.rule.Silent > 0 {
		return e.stepSilent(t)
	}
	switch {
	case t.alarm == nil && t.since != 0:
		return t.since.Add(t.rule.For), stepRaise
	case t.alarm == nil:
		return 0, stepNone
	}
	hold := e.hold(t)
	switch {
	case t.rule.event() && t.rule.ClearFor > 0:
		return t.fired.Add(hold), stepClear
	case !t.rule.event() && t.calm != 0:
		return t.calm.Add(hold), stepClear
	}
	return 0, stepNone
}

func (e *Engine) stepSilent(t *track) (at telemetry.Time, what step) {
	silent := max(t.newest, e.watched).Add(t.rule.Silent)
	switch {
	case t.newest == 0:
		return 0, stepNone
	case t.alarm == nil:
		return silent, stepRaise
	case t.calm == 0:
		return 0, stepNone
	}
	if at := t.calm.Add(e.hold(t)); at <= silent {
		return at, stepClear
	}
	return silent, stepRelapse
}

// hold is how long there must be calm before t's alarm clears.
func (e *Engine) hold(t *track) time.Duration {
	if t.alarm.flapping && e.flap.Max > 0 {
		return max(t.rule.ClearFor, e.flap.Window)
	}
	return t.rule.ClearFor
}

// settle lets happen what was due until now, in the track's clock.
func (e *Engine) settle(out *Output, t *track, now telemetry.Time) {
	for {
		at, what := e.step(t)
		if what == stepNone || at > now {
			return
		}
		switch what {
		case stepRaise:
			if t.rule.Silent > 0 {
				at = t.newest.Add(t.rule.Silent)                                   // and not later because nobody listened for a while: it names the alarm
				t.cause = bus.Origin{Position: bus.Position{Seq: uint64(t.fired)}} //nolint:gosec // zero, but for a rule that was changed
			}
			e.raise(out, t, at, t.shown(), t.before)
		case stepClear:
			e.clear(out, t, at, t.shown(), t.alarm.value, "")
		case stepRelapse:
			t.calm = 0
			t.alarm.flaps++
		case stepNone:
		}
	}
}

// signal tells t what a record said, once everything before it is settled.
func (e *Engine) signal(out *Output, t *track, s *signal) {
	if t.rule.event() {
		e.signalEvent(out, t, s)
		return
	}
	if t.alarm == nil {
		switch {
		case !s.raise:
			t.since, t.before = 0, ""
			return
		case t.since == 0:
			t.since, t.cause, t.before = s.at, s.origin, t.shown()
		}
		if at := t.since.Add(t.rule.For); at <= s.at {
			e.raise(out, t, at, s.value, t.before)
		}
		return
	}
	if s.raise || !s.clear {
		if t.calm != 0 {
			t.calm = 0
			t.alarm.flaps++
		}
		return
	}
	if t.calm == 0 {
		t.calm = s.at
	}
	if at := t.calm.Add(e.hold(t)); at <= s.at {
		e.clear(out, t, at, s.value, t.shown(), "")
	}
}

// signalEvent is signal for a rule that raises because something happened.
func (e *Engine) signalEvent(out *Output, t *track, s *signal) {
	switch {
	case !s.raise && t.alarm != nil && s.clear:
		e.clear(out, t, s.at, s.value, t.shown(), "")
	case !s.raise:
	case t.alarm == nil:
		t.cause = s.origin
		e.raise(out, t, s.at, s.value, t.shown())
	case t.rule.OnChange: // each change is an alarm of its own
		e.clear(out, t, s.at, s.value, t.shown(), "")
		t.cause = s.origin
		e.raise(out, t, s.at, s.value, t.shown())
	default:
		t.fired = max(t.fired, s.at)
		a := t.alarm
		a.count++
		a.previous, a.value = a.value, cut(s.value)
		if s.at >= a.updated.Add(updateEvery) {
			e.update(out, t, s.at)
		}
	}
}

// flaps notes that t is raised at at, and says whether that is too often.
func (e *Engine) flaps(t *track, at telemetry.Time) bool {
	if e.flap.Max <= 0 || t.rule.OnChange {
		return false
	}
	from := at.Add(-e.flap.Window)
	t.raises = slices.DeleteFunc(t.raises, func(r telemetry.Time) bool { return r <= from })
	t.raises = append(t.raises, at)
	if len(t.raises) > e.flap.Max {
		t.raises = t.raises[len(t.raises)-e.flap.Max:]
	}
	return len(t.raises) >= e.flap.Max
}

// cut returns a copy of text of at most valueMax bytes, which ends with … where there was more.
func cut(text string) string {
	if len(text) <= valueMax {
		return strings.Clone(text)
	}
	return strings.ToValidUTF8(text[:valueMax-len("…")], "") + "…"
}

// list is a list of tracks through their own links.
type list struct {
	head, tail *track
	n          int
}

func (l *list) push(t *track) {
	t.list, t.prev, t.next = l, l.tail, nil
	if l.tail == nil {
		l.head = t
	} else {
		l.tail.next = t
	}
	l.tail = t
	l.n++
}

func (l *list) remove(t *track) {
	if t.prev == nil {
		l.head = t.next
	} else {
		t.prev.next = t.next
	}
	if t.next == nil {
		l.tail = t.prev
	} else {
		t.next.prev = t.prev
	}
	t.list, t.prev, t.next = nil, nil, nil
	l.n--
}
