package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
)

// The changes of an alarm, as Detail.Change says them.
const (
	ChangeRaised       = "raised"
	ChangeAcknowledged = "acknowledged"
	ChangeCleared      = "cleared"
	ChangeUpdated      = "updated" // it only counts up: nobody is notified
)

// Detail is what the column detail holds of an alarm, as a JSON object.
type Detail struct {
	Change         string `json:"change"`              // what this revision is
	Summary        string `json:"summary,omitempty"`   // the rule's sentence, filled in
	Condition      string `json:"condition,omitempty"` // what raised it
	Old            string `json:"old,omitempty"`       // the value before it was raised
	New            string `json:"new,omitempty"`       // the value that raised it
	Count          uint64 `json:"count,omitempty"`     // how often it happened while raised; event rules
	Flaps          uint32 `json:"flaps,omitempty"`     // how often it had nearly cleared
	Flapping       bool   `json:"flapping,omitempty"`  // it was raised too often, and clears only after a time of calm
	AcknowledgedBy string `json:"acknowledged_by,omitempty"`
	Note           string `json:"note,omitempty"`
	WindowStart    string `json:"window_start,omitempty"` // of the window that raised it
	Reason         string `json:"reason,omitempty"`       // why it was cleared, where that was not the rule
}

// alarm is one alarm.
type alarm struct {
	id                           string
	raised, acked, ended         telemetry.Time
	updated                      telemetry.Time // newest revision, in the rule's clock
	window                       telemetry.Time // start of the window that raised it
	oldText, newText             string
	value, previous              string // of the newest change
	revision                     uint32
	flaps                        uint32
	count                        uint64
	flapping                     bool
	ackedBy, note, summary, over string
}

// orphan is an alarm whose rule is gone or has become another one.
type orphan struct {
	rule, severity, condition, tenant, device, channel string
	alarm                                              *alarm
}

func (a *alarm) state() telemetry.AlarmState {
	switch {
	case a.ended != 0:
		return telemetry.AlarmCleared
	case a.acked != 0:
		return telemetry.AlarmAcknowledged
	default:
		return telemetry.AlarmRaised
	}
}

// alarmID names the alarm for good: 24 hexadecimal digits.
func alarmID(rule string, k key, raised telemetry.Time, cause bus.Origin) string {
	h := sha256.New()
	var b []byte
	for _, text := range []string{rule, k.tenant, k.device, k.channel} {
		b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
	}
	b = binary.AppendVarint(b, int64(raised))
	b = binary.AppendVarint(b, int64(cause.Partition))
	b = binary.AppendUvarint(b, cause.Seq)
	b = binary.AppendUvarint(b, uint64(cause.Index))
	_, _ = h.Write(b) // a hash never fails
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// raise begins an alarm.
func (e *Engine) raise(out *Output, t *track, at telemetry.Time, value, old string) {
	a := &alarm{
		id: alarmID(t.rule.Name, t.key, at, t.cause), raised: at, newText: cut(value), oldText: cut(old), flapping: e.flaps(t, at),
	}
	a.value, a.previous = a.newText, a.oldText
	if t.rule.event() {
		a.count = 1
	}
	if t.rule.On == Aggregates {
		a.window = t.judged.start
	}
	a.summary = t.rule.summary(t.key, a.newText, a.oldText)
	t.alarm, t.since, t.before, t.calm, t.fired, t.cause = a, 0, "", 0, at, bus.Origin{}
	e.byID[a.id] = t
	e.emit(out, t, a, at, ChangeRaised)
}

// clear ends t's alarm. It stays the track's last one, so that it may still be acknowledged.
func (e *Engine) clear(out *Output, t *track, at telemetry.Time, value, old, reason string) {
	a := t.alarm
	a.ended = max(at, a.raised)
	a.value, a.previous, a.over = cut(value), cut(old), reason
	if t.last != nil {
		delete(e.byID, t.last.id)
	}
	t.alarm, t.last, t.calm, t.fired = nil, a, 0, 0
	e.byID[a.id] = t
	e.emit(out, t, a, at, ChangeCleared)
}

// update makes a revision of an alarm that counts up.
func (e *Engine) update(out *Output, t *track, at telemetry.Time) {
	e.emit(out, t, t.alarm, at, ChangeUpdated)
}

func (e *Engine) emit(out *Output, t *track, a *alarm, at telemetry.Time, change string) {
	a.updated = at
	e.publish(out, orphan{
		rule: t.rule.Name, severity: t.rule.Severity, condition: t.rule.describe(),
		tenant: t.tenant, device: t.device, channel: t.channel, alarm: a,
	}, change)
}

// publish makes the next revision of an alarm: a row, and a record.
func (e *Engine) publish(out *Output, o orphan, change string) {
	a := o.alarm
	a.revision++
	row := telemetry.Alarm{
		AlarmID: a.id, Tenant: o.tenant, Rule: o.rule, DeviceID: o.device, ChannelKey: o.channel, Severity: o.severity,
		State: a.state(), Value: a.value, PreviousValue: a.previous, RaisedAt: a.raised, AckedAt: a.acked, ClearedAt: a.ended,
		Detail: a.detail(o.condition, change), Revision: a.revision,
	}
	out.Rows = append(out.Rows, row)
	out.Publish = append(out.Publish, worker.Publication{
		Topic: bus.Alarms, Record: bus.Record{Value: telemetry.AppendAlarm(nil, &row)},
	})
	e.hooks.Changed(o.rule, change)
}

func (a *alarm) detail(condition, change string) []byte {
	d := Detail{
		Change: change, Summary: a.summary, Condition: condition, Old: a.oldText, New: a.newText, Count: a.count, Flaps: a.flaps,
		Flapping: a.flapping, AcknowledgedBy: a.ackedBy, Note: a.note, Reason: a.over,
	}
	if a.window != 0 {
		d.WindowStart = a.window.Std().Format("2006-01-02T15:04:05.999999999Z07:00")
	}
	b, err := json.Marshal(d)
	if err != nil { // texts and numbers always marshal
		return fmt.Appendf(nil, "{%q:%q}", "change", change)
	}
	return b
}

// describe says what raises the rule's alarms.
func (r *Rule) describe() string {
	text := r.Condition.String()
	switch {
	case r.Silent > 0:
		text = "silent for " + r.Silent.String()
	case r.Rate != nil:
		text = "rate of change per " + r.Rate.Per.String()
		if r.Rate.Above != nil {
			text += fmt.Sprintf(" above %g", *r.Rate.Above)
		}
		if r.Rate.Below != nil {
			text += fmt.Sprintf(" below %g", *r.Rate.Below)
		}
	case text == "" && r.OnChange:
		text = "changed"
	case text == "" && r.On == Critical:
		text = "a critical log line"
	}
	if r.For > 0 {
		text += " for " + r.For.String()
	}
	return text
}

// summary fills the rule's sentence in.
func (r *Rule) summary(k key, value, old string) string {
	if r.Summary == "" {
		return ""
	}
	return cut(strings.NewReplacer("{rule}", r.Name, "{device}", k.device, "{channel}", k.channel, "{value}", value, "{old}", old).
		Replace(r.Summary))
}

// clearOrphans ends the alarms whose rules are gone.
func (e *Engine) clearOrphans(out *Output, now telemetry.Time) {
	for _, o := range e.orphans {
		o.alarm.ended = max(now, o.alarm.raised)
		o.alarm.over = "its rule was changed or taken away"
		e.publish(out, o, ChangeCleared)
	}
	e.orphans = nil
}
