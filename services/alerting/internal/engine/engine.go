package engine

import (
	"fmt"
	"strconv"
	"time"
	"unsafe"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/rules"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
)

const (
	// TracksMaxDefault is how many tracks an engine keeps where Config says nothing.
	TracksMaxDefault = 200_000
	// inFlight is what our clock grants a message that is still on its way from the edge before a quiet device's time is up.
	inFlight = 2 * time.Second
	// gapMax is how far our clock may jump before the time between counts as not watched: nobody is called silent because
	// nobody listened.
	gapMax = 15 * time.Second
	// updateEvery is how often an alarm that only counts up makes a revision.
	updateEvery = time.Minute
)

// Config is what an engine is made of.
type Config struct {
	Rules []*Rule
	Flap  Flap
	// TracksMax bounds the tracks; 0 means TracksMaxDefault. At the limit the idle track that was heard longest ago gives way:
	// its next alarm does not know the value before. Where none is idle, the new (rule, device, channel) is not followed, and
	// Untracked is told.
	TracksMax int
	Hooks     Hooks
}

// Flap says when a rule flaps for a device's channel: when its alarm is raised for the Max-th time within Window. Such an alarm
// clears only after Window of calm. Max 0 damps nothing. On-change rules are never damped.
type Flap struct {
	Window time.Duration
	Max    int
}

// Hooks are told what metrics count. Any may be nil. They are called by the engine's goroutine and must not wait.
type Hooks struct {
	Changed   func(rule, change string)
	Fault     func(rule, device, channel string, err error) // a condition that could not be told
	Untracked func(rule, device, channel string)
	Ignored   func(rule string) // a message older than what was heard already
	// RuleChanged is called by Restore for each rule of the snapshot that is another one now (there) or gone: alarms are to be
	// cleared, and of kept devices' channels the rule of that name goes on with what was heard.
	RuleChanged func(rule string, there bool, alarms, kept int)
}

// Output is what comes out: the rows of alarms, and the same as records for the topic alarms.
type Output = worker.Output[telemetry.Alarm]

// Engine is the state of all alarms of one share. One goroutine uses it.
type Engine struct {
	rules    []*Rule
	flap     Flap
	max      int
	hooks    Hooks
	messages rules.Index[int] // rules by what they look at
	logs     rules.Index[int]
	windows  rules.Index[int]

	tracks  map[key]*track
	byID    map[string]*track // of alarms that an operator may name
	busy    list              // tracks for which time matters
	idle    list              // the others, the one heard longest ago first
	orphans []orphan          // alarms whose rules are gone

	clock   telemetry.Time // our clock: newest ingest time, or the wall clock while nothing was unread
	watched telemetry.Time // since when silence counts
	nextDue telemetry.Time // by our clock; before it no track is due; 0: none ever

	// The record in hand.
	message telemetry.Message
	window  telemetry.Aggregate
	command telemetry.Alarm
	in      inputs
	wanted  []int
}

var (
	_ worker.Task[telemetry.Alarm] = (*Engine)(nil)
	_ worker.Stateful              = (*Engine)(nil)
)

// New returns an engine without any state.
func New(cfg Config) *Engine {
	e := &Engine{
		rules: cfg.Rules, flap: cfg.Flap, max: cfg.TracksMax, hooks: cfg.Hooks.complete(),
		tracks: make(map[key]*track), byID: make(map[string]*track),
	}
	if e.max <= 0 {
		e.max = TracksMaxDefault
	}
	for i, r := range cfg.Rules {
		switch r.On {
		case Messages:
			e.messages.Add(r.guard(), i)
		case Critical:
			e.logs.Add(r.guard(), i)
		case Aggregates:
			e.windows.Add(r.guard(), i)
		}
	}
	return e
}

