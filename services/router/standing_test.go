package router_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/router"
)

func event(id string) telemetry.Message {
	m := channel(id, "report", "text", 0)
	m.Kind = telemetry.KindEvent
	return m
}

// otherwise are routes that send much elsewhere.
func otherwise() router.Config {
	cfg := router.DefaultConfig()
	cfg.Routes = []router.Route{
		{Name: "event", Condition: `kind == "event"`, Endpoints: []string{bus.Telemetry}},
		{Name: "channel", Condition: `kind == "channel"`, Endpoints: []string{bus.Logs}},
	}
	return cfg
}

// stand appends to a topic what a former life of the router would have: the messages that ingested has at these places.
func stand(t *testing.T, log *mem.Log, topic string, places ...int) {
	t.Helper()
	in := log.Records(ingested)
	for _, i := range places {
		r := bus.Record{Origin: bus.Origin{Position: in[i].Position}, Value: in[i].Value}
		if err := log.Append(t.Context(), bus.PartitionID{Topic: topic}, []bus.Record{r}); err != nil {
			t.Fatal(err)
		}
	}
}

// lettersOf returns the dead letters as "position reason", each once.
func lettersOf(t *testing.T, log *mem.Log) []string {
	t.Helper()
	var all []string
	for _, r := range log.Records(bus.PartitionID{Topic: bus.DeadLetters}) {
		var d telemetry.DeadLetter
		if err := telemetry.ParseDeadLetter(r.Value, &d); err != nil {
			t.Fatal(err)
		}
		if d.Worker != router.Worker || d.Topic != bus.Ingested || d.DeviceID != "lab1" || len(d.Payload) == 0 {
			t.Errorf("letter %+v, want one of the router's", d)
		}
		if text := d.Position + " " + d.Reason + " " + d.Context; !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	return all
}

func TestWhatStandsInATopicIsNotSentElsewhereByOtherRoutes(t *testing.T) {
	const changed = "the routes, or what they look at, were changed while it was on its way: "
	copying := otherwise()
	copying.Routes = append(copying.Routes, router.Route{Name: "copy", Endpoints: []string{"copies"}})
	copiesOnly := router.DefaultConfig()
	copiesOnly.Routes = []router.Route{{Name: "event", Condition: `kind == "event"`, Endpoints: []string{"copies"}}}
	tests := []struct {
		name    string
		cfg     router.Config
		stands  map[string][]int // of e0 c1 e2 c3
		want    map[string]string
		letters []string // what each must contain
	}{
		{"what stands nowhere goes as the routes say", otherwise(), nil, map[string]string{bus.Telemetry: "e0 e2", bus.Logs: "c1 c3", bus.Events: ""}, nil},
		{
			"what stands in a home stays there", otherwise(),
			map[string][]int{bus.Events: {0, 2}, bus.Telemetry: {1, 3}},
			map[string]string{bus.Telemetry: "c1 c3", bus.Logs: "", bus.Events: "e0 e2"},
			nil,
		},
		{
			"what no reader would take becomes a dead letter", otherwise(),
			map[string][]int{bus.Telemetry: {1, 3}},
			map[string]string{bus.Telemetry: "c1 c3", bus.Logs: "", bus.Events: ""},
			[]string{"1.0 route: " + changed + "telemetry had a later message", "1.2 route: " + changed},
		},
		{
			"behind a topic's newest there is room", otherwise(),
			map[string][]int{bus.Telemetry: {1}},
			map[string]string{bus.Telemetry: "c1 e2", bus.Logs: "c3", bus.Events: ""},
			[]string{"1.0 "},
		},
		{
			"endpoints of one's own are filled up", copying,
			map[string][]int{bus.Events: {0, 2}, "copies": {0}},
			map[string]string{bus.Telemetry: "", bus.Logs: "c1 c3", bus.Events: "e0 e2", "copies": "e0 c1 e2 c3"},
			nil,
		},
		{
			"what one endpoint can no longer take is a dead letter, and goes to the others", copying,
			map[string][]int{bus.Events: {0, 2}, "copies": {2}},
			map[string]string{bus.Telemetry: "", bus.Logs: "c1 c3", bus.Events: "e0 e2", "copies": "e2 c3"},
			[]string{`1.0 ` + changed + "copies", `"published_to":"copies"`},
		},
		{
			"what has no home is a dead letter where none of its endpoints takes it", copiesOnly,
			map[string][]int{"copies": {2}},
			map[string]string{bus.Telemetry: "c1 c3", bus.Events: "", "copies": "e2"},
			[]string{"1.0 route: "},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := mem.New(mem.Config{Topics: []string{"copies"}, Now: time.Now})
				put(t, log, event("e0"), channel("c1", "t", "1", 1), event("e2"), channel("c3", "t", "1", 1))
				for topic, places := range tt.stands {
					stand(t, log, topic, places...)
				}
				for range 2 { // as if the first had crashed before its commit as well
					crashing := log.Open()
					stop := start(t, tt.cfg, crashing, nil)
					crashing.Crash()
					_ = stop()
				}
				stop := start(t, tt.cfg, log, nil)
				check(t, log, tt.want)
				letters := lettersOf(t, log)
				if len(letters) != len(tt.letters) {
					t.Errorf("letters %q, want %d", letters, len(tt.letters))
				}
				for _, want := range tt.letters {
					if !slices.ContainsFunc(letters, func(l string) bool { return strings.Contains(l, want) }) {
						t.Errorf("letters %q, want one with %q", letters, want)
					}
				}
				if err := stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Whoever puts the letter back must not have the message twice.
func TestAMessageThatBecameADeadLetterStaysOneWhenTheRoutesChangeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog(otherwise())
		put(t, log, event("e0"), channel("c1", "t", "1", 1))
		stand(t, log, bus.Telemetry, 1)
		for _, cfg := range []router.Config{otherwise(), router.DefaultConfig()} {
			crashing := log.Open()
			stop := start(t, cfg, crashing, nil)
			crashing.Crash()
			_ = stop()
		}
		check(t, log, map[string]string{bus.Telemetry: "c1", bus.Events: ""})
		if letters := lettersOf(t, log); len(letters) != 1 {
			t.Errorf("letters %q, want one", letters)
		}
	})
}

func TestATopicThatIsTrimmedAwayHoldsNoStartUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog(otherwise())
		put(t, log, event("e0"), channel("c1", "t", "1", 1))
		stand(t, log, bus.Telemetry, 1)
		log.Trim(bus.PartitionID{Topic: bus.Telemetry}, bus.Position{Seq: 9})
		began := time.Now()
		stop := start(t, otherwise(), log, nil)
		check(t, log, map[string]string{bus.Telemetry: "e0", bus.Logs: "c1"})
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v", took)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// A router dies at some append and comes back with other routes, again and again: every message is in one home, or a dead letter.
func TestRoutesThatChangeAcrossCrashesLoseAndDoubleNothing(t *testing.T) {
	for dieAt := range 12 {
		t.Run(fmt.Sprint("at append ", dieAt), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := newLog(otherwise())
				routes := []router.Config{router.DefaultConfig(), otherwise()}
				next, channels, lines := 0, 0, 0
				for life := range 6 {
					handle := log.Open()
					var appends atomic.Int32
					fail := func(_ context.Context, id bus.PartitionID, _ []bus.Record) error {
						if id.Topic != bus.Ingested && appends.Add(1) > int32(dieAt+life) {
							handle.Crash()
							return errors.New("nobody knows")
						}
						return nil
					}
					faults := mem.Faults{AfterAppend: fail}
					if dieAt%2 == 0 {
						faults = mem.Faults{BeforeAppend: fail}
					}
					handle.SetOwnFaults(faults)
					stop := start(t, routes[life%2], handle, nil)
					for range 8 {
						put(t, log, event(fmt.Sprint("e", next)), channel(fmt.Sprint("c", next), "t", "1", 1), event(fmt.Sprint("f", next)))
						next++
						<-time.After(300 * time.Millisecond)
					}
					handle.Crash()
					_ = stop()
				}
				stop := start(t, routes[0], log, nil)
				<-time.After(time.Minute)
				synctest.Wait()
				kept := map[string]int{}
				for _, topic := range []string{bus.Telemetry, bus.Logs, bus.Events} {
					taken := takenFrom(t, log, topic)
					for _, id := range taken {
						kept[id]++
					}
					switch topic {
					case bus.Telemetry:
						channels = len(taken)
					case bus.Logs:
						lines = len(taken)
					}
				}
				letters := lettersOf(t, log)
				if all := 3 * next; len(kept)+len(letters) != all {
					t.Errorf("%d messages are kept and %d dead letters, want %d together", len(kept), len(letters), all)
				}
				for id, n := range kept {
					if n != 1 {
						t.Errorf("%s is kept %d times", id, n)
					}
				}
				checkRouted(t, log, channels, lines, len(letters))
				if err := stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
