package replay

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
	"github.com/millrace/millrace/services/aggregator"
	"github.com/millrace/millrace/services/alerting"
)

// alarmsMax bounds the alarms of a rehearsal, of both sets of rules together.
const alarmsMax = 1_000_000

// Rehearsal says which rules look at which time. Nothing that they raise is told to anybody or written anywhere.
type Rehearsal struct {
	Present  alerting.Config // only rules of the names that Changed has
	Changed  alerting.Config
	Windows  aggregator.Config // for rules on aggregates
	From, To telemetry.Time
	Warm     time.Duration // before From, for which the rules look already and are not reported
	Tenant   string
	Device   string // "": all
	Tell     func(Progress)
	Now      func() time.Time
}

// Beside says what became of an alarm under the other rules.
type Beside string

// What may become of an alarm.
const (
	Same  Beside = "same"  // both raise and clear it at the same times
	New   Beside = "new"   // only the changed rules raise it
	Gone  Beside = "gone"  // only the present rules do
	Moved Beside = "moved" // the other rules raise one that overlaps with it
)

// Alarm is one alarm that would have been.
type Alarm struct {
	Rule     string         `json:"rule"`
	Device   string         `json:"device"`
	Channel  string         `json:"channel"`
	Severity string         `json:"severity"`
	RaisedAt telemetry.Time `json:"-"`
	// ClearedAt is 0 for an alarm that was still raised at the end.
	ClearedAt telemetry.Time `json:"-"`
	Value     string         `json:"value"` // that raised it
	// Peak is the value furthest in the direction in which the alarm was raised; only where HasPeak.
	Peak    float64 `json:"-"`
	HasPeak bool    `json:"-"`
	Beside  Beside  `json:"beside"`

	tenant, id string
	down       bool // it was raised by a fall
}

// Count is how many alarms a rule would have raised.
type Count struct {
	Rule    string `json:"rule"`
	Present int    `json:"present"` // raised by the present rules
	Changed int    `json:"changed"` // raised by the changed ones, which are of the next three sorts
	Same    int    `json:"same"`
	Moved   int    `json:"moved"`
	New     int    `json:"new"`
	Gone    int    `json:"gone"` // of the present rules' alarms
}

// Rehearsed is what came of a rehearsal.
type Rehearsed struct {
	Alarms  []Alarm // of the changed rules, and those of the present ones that are gone, by the time at which they were raised
	Counts  []Count // by rule
	Records uint64
	Notes   []string
}

