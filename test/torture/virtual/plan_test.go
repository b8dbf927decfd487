package virtual

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/store"
	storemem "github.com/millrace/millrace/pkg/store/mem"
	"github.com/millrace/millrace/pkg/telemetry"
)

// plan is everything that follows from a seed.
type plan struct {
	seed       uint64
	partitions int
	replicas   map[string]int // by service
	rate       float64        // of calls that fail
	budget     int            // most calls that fail
	reroute    time.Duration  // when the routes change, for every router that starts from then on; 0: never
	sends      []send
	events     []event
	only       map[fired]bool // where a run is repeated: the calls that fail, and no others
	trace      bool
}

// send is one message of one device: what it says and when. Its number is unique within the run.
type send struct {
	number  int
	device  string
	at      time.Duration // since the beginning
	message telemetry.Message
	again   bool // the device sends it once more although it was acknowledged
	garbage bool // bytes that are no message
}

// What may happen at a time.
const (
	eventCrash   = "crash"
	eventAll     = "crash all"
	eventPause   = "pause"
	eventStop    = "stop"
	eventSetBack = "set back"
	eventTrim    = "trim"
	eventEdge    = "crash the edge"
	eventPower   = "lose power"
)

// event is something that happens at a time.
type event struct {
	at      time.Duration
	what    string
	process string        // of crash, pause, stop
	table   string        // of set back
	length  time.Duration // of a pause; of a set back the age of the copy
	wake    time.Duration // of a pause: from the awakening until the process learns that its shares are gone
}

func (e event) String() string {
	return fmt.Sprintf("at %v %s %s%s (%v)", e.at, e.what, e.process, e.table, e.length)
}

func services() []string {
	return []string{"router", "state-projector", "history-writer", "aggregator", "alerting", "log-consumer"}
}

// owners says which service writes a table.
func owners() map[string]string {
	return map[string]string{
		store.TableState: "state-projector", store.TableMessages: "history-writer", storemem.TableSegments: "history-writer",
		store.TableAggregates: "aggregator", store.TableAlarms: "alerting", store.TableLogs: "log-consumer", store.TableDeadLetters: "log-consumer",
	}
}

func newPlan(seed uint64) *plan {
	dice := rand.New(rand.NewPCG(seed, 1))
	p := &plan{
		seed: seed, partitions: 1 + dice.IntN(2), replicas: make(map[string]int),
		rate: []float64{0, 0.01, 0.03, 0.1}[dice.IntN(4)], budget: 3 + dice.IntN(25),
	}
	for _, s := range services() {
		p.replicas[s] = 1 + dice.IntN(2)
	}
	span := time.Duration(10+dice.IntN(40)) * time.Second
	devices := 1 + dice.IntN(5)
	for d := range devices {
		p.sends = append(p.sends, script(dice, fmt.Sprintf("d%d", d), 5+dice.IntN(60/devices), span)...)
	}
	slices.SortStableFunc(p.sends, func(a, b send) int { return int(a.at - b.at) })
	for i := range p.sends {
		p.sends[i].number = i
	}
	for range dice.IntN(8) {
		p.events = append(p.events, p.drawEvent(dice, span))
	}
	if slices.ContainsFunc(p.events, func(e event) bool { return e.what == eventSetBack }) { // it needs what a trim takes
		p.events = slices.DeleteFunc(p.events, func(e event) bool { return e.what == eventTrim })
	}
	slices.SortStableFunc(p.events, func(a, b event) int { return int(a.at - b.at) })
	if dice.IntN(4) == 0 {
		p.reroutes(moment(dice, span))
	}
	return p
}

// reroutes changes the routes at a time. A router that sleeps through the end of its lease would wake with the old ones, and nobody can
// see what it has in hand; and what was trimmed cannot be looked at.
func (p *plan) reroutes(at time.Duration) {
	p.reroute = at
	p.events = slices.DeleteFunc(p.events, func(e event) bool {
		return e.what == eventTrim || e.what == eventPause && strings.HasPrefix(e.process, "router")
	})
}

func (p *plan) drawEvent(dice *rand.Rand, span time.Duration) event {
	kinds := []string{eventCrash, eventCrash, eventCrash, eventAll, eventPause, eventPause, eventPause, eventStop, eventSetBack, eventTrim, eventEdge}
	all := services()
	e := event{at: moment(dice, span), what: kinds[dice.IntN(len(kinds))]}
	switch e.what {
	case eventCrash, eventPause, eventStop:
		service := all[dice.IntN(len(all))]
		e.process = fmt.Sprintf("%s/%d", service, dice.IntN(p.replicas[service]))
		if e.what == eventPause {
			e.length = 5*time.Second + moment(dice, 20*time.Second)
			e.wake = moment(dice, 2*time.Second)
		}
	case eventSetBack:
		tables := []string{
			store.TableState, store.TableMessages, storemem.TableSegments, store.TableAggregates, store.TableAlarms, store.TableLogs,
			store.TableDeadLetters,
		}
		e.table = tables[dice.IntN(len(tables))]
		e.length = moment(dice, e.at+1)
	}
	return e
}

// script draws what one device sends.
func script(dice *rand.Rand, device string, n int, span time.Duration) []send {
	temper := dice.IntN(5)
	skew := time.Duration(0)
	if temper == 3 {
		skew = []time.Duration{15 * time.Second, -40 * time.Second}[dice.IntN(2)]
	}
	quiet := moment(dice, span) // an idle device says nothing in the second half of this
	var all []send
	for range n {
		s := send{device: device, at: moment(dice, span), again: dice.IntN(8) == 0, garbage: dice.IntN(40) == 0}
		if temper == 4 && s.at > quiet/2 && s.at < quiet {
			s.at = quiet
		}
		event := s.at + skew
		switch {
		case temper == 1:
			event += moment(dice, 12*time.Second) - 8*time.Second
		case temper == 2 && dice.IntN(4) == 0:
			event -= moment(dice, 100*time.Second)
		}
		s.message = say(dice, device)
		s.message.EventTime = telemetry.Time(event.Truncate(500 * time.Millisecond)) // since the beginning, for now
		all = append(all, s)
	}
	return all
}

// say draws what a message says.
func say(dice *rand.Rand, device string) telemetry.Message {
	m := telemetry.Message{Tenant: telemetry.DefaultTenant, DeviceID: device, DeviceType: "T", Source: "mqtt", Codec: "channel"}
	switch k := dice.IntN(10); {
	case k < 5:
		m.Kind, m.ChannelKey, m.ChannelType = telemetry.KindChannel, []string{"temp", "hum"}[dice.IntN(2)], "number"
		m.Value, m.HasValue = float64(30+dice.IntN(25)), true
		m.ChannelValue = fmt.Append(nil, m.Value)
		if dice.IntN(12) == 0 {
			m.ChannelType = refuseMessages // a row that a store of history will never take
		}
	case k < 7:
		m.Kind, m.ChannelKey, m.ChannelType = telemetry.KindChannel, "door", "text"
		m.ChannelValue = []byte([]string{"open", "closed"}[dice.IntN(2)])
	case k < 9:
		m.Kind, m.Text, m.Severity = telemetry.KindLog, "a line", telemetry.SeverityInfo
		if dice.IntN(3) == 0 {
			m.Severity = telemetry.SeverityCritical
		}
	default:
		m.Kind, m.ChannelKey, m.ChannelValue = telemetry.KindEvent, "report", []byte(`{"a":1}`)
	}
	return m
}

func moment(dice *rand.Rand, span time.Duration) time.Duration {
	return time.Duration(dice.Int64N(int64(max(span, 1)))).Truncate(time.Millisecond)
}