func (h Hooks) complete() Hooks {
	if h.Changed == nil {
		h.Changed = func(string, string) {}
	}
	if h.Fault == nil {
		h.Fault = func(string, string, string, error) {}
	}
	if h.Untracked == nil {
		h.Untracked = func(string, string, string) {}
	}
	if h.Ignored == nil {
		h.Ignored = func(string) {}
	}
	if h.RuleChanged == nil {
		h.RuleChanged = func(string, bool, int, int) {}
	}
	return h
}

// Topics are what an engine reads.
func Topics() []string {
	return []string{bus.Telemetry, bus.Aggregates, bus.Critical, bus.AlarmCommands}
}

// Add takes one record of one of Topics. It refuses what cannot be read, and commands that make no sense.
func (e *Engine) Add(out *Output, topic string, r bus.Record) error {
	switch topic {
	case bus.Telemetry:
		return e.addMessage(out, r)
	case bus.Critical:
		return e.addLog(out, r)
	case bus.Aggregates:
		return e.addWindow(out, r)
	case bus.AlarmCommands:
		return e.addCommand(out, r)
	default:
		return fmt.Errorf("topic %q: alerting does not read it", topic)
	}
}

// Tick lets time pass for those devices that say nothing.
func (e *Engine) Tick(out *Output, now, through telemetry.Time) {
	e.clearOrphans(out, now)
	e.advance(through)
	if e.nextDue == 0 || e.clock < e.nextDue {
		return
	}
	e.nextDue = 0
	for t, next := e.busy.head, (*track)(nil); t != nil; t = next {
		next = t.next
		e.settle(out, t, e.clock.Add(-inFlight-t.lag()))
		e.place(t)
	}
}

// advance moves our clock.
func (e *Engine) advance(now telemetry.Time) {
	if now <= e.clock {
		return
	}
	if now.Sub(e.clock) > gapMax {
		e.watched = now
	}
	e.clock = now
}

func (e *Engine) addMessage(out *Output, r bus.Record) error {
	h, err := telemetry.PeekMessage(r.Value)
	if err != nil {
		return fmt.Errorf("alerting: %w", err)
	}
	e.advance(h.IngestTime)
	k := rules.Key{Kind: h.Kind, DeviceID: h.DeviceID, DeviceType: h.DeviceType, ChannelKey: h.ChannelKey}
	e.wanted = e.messages.Match(e.wanted[:0], k)
	// All that can be refused is refused before anything changes.
	some, whole := e.wanted[:0], false
	for _, i := range e.wanted {
		if rule := e.rules[i]; rule.wants(k) {
			some = append(some, i)
			whole = whole || rule.Silent == 0 || rule.Condition != nil
		}
	}
	if whole {
		if err := telemetry.ParseMessage(r.Value, &e.message); err != nil {
			return fmt.Errorf("alerting: %w", err)
		}
		e.in.change.Set(&e.message, nil, rules.Previous{})
	}
	for _, i := range some {
		if e.rules[i].Silent > 0 {
			e.sayAlive(out, i, h)
		} else {
			e.judgeMessage(out, i, r.Origin)
		}
	}
	return nil
}

// sayAlive tells a dead-man rule that a device or channel has spoken.
func (e *Engine) sayAlive(out *Output, i int, h telemetry.Header) {
	rule := e.rules[i]
	if rule.Condition != nil {
		if held, ok := e.ask(rule, rule.Condition, h.DeviceID, h.ChannelKey); !ok || !held {
			return
		}
	}
	k := key{rule: i, tenant: h.Tenant, device: h.DeviceID}
	if !rule.perDevice() {
		k.channel = h.ChannelKey
	}
	t := e.track(k)
	if t == nil {
		return
	}
	at := h.IngestTime
	if at <= t.newest {
		return // it was heard then, or by another ingest process whose clock is ahead; and an alarm since then stands
	}
	e.settle(out, t, at-1) // silent for longer than the rule says, and not as long
	if t.alarm != nil {
		e.signal(out, t, &signal{at: at, seen: at, clear: true, value: at.Std().Format(time.RFC3339)})
	}
	t.heard(at, at)
	e.place(t)
}

