package virtual

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	historywriter "github.com/millrace/millrace/services/history-writer"
	"github.com/millrace/millrace/services/router"
)

// ledger is what should have become of everything that [ingested] holds.
type ledger struct {
	kept    []store.MessageRow // the first of each id, in the order of each device
	letters map[string]int     // the dead letters that must be there, once each
	repeats int
	ids     map[bus.Origin]string
	onLog   map[bus.Origin]telemetry.Time // when the log took it
}

// check returns every breach that the tables and the log show.
func (s *sim) check() []string {
	c := &checker{sim: s, rows: s.keep.Rows()}
	c.accept()
	c.messages("device_messages", c.rows.Messages, c.wantHistory())
	c.messages("segments", c.rows.Segments, c.wantHistory())
	c.messages("logs", c.rows.Logs, c.want(telemetry.KindLog))
	c.deadLetters()
	c.states()
	c.windows()
	c.alarms()
	return c.found
}

type checker struct {
	*sim
	rows   rowsOfTables
	ledger ledger
	found  []string
}

func (c *checker) breachf(format string, args ...any) {
	c.found = append(c.found, fmt.Sprintf(format, args...))
}

// accept reads [ingested] as the router should have, and holds it against what was acknowledged.
func (c *checker) accept() {
	l := &c.ledger
	l.letters, l.ids, l.onLog = make(map[string]int), make(map[bus.Origin]string), make(map[bus.Origin]telemetry.Time)
	there, stranded := make(map[string]bool), c.stranded()
	for n := range c.plan.partitions {
		for _, r := range c.records(bus.Ingested, n) {
			origin := bus.Origin{Partition: int32(n), Position: r.Position}
			var m telemetry.Message
			if err := telemetry.ParseMessage(r.Value, &m); err != nil {
				id := garbageID(r.Value)
				there[id], l.ids[origin] = true, id
				l.letters[letterKey(router.Worker, bus.Ingested, origin)]++
				continue
			}
			l.ids[origin], l.onLog[origin] = m.MessageID, telemetry.Time(r.Time)
			if there[m.MessageID] {
				l.repeats++
				continue
			}
			there[m.MessageID] = true
			if stranded[origin] { // no reader would take it any more: it is to be put back by hand
				l.letters[letterKey(router.Worker, bus.Ingested, origin)]++
				continue
			}
			l.kept = append(l.kept, store.MessageRow{Message: m.Clone(), Origin: origin})
			if m.ChannelType == refuseMessages {
				l.letters[letterKey(historywriter.Worker, bus.Ingested, origin)]++
				l.letters[letterKey(historywriter.ArchiveWorker, bus.Ingested, origin)]++
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.acked)) {
		if !there[id] {
			c.breachf("ingested: %s was acknowledged and is lost", id)
		}
	}
	for id := range there {
		if !c.sent[id] {
			c.breachf("ingested: %s was never sent", id)
		}
	}
}

// stranded returns what the router says it could not send anywhere since the routes were changed; none where they were not.
func (c *checker) stranded() map[bus.Origin]bool {
	all := make(map[bus.Origin]bool)
	for i := range c.rows.DeadLetters {
		d := &c.rows.DeadLetters[i]
		if at, err := bus.ParsePosition(d.Position); err == nil && c.plan.reroute > 0 && d.Worker == router.Worker && strings.Contains(d.Reason, "were changed") {
			all[bus.Origin{Partition: d.Partition, Position: at}] = true
		}
	}
	return all
}

func letterKey(worker, topic string, origin bus.Origin) string {
	return fmt.Sprintf("%s %s %d %s", worker, topic, origin.Partition, origin.Position)
}

// want returns the messages of those kinds.
func (c *checker) want(kinds ...telemetry.Kind) []store.MessageRow {
	var all []store.MessageRow
	for _, m := range c.ledger.kept {
		if slices.Contains(kinds, m.Kind) {
			all = append(all, m)
		}
	}
	return all
}

func (c *checker) wantHistory() []store.MessageRow {
	return slices.DeleteFunc(c.want(telemetry.KindChannel, telemetry.KindEvent), func(m store.MessageRow) bool {
		return m.ChannelType == refuseMessages
	})
}

// messages holds a table that only grows against what should be in it.
func (c *checker) messages(table string, got, want []store.MessageRow) {
	times := make(map[bus.Origin]int)
	for i := range got {
		times[got[i].Origin]++
	}
	for i := range want {
		m := &want[i]
		switch n := times[m.Origin]; n {
		case 0:
			c.breachf("%s: %s at %v is lost", table, m.MessageID, m.Origin)
		case 1:
		default:
			c.breachf("%s: %s at %v is there %d times", table, m.MessageID, m.Origin, n)
		}
		delete(times, m.Origin)
	}
	for origin := range times {
		c.breachf("%s: %s at %v is not expected", table, c.ledger.ids[origin], origin)
	}
}

func (c *checker) deadLetters() {
	want := maps.Clone(c.ledger.letters)
	for i := range c.rows.DeadLetters {
		d := &c.rows.DeadLetters[i]
		at, err := bus.ParsePosition(d.Position)
		if err != nil {
			c.breachf("dead_letters: %s: %s (%v)", d.Worker, d.Reason, err)
			continue
		}
		key := letterKey(d.Worker, d.Topic, bus.Origin{Partition: d.Partition, Position: at})
		if _, known := want[key]; !known {
			c.breachf("dead_letters: %s is not expected: %s", key, d.Reason)
			continue
		}
		want[key]--
	}
	for key, n := range want {
		switch {
		case n > 0:
			c.breachf("dead_letters: %s is lost", key)
		case n < 0:
			c.breachf("dead_letters: %s is there %d times", key, 1-n)
		}
	}
}

func (c *checker) states() {
	type key struct{ device, channel string }
	want := make(map[key]store.MessageRow)
	for _, m := range c.want(telemetry.KindChannel, telemetry.KindEvent) {
		k := key{m.DeviceID, m.ChannelKey}
		if old, ok := want[k]; !ok || newer(&m, &old) {
			want[k] = m
		}
	}
	for i := range c.rows.States {
		m := &c.rows.States[i]
		k := key{m.DeviceID, m.ChannelKey}
		w, ok := want[k]
		if !ok || w.Origin != m.Origin {
			c.breachf("device_state: %s/%s is %s at %v, want %s at %v", k.device, k.channel, m.MessageID, m.Origin, w.MessageID, w.Origin)
		}
		delete(want, k)
	}
	for k, w := range want {
		c.breachf("device_state: %s/%s is lost, want %s", k.device, k.channel, w.MessageID)
	}
}

func newer(a, b *store.MessageRow) bool {
	return cmp.Or(cmp.Compare(a.EventTime, b.EventTime), a.Origin.Compare(b.Origin.Position)) > 0
}

// windowKey is a window of a channel.
type windowKey struct {
	device, channel string
	start           telemetry.Time
	length          int64
}

func (k windowKey) text(s *sim) string {
	return fmt.Sprintf("%s/%s %v+%ds", k.device, k.channel, s.since(k.start), k.length/1e9)
}

// eventsAmongTelemetry returns what other routes have put where the aggregator reads: it has no value, but tells its device's clock.
func (c *checker) eventsAmongTelemetry() map[bus.Origin]bool {
	all := make(map[bus.Origin]bool)
	for n := range c.plan.partitions {
		for _, r := range c.records(bus.Telemetry, n) {
			if h, err := telemetry.PeekMessage(r.Value); err == nil && h.Kind == telemetry.KindEvent {
				all[r.Origin] = true
			}
		}
	}
	return all
}

// wantWindows computes each window from the messages, in the order of their device. What a message is too late for, by its
// device's own clock, does not count it.
func (c *checker) wantWindows() map[windowKey]*telemetry.Aggregate {
	want := make(map[windowKey]*telemetry.Aggregate)
	clocks, last := make(map[string]telemetry.Time), make(map[windowKey]store.MessageRow)
	first := make(map[windowKey]store.MessageRow)
	events := c.eventsAmongTelemetry()
	for _, m := range c.want(telemetry.KindChannel, telemetry.KindEvent) {
		if m.Kind == telemetry.KindEvent && !events[m.Origin] {
			continue
		}
		if _, known := clocks[m.DeviceID]; known || m.HasValue {
			clocks[m.DeviceID] = max(clocks[m.DeviceID], m.EventTime)
		}
		if !m.HasValue {
			continue
		}
		for i, length := range windowLengths() {
			hop := telemetry.Time(hops()[i])
			for start := m.EventTime - m.EventTime%hop; start.Add(length) > m.EventTime; start -= hop {
				if start.Add(length+lateness+correctWithin) <= clocks[m.DeviceID] {
					continue
				}
				k := windowKey{m.DeviceID, m.ChannelKey, start, int64(length)}
				w := want[k]
				if w == nil {
					w = &telemetry.Aggregate{Min: m.Value, Max: m.Value}
					want[k], last[k], first[k] = w, m, m
				}
				w.Count, w.Sum = w.Count+1, w.Sum+m.Value
				w.Min, w.Max = min(w.Min, m.Value), max(w.Max, m.Value)
				if l := last[k]; newer(&m, &l) {
					last[k] = m
				}
				if f := first[k]; newer(&f, &m) {
					first[k] = m
				}
				w.First, w.Last = first[k].Value, last[k].Value
			}
		}
	}
	return want
}

func figures(a *telemetry.Aggregate) string {
	return fmt.Sprintf("count %d min %v max %v sum %v first %v last %v", a.Count, a.Min, a.Max, a.Sum, a.First, a.Last)
}

func keyOf(a *telemetry.Aggregate) windowKey {
	return windowKey{a.DeviceID, a.ChannelKey, a.WindowStart, a.WindowLength}
}

func (c *checker) windows() {
	want := c.wantWindows()
	stored := make(map[windowKey]telemetry.Aggregate)
	for i := range c.rows.Aggregates {
		a := &c.rows.Aggregates[i].Aggregate
		k := keyOf(a)
		stored[k] = *a
		w := want[k]
		switch {
		case w == nil:
			c.breachf("aggregates: %s is not expected: %s", k.text(c.sim), figures(a))
		case figures(w) != figures(a):
			c.breachf("aggregates: %s is %s (revision %d), want %s", k.text(c.sim), figures(a), a.Revision, figures(w))
		}
		delete(want, k)
	}
	for k, w := range want {
		c.breachf("aggregates: %s is lost, want %s", k.text(c.sim), figures(w))
	}
	if !c.wasSetBack(store.TableAggregates) { // its windows count their revisions anew
		c.publishedWindows(stored)
	}
}

// publishedWindows reads [aggregates] as a reader does that keeps the row with the highest revision.
func (c *checker) publishedWindows(stored map[windowKey]telemetry.Aggregate) {
	told := make(map[windowKey]telemetry.Aggregate)
	for n := range c.plan.partitions {
		for _, r := range c.records(bus.Aggregates, n) {
			var a telemetry.Aggregate
			if err := telemetry.ParseAggregate(r.Value, &a); err != nil {
				c.breachf("[aggregates]: %v", err)
				continue
			}
			k := keyOf(&a)
			if old, ok := told[k]; a.Final && (!ok || a.Revision >= old.Revision) {
				told[k] = a
			}
		}
	}
	for k, a := range stored {
		t, ok := told[k]
		switch {
		case !ok:
			c.breachf("[aggregates]: %s was never published", k.text(c.sim))
		case t.Revision != a.Revision || figures(&t) != figures(&a):
			c.breachf("[aggregates]: %s is %s (revision %d), stored is %s (revision %d)", k.text(c.sim), figures(&t), t.Revision, figures(&a), a.Revision)
		}
	}
	for k := range told {
		if _, ok := stored[k]; !ok {
			c.breachf("[aggregates]: %s was published and is not stored", k.text(c.sim))
		}
	}
}

// wasSetBack says whether a table was given back an older content.
func (c *checker) wasSetBack(table string) bool {
	return slices.ContainsFunc(c.plan.events, func(e event) bool { return e.what == eventSetBack && e.table == table })
}

// kinds returns the tables in which there are breaches, so that a shrunk run shows the same breach.
func kinds(breaches []string) []string {
	var all []string
	for _, b := range breaches {
		table, _, _ := strings.Cut(b, ":")
		if !slices.Contains(all, table) {
			all = append(all, table)
		}
	}
	slices.Sort(all)
	return all
}
