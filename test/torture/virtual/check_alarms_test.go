package virtual

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	storemem "github.com/millrace/millrace/pkg/store/mem"
	"github.com/millrace/millrace/pkg/telemetry"
)

type rowsOfTables = storemem.Rows

// life is one alarm as the data call for it; cleared is 0 while it is raised.
type life struct {
	rule, device, channel string
	raised, cleared       telemetry.Time
}

func (l life) text(s *sim) string {
	if l.cleared == 0 {
		return fmt.Sprintf("%s %s/%s raised at %v", l.rule, l.device, l.channel, s.since(l.raised))
	}
	return fmt.Sprintf("%s %s/%s raised at %v, cleared at %v", l.rule, l.device, l.channel, s.since(l.raised), s.since(l.cleared))
}

// follower follows one rule for one channel.
type follower struct {
	lives  []life
	raised bool
	newest telemetry.Time
	known  bool
	text   string
	window telemetry.Aggregate // the newest that was judged
}

func (f *follower) raise(l life) {
	f.lives, f.raised = append(f.lives, l), true
}

func (f *follower) clear(at telemetry.Time) {
	f.lives[len(f.lives)-1].cleared, f.raised = at, false
}

// alarms holds the alarms against those that the data call for.
func (c *checker) alarms() {
	want := make(map[life]int)
	for _, f := range c.follow() {
		for _, l := range f.lives {
			want[l]++
		}
	}
	stored := make(map[string]telemetry.Alarm)
	for _, a := range c.rows.Alarms {
		stored[a.AlarmID] = a
		if a.Rule == "silent" {
			continue
		}
		l := life{a.Rule, a.DeviceID, a.ChannelKey, a.RaisedAt, a.ClearedAt}
		if want[l] == 0 {
			c.breachf("alarms: %s is not expected (%s)", l.text(c.sim), a.AlarmID)
			continue
		}
		want[l]--
	}
	for l, n := range want {
		if n > 0 {
			c.breachf("alarms: %s is lost", l.text(c.sim))
		}
	}
	c.silences()
	c.publishedAlarms(stored)
}

// silences holds the alarms of devices that say nothing against when the edge took what they say. Whether one is raised at all depends on
// who watched at the time, but none is raised while its device speaks, and at the end each device has fallen silent.
func (c *checker) silences() {
	const onItsWay = 2 * time.Second // what alerting grants a message between the edge and the log
	last := make(map[string]telemetry.Time)
	alarms := c.silentAlarms()
	for i := range c.ledger.kept {
		m := &c.ledger.kept[i]
		if m.Kind != telemetry.KindChannel {
			continue
		}
		last[m.DeviceID] = max(last[m.DeviceID], m.IngestTime)
		if c.ledger.onLog[m.Origin].Sub(m.IngestTime) > onItsWay {
			continue
		}
		for _, a := range alarms[m.DeviceID] {
			if heard := a.RaisedAt.Add(-silentFor); heard < m.IngestTime && m.IngestTime <= a.RaisedAt {
				c.breachf("alarms: %s is called silent from %v to %v, and %s came at %v", a.DeviceID, c.since(heard), c.since(a.RaisedAt), m.MessageID, c.since(m.IngestTime))
			}
		}
	}
	if c.plan.reroute > 0 {
		return // events count or do not
	}
	for device, at := range last {
		open := slices.DeleteFunc(slices.Clone(alarms[device]), func(a telemetry.Alarm) bool { return a.ClearedAt != 0 })
		if len(open) != 1 || open[0].RaisedAt != at.Add(silentFor) {
			c.breachf("alarms: %s spoke last at %v and is silent since, its alarms: %+v", device, c.since(at), alarms[device])
		}
	}
}

func (c *checker) silentAlarms() map[string][]telemetry.Alarm {
	all := make(map[string][]telemetry.Alarm)
	for _, a := range c.rows.Alarms {
		if a.Rule == "silent" {
			all[a.DeviceID] = append(all[a.DeviceID], a)
		}
	}
	return all
}