// judgeMessage asks a rule of the message in hand.
func (e *Engine) judgeMessage(out *Output, i int, origin bus.Origin) {
	m, rule := &e.message, e.rules[i]
	t := e.track(key{rule: i, tenant: m.Tenant, device: m.DeviceID, channel: m.ChannelKey})
	if t == nil {
		return
	}
	if m.EventTime < t.newest { // late: what came after it has been judged already
		e.hooks.Ignored(rule.Name)
		return
	}
	s := signal{at: m.EventTime, seen: m.IngestTime, value: alias(m.ChannelValue), origin: origin}
	switch {
	case rule.OnChange:
		e.judgeChange(out, t, &s)
	case rule.Rate != nil:
		if !m.HasValue || !e.judgeRate(t, &s) {
			return
		}
		e.settle(out, t, s.at)
		e.signal(out, t, &s)
	default:
		var ok bool
		if s.raise, s.clear, ok = e.judge(rule, m.DeviceID, m.ChannelKey, t.alarm != nil); !ok {
			return
		}
		e.settle(out, t, s.at)
		e.signal(out, t, &s)
	}
	t.remember(m.ChannelValue, m.Value, m.HasValue)
	t.heard(s.at, s.seen)
	e.place(t)
}

// judge asks a rule's conditions of the record in hand; ok is false where they could not be told. The clear condition is
// only asked where there is something to clear.
func (e *Engine) judge(rule *Rule, device, channel string, raised bool) (raise, cleared, ok bool) {
	if raise, ok = e.ask(rule, rule.Condition, device, channel); !ok {
		return false, false, false
	}
	if raise || !raised || rule.Clear == nil {
		return raise, !raise, true
	}
	cleared, ok = e.ask(rule, rule.Clear, device, channel)
	return false, cleared, ok
}

// ask reports whether a condition holds; ok is false where it could not be told, which neither raises nor clears.
func (e *Engine) ask(rule *Rule, c *Condition, device, channel string) (held, ok bool) {
	held, err := c.holds(&e.in)
	if err != nil {
		e.hooks.Fault(rule.Name, device, channel, err)
		return false, false
	}
	return held, true
}

// judgeChange asks an on-change rule, if the channel's text has changed. The first value that was ever heard is no change.
func (e *Engine) judgeChange(out *Output, t *track, s *signal) {
	m := &e.message
	e.settle(out, t, s.at)
	if !t.known || t.same(m.ChannelValue) {
		return
	}
	e.in.change.Set(m, nil, t.previous())
	raise, ok := true, true
	if c := t.rule.Condition; c != nil {
		raise, ok = e.ask(t.rule, c, m.DeviceID, m.ChannelKey)
	}
	if !ok {
		return
	}
	if raise {
		s.raise = true
	} else if t.alarm != nil {
		s.clear = true
		if c := t.rule.Clear; c != nil {
			s.clear, ok = e.ask(t.rule, c, m.DeviceID, m.ChannelKey)
			s.clear = s.clear && ok
		}
	}
	e.signal(out, t, s)
}

// judgeRate asks a rule on the rate of change; false where it could not be told.
func (e *Engine) judgeRate(t *track, s *signal) bool {
	m, rule := &e.message, t.rule
	if rule.Condition != nil { // which messages count
		if held, ok := e.ask(rule, rule.Condition, m.DeviceID, m.ChannelKey); !ok || !held {
			return false
		}
	}
	change, ok := t.samples.change(m.EventTime, m.Value, rule.Rate.Per)
	s.raise = ok && rule.Rate.beyond(change)
	s.clear = !s.raise
	if t.alarm != nil && !s.raise && rule.Clear != nil {
		if s.clear, ok = e.ask(rule, rule.Clear, m.DeviceID, m.ChannelKey); !ok {
			return false
		}
	}
	return true
}

