package replay

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/millrace/millrace/pkg/telemetry"
)

// falls reports whether the value that raised an alarm is below the one before it.
func falls(a *telemetry.Alarm) bool {
	before, err := strconv.ParseFloat(a.PreviousValue, 64)
	if err != nil {
		return false
	}
	value, err := strconv.ParseFloat(a.Value, 64)
	return err == nil && value < before
}

// about names what alarms of either side may be compared by.
type about struct {
	channel
	rule string
}

func (a *Alarm) about() about { return about{channel{a.tenant, a.Device, a.Channel}, a.Rule} }

// overlaps reports whether two alarms were raised at the same time; one that was not cleared lasts.
func (a *Alarm) overlaps(b *Alarm) bool {
	return (b.ClearedAt == 0 || a.RaisedAt <= b.ClearedAt) && (a.ClearedAt == 0 || b.RaisedAt <= a.ClearedAt)
}

// outcome compares what both sides raised.
func (r *rehearsing) outcome() Rehearsed {
	var sides [2][]*Alarm
	byAbout := [2]map[about][]*Alarm{{}, {}}
	for i := range sides {
		for _, a := range r.sides[i] {
			if a.ClearedAt != 0 && a.ClearedAt < r.o.From {
				continue // while the rules were warming up
			}
			sides[i] = append(sides[i], a)
			byAbout[i][a.about()] = append(byAbout[i][a.about()], a)
		}
	}
	out := Rehearsed{Records: r.tally.passed.Load(), Notes: r.tally.notes(r.from.Cold)}
	counts := map[string]*Count{}
	count := func(rule string) *Count {
		if counts[rule] == nil {
			counts[rule] = &Count{Rule: rule}
		}
		return counts[rule]
	}
	for _, rule := range r.o.Changed.Rules {
		count(rule.Name)
	}
	for i := range sides {
		for _, a := range sides[i] {
			other := byAbout[1-i][a.about()]
			switch {
			case slices.ContainsFunc(other, func(o *Alarm) bool { return o.RaisedAt == a.RaisedAt && o.ClearedAt == a.ClearedAt }):
				a.Beside = Same
			case slices.ContainsFunc(other, a.overlaps):
				a.Beside = Moved
			case i == 0:
				a.Beside = Gone
			default:
				a.Beside = New
			}
			count(a.Rule).take(i, a.Beside)
			if i == 1 || a.Beside == Gone {
				out.Alarms = append(out.Alarms, *a)
			}
		}
	}
	slices.SortFunc(out.Alarms, func(a, b Alarm) int {
		return cmp.Or(cmp.Compare(a.RaisedAt, b.RaisedAt), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Device, b.Device), cmp.Compare(a.Channel, b.Channel))
	})
	for _, rule := range slices.Sorted(maps.Keys(counts)) {
		out.Counts = append(out.Counts, *counts[rule])
	}
	for _, f := range slices.Sorted(maps.Keys(r.faults)) {
		out.Notes = append(out.Notes, fmt.Sprintf("a condition could not be told on %d messages: %s", r.faults[f], f))
	}
	return out
}

// take counts an alarm of side i.
func (c *Count) take(i int, b Beside) {
	if i == 0 {
		c.Present++
		if b == Gone {
			c.Gone++
		}
		return
	}
	c.Changed++
	switch b {
	case Same:
		c.Same++
	case Moved:
		c.Moved++
	case New:
		c.New++
	case Gone:
	}
}