// follow computes the alarms in the order in which alerting saw what raises them.
func (c *checker) follow() map[string]*follower {
	all := make(map[string]*follower)
	of := func(rule, device, channel string) *follower {
		key := rule + " " + device + " " + channel
		if all[key] == nil {
			all[key] = new(follower)
		}
		return all[key]
	}
	for i := range c.ledger.kept {
		m := &c.ledger.kept[i]
		switch {
		case m.Kind == telemetry.KindLog && m.Severity == telemetry.SeverityCritical:
			if f := of("critical", m.DeviceID, ""); !f.raised {
				f.raise(life{rule: "critical", device: m.DeviceID, raised: m.EventTime})
			}
		case m.Kind == telemetry.KindChannel && m.ChannelKey == "temp":
			of("hot", m.DeviceID, "temp").hot(m.DeviceID, &m.Message)
		case m.Kind == telemetry.KindChannel && m.ChannelKey == "door":
			of("door", m.DeviceID, "door").door(m.DeviceID, &m.Message)
		}
	}
	for n := range c.plan.partitions {
		for _, r := range c.records(bus.Aggregates, n) {
			var a telemetry.Aggregate
			if telemetry.ParseAggregate(r.Value, &a) == nil && a.Final && a.WindowLength == int64(windowLengths()[0]) && a.ChannelKey == "hum" {
				of("window", a.DeviceID, "hum").judge(&a)
			}
		}
	}
	return all
}

func (f *follower) hot(device string, m *telemetry.Message) {
	if m.EventTime < f.newest {
		return
	}
	f.newest = m.EventTime
	switch {
	case !f.raised && m.Value > 48:
		f.raise(life{rule: "hot", device: device, channel: "temp", raised: m.EventTime})
	case f.raised && m.Value < 40:
		f.clear(m.EventTime)
	}
}

func (f *follower) door(device string, m *telemetry.Message) {
	if m.EventTime < f.newest {
		return
	}
	f.newest = m.EventTime
	text := string(m.ChannelValue)
	if f.known && text != f.text {
		if f.raised {
			f.clear(m.EventTime)
		}
		if text == "open" {
			f.raise(life{rule: "door", device: device, channel: "door", raised: m.EventTime})
		}
	}
	f.known, f.text = true, text
}

// judge looks at a window as rules on aggregates do: only at what is newer than what they have judged.
func (f *follower) judge(a *telemetry.Aggregate) {
	if f.known && (a.WindowStart < f.window.WindowStart || a.WindowStart == f.window.WindowStart && a.Revision <= f.window.Revision) {
		return
	}
	f.known, f.window = true, *a
	at := max(f.newest, a.WindowStart.Add(windowLengths()[0]))
	f.newest = at
	switch {
	case !f.raised && a.Max > 48:
		f.raise(life{rule: "window", device: a.DeviceID, channel: a.ChannelKey, raised: at})
	case f.raised && a.Max < 40:
		f.clear(at)
	}
}

// publishedAlarms reads [alarms] as a reader does that drops doubles by id and revision.
func (c *checker) publishedAlarms(stored map[string]telemetry.Alarm) {
	told := make(map[string]telemetry.Alarm)
	for n := range c.plan.partitions {
		for _, r := range c.records(bus.Alarms, n) {
			var a telemetry.Alarm
			if err := telemetry.ParseAlarm(r.Value, &a); err != nil {
				c.breachf("[alarms]: %v", err)
				continue
			}
			if old, ok := told[a.AlarmID]; !ok || a.Revision > old.Revision {
				told[a.AlarmID] = a
			}
		}
	}
	for id, a := range stored {
		t, ok := told[id]
		switch {
		case !ok:
			c.breachf("[alarms]: %s of %s was never published", id, a.Rule)
		case t.Revision != a.Revision || t.State != a.State || t.RaisedAt != a.RaisedAt || t.ClearedAt != a.ClearedAt:
			c.breachf("[alarms]: %s of %s is %s (revision %d), stored is %s (revision %d)", id, a.Rule, t.State, t.Revision, a.State, a.Revision)
		}
	}
	// What a store that is set back knew of times in which somebody watched comes from no log.
	setBack := slices.ContainsFunc(c.plan.events, func(e event) bool { return e.what == eventSetBack && e.table == store.TableAlarms })
	for _, id := range slices.Sorted(maps.Keys(told)) {
		if _, ok := stored[id]; !ok && (!setBack || told[id].Rule != "silent") {
			c.breachf("[alarms]: %s of %s, %s, was published and is not stored", id, told[id].Rule, told[id].DeviceID)
		}
	}
}
