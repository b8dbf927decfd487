package window

import (
	"slices"

	"github.com/millrace/millrace/pkg/telemetry"
)

// addToSession adds p to the session that it belongs to: one to which it is nearer than the gap, else a new one. It may be
// what joins two sessions.
func (t *Task) addToSession(d *device, c *channel, i int, p *point) {
	s := &t.series[i]
	open := c.lanes[i].open
	at := len(open)
	for at > 0 && open[at-1].start-p.time >= s.gap {
		at-- // sessions that begin too far after p
	}
	if at == 0 || open[at-1].end <= p.time {
		t.newSession(d, c, i, at, p)
		return
	}
	w := open[at-1]
	if at > 1 && open[at-2].end > p.time { // p lies between the two
		before := open[at-2]
		t.memory.merge(&before.summary, &w.summary)
		before.end = w.end
		c.lanes[i].open = slices.Delete(open, at-1, at)
		t.release(w)
		w = before
	}
	w.start, w.end = min(w.start, p.time), max(w.end, p.time+s.gap)
	t.memory.add(&w.summary, p)
	t.touch(w)
}

func (t *Task) newSession(d *device, c *channel, i, at int, p *point) {
	s := &t.series[i]
	switch {
	case p.time+t.lateness < d.clock || p.time < d.closed[i]: // it may belong to one that has closed
		t.stats.tooLate.Add(1)
		return
	case t.open >= t.cfg.WindowsMax:
		t.stats.beyondWindows.Add(1)
		t.stats.tooLate.Add(1)
		return
	}
	w := t.openWindow(d, c, i, at, p.time, p.time+s.gap)
	t.memory.add(&w.summary, p)
	t.touch(w)
}

// silentThrough returns the end through which windows of s close of a device that is silent as of now: aligned windows by
// the wall clock. Of sessions only how long the device has been silent counts, since its clock may be far off.
func (t *Task) silentThrough(d *device, s *series, now telemetry.Time) telemetry.Time {
	switch {
	case s.Kind != Session:
		return now - t.lateness
	case d.heard+s.gap+t.lateness <= now:
		return maxTime
	default:
		return minTime
	}
}
