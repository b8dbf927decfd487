package window

import (
	"slices"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
)

// forgetAfter is how long a device without open windows must be silent to be forgotten, at least. The longer, the fewer
// windows have to be looked up in the store when it comes back.
const forgetAfter = telemetry.Time(time.Hour)

// Tick implements worker.Task: it closes windows of silent devices and publishes running values.
func (t *Task) Tick(out *Output, now, through telemetry.Time) {
	t.begin(out)
	if through != 0 {
		t.newest = max(t.newest, through)
	}
	t.closeChanged(out)
	if t.newest != minTime {
		t.closeSilent(out, t.newest)
	}
	if t.cfg.RunningEvery > 0 && now >= t.nextRunning {
		const jitter = telemetry.Time(500 * time.Millisecond) // of the ticks
		t.nextRunning = now + telemetry.Time(t.cfg.RunningEvery) - jitter
		t.publishRunning(out)
	}
}

// closeSilent closes the windows of devices that are silent as of now, and forgets those of which nothing is open.
func (t *Task) closeSilent(out *Output, now telemetry.Time) {
	forget := now - max(forgetAfter, telemetry.Time(t.cfg.CorrectWithin)) - t.lateness
	for i := 0; i < len(t.list); i++ {
		d := t.list[i]
		if d.open > 0 && d.due <= now && d.heard+t.lateness <= now {
			t.closeDue(out, d, func(s *series) telemetry.Time { return t.silentThrough(d, s, now) }, true)
		}
		if d.open == 0 && d.heard <= forget {
			t.forget(i)
			i--
		}
	}
}

// forget drops the device at index i. Should it come back, windows of its past become deltas.
func (t *Task) forget(i int) {
	d := t.list[i]
	for i := range t.series {
		if s := &t.series[i]; s.Kind != Session {
			s.storedThrough = max(s.storedThrough, s.last(d.clock))
		}
	}
	delete(t.devices, d.deviceKey)
	if t.recent == d {
		t.recent = nil
	}
	last := len(t.list) - 1
	t.list[i], t.list[last] = t.list[last], nil
	t.list = t.list[:last]
}

// closeChanged closes, once after a Restore, the windows of specs that the configuration has no more, and those that a shorter
// lateness makes due: a late record would be a delta beside a window that is still open, and the window's row replace it.
func (t *Task) closeChanged(out *Output) {
	if !t.changedConfig {
		return
	}
	t.changedConfig = false
	for _, d := range t.list {
		t.closeDue(out, d, func(s *series) telemetry.Time {
			if s.retired {
				return maxTime
			}
			return d.clock - t.lateness
		}, false)
	}
}

// retired returns how many windows of retired series are open. They are few and not for long.
func (t *Task) retired() (n int) {
	for i := len(t.cfg.Specs); i < len(t.series); i++ {
		n += t.openOf(i)
	}
	return n
}

// openOf returns how many windows of a series are open.
func (t *Task) openOf(series int) (n int) {
	for _, d := range t.list {
		for _, c := range d.channels {
			n += len(c.lanes[series].open)
		}
	}
	return n
}

// closeDue closes the windows of d that end by what through says of their series.
func (t *Task) closeDue(out *Output, d *device, through func(*series) telemetry.Time, silent bool) {
	d.due = maxTime
	for i := range t.series {
		s := &t.series[i]
		end := through(s)
		for _, c := range d.channels {
			open := c.lanes[i].open
			n := 0
			for ; n < len(open) && open[n].end <= end; n++ {
				w := open[n]
				if silent {
					d.closed[i] = max(d.closed[i], w.end)
				}
				out.Rows = append(out.Rows, t.row(w))
				t.release(w)
			}
			if n > 0 {
				open = slices.Delete(open, 0, n)
				c.lanes[i].open = open
			}
			if len(open) > 0 {
				d.due = min(d.due, open[0].end+t.lateness)
			}
		}
	}
}

// row returns the row of a window that closes.
func (t *Task) row(w *window) store.AggregateRow {
	s := &t.series[w.series]
	r := store.AggregateRow{Aggregate: t.aggregate(w)}
	r.Final = true
	if s.Kind == Session || w.start > s.storedThrough {
		r.Revision = 1
	}
	if s.Kind != Session {
		r.State = t.state(&w.summary)
	}
	return r
}

func (t *Task) aggregate(w *window) telemetry.Aggregate {
	a := telemetry.Aggregate{
		Tenant: w.device.tenant, DeviceID: w.device.id, DeviceType: w.device.kind, ChannelKey: w.channel.key,
		WindowStart: w.start, WindowLength: int64(w.end - w.start),
	}
	t.memory.fill(&a, &w.summary)
	return a
}

// openWindow opens a window at its place among those of its channel.
func (t *Task) openWindow(d *device, c *channel, i, at int, start, end telemetry.Time) *window {
	var w *window
	if n := len(t.free); n > 0 {
		w = t.free[n-1]
		t.free = t.free[:n-1]
	} else {
		w = new(window)
	}
	w.start, w.end, w.device, w.channel, w.series = start, end, d, c, i
	c.lanes[i].open = slices.Insert(c.lanes[i].open, at, w)
	d.due = min(d.due, end+t.lateness)
	d.open++
	t.open++
	return w
}

// release takes back a window that is no longer among those of its channel.
func (t *Task) release(w *window) {
	if lane := &w.channel.lanes[w.series]; lane.latest == w {
		lane.latest = nil
	}
	w.device.open--
	t.open--
	if w.queued {
		w.dead = true
		return
	}
	t.recycle(w)
}

func (t *Task) recycle(w *window) {
	t.memory.reset(&w.summary)
	w.device, w.channel, w.queued, w.dead = nil, nil, false, false
	t.free = append(t.free, w)
}

// touch notes that w has new running values.
func (t *Task) touch(w *window) {
	if !w.queued && t.cfg.RunningEvery > 0 {
		w.queued = true
		t.changed = append(t.changed, w)
	}
}

// publishRunning publishes the windows that changed, up to a limit; the others are the first of the next time.
func (t *Task) publishRunning(out *Output) {
	n, published := 0, 0
	for ; n < len(t.changed) && published < t.cfg.RunningMax; n++ {
		w := t.changed[n]
		if w.dead {
			t.recycle(w)
			continue
		}
		w.queued = false
		published++
		a := t.aggregate(w)
		at := len(t.arena)
		t.arena = telemetry.AppendAggregate(t.arena, &a)
		out.Publish = append(out.Publish, worker.Publication{
			Topic: bus.Aggregates, Record: bus.Record{Value: t.arena[at:len(t.arena):len(t.arena)]}, Passing: true,
		})
	}
	t.changed = slices.Delete(t.changed, 0, n)
}
