package engine

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

var errUnknownAlarm = errors.New("no such alarm is raised, or was the last one of its rule, device and channel")

// wish is the Detail of a command.
type wish struct {
	By   string `json:"by"`
	Note string `json:"note"`
}

// addCommand takes an operator's wish. Acknowledging twice changes nothing. Acknowledging an alarm that has cleared sets only
// the time and the name; one that nothing else would ever clear is cleared by it. The state cleared ends an alarm whatever its
// rule says, and forgets what was known of the device's channel: it is for devices that are gone for good.
func (e *Engine) addCommand(out *Output, r bus.Record) error {
	c := &e.command
	if err := telemetry.ParseAlarm(r.Value, c); err != nil {
		return fmt.Errorf("alerting: %w", err)
	}
	if c.State != telemetry.AlarmAcknowledged && c.State != telemetry.AlarmCleared {
		return fmt.Errorf("alarm %.64q: state %.64q, want acknowledged or cleared", c.AlarmID, c.State)
	}
	var w wish
	if len(c.Detail) > 0 {
		if err := json.Unmarshal(c.Detail, &w); err != nil {
			return fmt.Errorf("alarm %.64q: detail: want a JSON object with the texts by and note: %w", c.AlarmID, err)
		}
	}
	t := e.byID[c.AlarmID]
	if t == nil {
		return fmt.Errorf("alarm %.64q: %w", c.AlarmID, errUnknownAlarm)
	}
	at := telemetry.Time(r.Time)
	if c.State == telemetry.AlarmCleared {
		e.dismiss(out, t, at, w)
		return nil
	}
	a := t.alarm
	if a == nil || a.id != c.AlarmID {
		a = t.last
	}
	if a.acked != 0 {
		return nil
	}
	a.acknowledge(at, w)
	if a == t.alarm && t.rule.endsByAck() {
		e.clear(out, t, max(at, t.newest), t.shown(), t.alarm.value, "acknowledged")
	} else {
		e.emit(out, t, a, a.updated, ChangeAcknowledged)
	}
	e.place(t)
	return nil
}

func (a *alarm) acknowledge(at telemetry.Time, w wish) {
	a.acked, a.ackedBy, a.note = max(at, 1), cut(w.By), cut(w.Note)
}

// dismiss ends t's alarm, if there is one, and forgets t.
func (e *Engine) dismiss(out *Output, t *track, at telemetry.Time, w wish) {
	if t.alarm == nil || t.alarm.id != e.command.AlarmID {
		return
	}
	if t.alarm.acked == 0 {
		t.alarm.acknowledge(at, w)
	}
	e.clear(out, t, at, t.shown(), t.alarm.value, "cleared by an operator")
	e.drop(t)
}