func (e *Engine) addLog(out *Output, r bus.Record) error {
	m := &e.message
	if err := telemetry.ParseMessage(r.Value, m); err != nil {
		return fmt.Errorf("alerting: %w", err)
	}
	k := rules.KeyOf(m)
	e.wanted = e.logs.Match(e.wanted[:0], k)
	if len(e.wanted) == 0 {
		return nil
	}
	e.in.change.Set(m, nil, rules.Previous{})
	for _, i := range e.wanted {
		rule := e.rules[i]
		if !rule.wantsDevice(k.DeviceID) {
			continue
		}
		if rule.Condition != nil {
			if held, ok := e.ask(rule, rule.Condition, m.DeviceID, ""); !ok || !held {
				continue
			}
		}
		t := e.track(key{rule: i, tenant: m.Tenant, device: m.DeviceID})
		if t == nil {
			continue
		}
		s := signal{at: max(m.EventTime, t.newest), seen: m.IngestTime, raise: true, value: m.Text, origin: r.Origin}
		e.settle(out, t, s.at)
		e.signal(out, t, &s)
		t.remember([]byte(m.Text), 0, false)
		t.heard(s.at, s.seen)
		e.place(t)
	}
	return nil
}

func (e *Engine) addWindow(out *Output, r bus.Record) error {
	w := &e.window
	if err := telemetry.ParseAggregate(r.Value, w); err != nil {
		return fmt.Errorf("alerting: %w", err)
	}
	k := rules.KeyOfAggregate(w)
	e.wanted = e.windows.Match(e.wanted[:0], k)
	if len(e.wanted) == 0 {
		return nil
	}
	e.in.aggregate.Set(w)
	for _, i := range e.wanted {
		rule := e.rules[i]
		if int64(rule.Window) != w.WindowLength || !w.Final && !rule.Running || !rule.wants(k) {
			continue
		}
		e.judgeWindow(out, i, telemetry.Time(r.Time))
	}
	return nil
}

// judgeWindow asks a rule of the window in hand. What is older than the newest window that was judged changes nothing, nor does
// a repetition. A window still open may raise, but not clear: its worst may be yet to come.
func (e *Engine) judgeWindow(out *Output, i int, taken telemetry.Time) {
	w, rule := &e.window, e.rules[i]
	t := e.track(key{rule: i, tenant: w.Tenant, device: w.DeviceID, channel: w.ChannelKey})
	if t == nil || !t.judged.before(w) {
		return
	}
	raise, cleared, ok := e.judge(rule, w.DeviceID, w.ChannelKey, t.alarm != nil)
	if !ok || !w.Final && !raise {
		return
	}
	at := w.WindowStart.Add(time.Duration(w.WindowLength))
	if !w.Final {
		at = min(at, max(w.LastTime, w.WindowStart))
	}
	at = max(at, t.newest)
	value := strconv.FormatFloat(figureOf(w, rule.Condition.figure), 'g', 6, 64)
	s := signal{
		at: at, seen: max(taken, at), raise: raise, clear: cleared, value: value,
		// No message is the cause of a window; its revision tells apart what is raised at the same time.
		origin: bus.Origin{Position: bus.Position{Index: w.Revision}},
	}
	t.judged = judged{start: w.WindowStart, revision: w.Revision, final: w.Final}
	e.settle(out, t, at)
	e.signal(out, t, &s)
	t.remember([]byte(value), 0, false)
	t.heard(at, s.seen)
	e.place(t)
}

func figureOf(w *telemetry.Aggregate, name string) float64 {
	switch name {
	case "count":
		return float64(w.Count)
	case "min":
		return w.Min
	case "max":
		return w.Max
	case "sum":
		return w.Sum
	case "first":
		return w.First
	case "last":
		return w.Last
	case "p50":
		return w.P50
	case "p95":
		return w.P95
	case "p99":
		return w.P99
	}
	return w.Avg()
}

// alias returns b as a string for as long as b does not change: until the record in hand is done.
func alias(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b)) //nolint:gosec // G103: what is kept of it is copied
}