// Rehearse lets both sets of rules look at the past, share by share in the order of ingest, with a clock that follows the messages.
func Rehearse(ctx context.Context, from Source, o Rehearsal) (Rehearsed, error) {
	r := &rehearsing{
		o: o, from: from, when: span{o.From.Add(-o.Warm), o.To}, tally: newTally(), topics: []string{bus.Telemetry}, faults: map[string]uint64{}, began: o.Now(),
	}
	if r.any(alerting.OnCritical) {
		r.topics = append(r.topics, bus.Critical)
	}
	shares := from.Log.Partitions(bus.Telemetry)
	r.shares = shares
	if o.Device != "" {
		r.shares = 1
	}
	all, looking := errgroup.WithContext(ctx)
	for n := range shares {
		if o.Device != "" && bus.PartitionOf(o.Tenant, o.Device, shares) != n {
			continue
		}
		all.Go(func() error {
			if err := r.share(looking, n, shares); err != nil {
				return fmt.Errorf("share %d: %w", n, err)
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		return Rehearsed{}, err
	}
	r.tell(true)
	return r.outcome(), nil
}

// rehearsing is a rehearsal under way.
type rehearsing struct {
	o      Rehearsal
	from   Source
	when   span
	topics []string
	shares int // that pass
	tally  *tally
	began  time.Time

	mu     sync.Mutex
	told   time.Time
	sides  [2][]*Alarm // of the present and the changed rules
	faults map[string]uint64
}

// any reports whether a rule looks at a source.
func (r *rehearsing) any(on string) bool {
	is := func(rule alerting.Rule) bool { return rule.On == on && rule.Enables() }
	return slices.ContainsFunc(r.o.Changed.Rules, is) || slices.ContainsFunc(r.o.Present.Rules, is)
}

func (r *rehearsing) tell(ended bool) {
	if r.o.Tell == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.o.Now()
	if !ended && now.Sub(r.told) < lookEvery {
		return
	}
	r.told = now
	p := Progress{Records: r.tally.passed.Load(), Share: r.tally.share(r.when, r.shares), Ended: ended}
	if ended {
		p.Share = 1
	}
	p.PerSecond = float64(p.Records) / max(now.Sub(r.began).Seconds(), 1e-3)
	r.o.Tell(p)
}

// share lets the rules look at one share.
func (r *rehearsing) share(ctx context.Context, number, shares int) error {
	stage, err := r.newStage(shares)
	if err != nil {
		return err
	}
	s := shareOf{log: r.from.Log, cold: r.from.Cold, number: number, topics: r.topics, when: r.when, tally: r.tally}
	const tellRecords = 1000
	n := 0
	for p, err := range s.records(ctx) {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = stage.add(r.topics[p.topic], p)
		}
		if err != nil {
			return err
		}
		if n++; n == tellRecords {
			r.tally.reached(number, p.at, n)
			r.tell(false)
			n = 0
		}
	}
	r.tally.reached(number, r.when.to, n)
	if err := stage.until(r.when.to); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range stage.sides {
		r.sides[i] = append(r.sides[i], stage.sides[i].alarms...)
	}
	return nil
}

func (r *rehearsing) fault(rule, _, _ string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults[rule+": "+err.Error()]++
}

// stage is where the rules of one share look.
type stage struct {
	tenant, device string
	sides          [2]side
	windows        worker.Task[store.AggregateRow] // nil where no rule looks at any
	closed         worker.Output[store.AggregateRow]
	clock          telemetry.Time
	message        telemetry.Message
}

func (r *rehearsing) newStage(shares int) (*stage, error) {
	s := &stage{tenant: r.o.Tenant, device: r.o.Device}
	for i, cfg := range []alerting.Config{r.o.Present, r.o.Changed} {
		fault := r.fault
		if i == 0 {
			fault = nil
		}
		rules, err := alerting.NewTask(cfg, shares, fault)
		if err != nil {
			return nil, err
		}
		s.sides[i] = side{rules: rules, byID: map[string]*Alarm{}, raised: map[channel][]*Alarm{}}
	}
	if r.any(alerting.OnAggregates) {
		var err error
		if s.windows, err = aggregator.NewTask(r.o.Windows); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// add lets the clock pass until a record was taken, and then everybody look at it.
func (s *stage) add(topic string, p passing) error {
	h, err := telemetry.PeekMessage(p.rec.Value)
	if err != nil || s.device != "" && (h.DeviceID != s.device || h.Tenant != s.tenant) {
		return nil //nolint:nilerr // it was a dead letter then, and is none of a rule's now
	}
	if err := s.until(p.at); err != nil {
		return err
	}
	for i := range s.sides {
		s.sides[i].add(topic, p.rec)
	}
	if topic != bus.Telemetry {
		return s.collect()
	}
	if s.windows != nil {
		if err := s.windows.Add(&s.closed, topic, p.rec); err == nil { // else it was a dead letter then
			s.look()
		}
	}
	if err := s.collect(); err != nil {
		return err
	}
	return s.watch(&h, p.rec.Value)
}

// until lets the clock tick once a second, as the workers' does while nothing is unread.
func (s *stage) until(at telemetry.Time) error {
	const tick = telemetry.Time(time.Second)
	if s.clock == 0 {
		s.clock = at
	}
	for s.clock+tick <= at {
		s.clock += tick
		if s.windows != nil {
			s.windows.Tick(&s.closed, s.clock, s.clock)
			s.look()
		}
		for i := range s.sides {
			s.sides[i].rules.Tick(&s.sides[i].out, s.clock, s.clock)
		}
		if err := s.collect(); err != nil {
			return err
		}
	}
	return nil
}

// look shows windows to the rules.
func (s *stage) look() {
	show := func(value []byte) {
		for i := range s.sides {
			s.sides[i].add(bus.Aggregates, bus.Record{Time: int64(s.clock), Value: value})
		}
	}
	for i := range s.closed.Rows {
		if s.closed.Rows[i].Revision > 0 { // else a correction of what was judged
			show(telemetry.AppendAggregate(nil, &s.closed.Rows[i].Aggregate))
		}
	}
	for i := range s.closed.Publish {
		show(s.closed.Publish[i].Record.Value)
	}
	s.closed.Rows, s.closed.Publish = s.closed.Rows[:0], s.closed.Publish[:0]
}

func (s *stage) collect() error {
	for i := range s.sides {
		if err := s.sides[i].collect(); err != nil {
			return err
		}
	}
	return nil
}

// watch notes the value of a message as a peak of the alarms that are raised for its channel.
func (s *stage) watch(h *telemetry.Header, value []byte) error {
	k := channel{h.Tenant, h.DeviceID, h.ChannelKey}
	if len(s.sides[0].raised[k])+len(s.sides[1].raised[k]) == 0 {
		return nil
	}
	if err := telemetry.ParseMessage(value, &s.message); err != nil || !s.message.HasValue {
		return nil //nolint:nilerr // as in add
	}
	v := s.message.Value
	for i := range s.sides {
		for _, a := range s.sides[i].raised[k] {
			if !a.HasPeak || a.down && v < a.Peak || !a.down && v > a.Peak {
				a.Peak, a.HasPeak = v, true
			}
		}
	}
	return nil
}

// channel names what an alarm is about.
type channel struct{ tenant, device, key string }

// side is one set of rules, and what it raised in one share.
type side struct {
	rules  worker.Task[telemetry.Alarm]
	out    worker.Output[telemetry.Alarm]
	alarms []*Alarm
	byID   map[string]*Alarm    // not cleared
	raised map[channel][]*Alarm // likewise
}

// add shows a record to the rules. What they cannot read was a dead letter when it came.
func (s *side) add(topic string, r bus.Record) { _ = s.rules.Add(&s.out, topic, r) }

// collect takes what the rules raised and cleared.
func (s *side) collect() error {
	for i := range s.out.Rows {
		row := &s.out.Rows[i]
		a := s.byID[row.AlarmID]
		k := channel{row.Tenant, row.DeviceID, row.ChannelKey}
		if a == nil && row.ClearedAt == 0 {
			if len(s.alarms) >= alarmsMax {
				return fmt.Errorf("more than %d alarms: want a shorter time, or --device", alarmsMax)
			}
			a = &Alarm{
				Rule: row.Rule, Device: strings.Clone(row.DeviceID), Channel: strings.Clone(row.ChannelKey), Severity: row.Severity, RaisedAt: row.RaisedAt,
				Value: strings.Clone(row.Value), tenant: strings.Clone(row.Tenant), id: row.AlarmID, down: falls(row),
			}
			k = channel{a.tenant, a.Device, a.Channel}
			s.alarms = append(s.alarms, a)
			s.byID[a.id] = a
			s.raised[k] = append(s.raised[k], a)
		}
		if a != nil && row.ClearedAt != 0 {
			a.ClearedAt = row.ClearedAt
			delete(s.byID, a.id)
			if left := slices.DeleteFunc(s.raised[k], func(o *Alarm) bool { return o == a }); len(left) > 0 {
				s.raised[k] = left
			} else {
				delete(s.raised, k)
			}
		}
	}
	clear(s.out.Rows)
	clear(s.out.Publish)
	s.out.Rows, s.out.Publish = s.out.Rows[:0], s.out.Publish[:0]
	return nil
}
