package router_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/router"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ingested = bus.PartitionID{Topic: bus.Ingested}

func channel(id, key, value string, number float64) telemetry.Message {
	return telemetry.Message{
		Tenant: "default", DeviceID: "lab1", DeviceType: "thermostat", Kind: telemetry.KindChannel, MessageID: id,
		ChannelKey: key, ChannelType: "number", ChannelValue: []byte(value), Value: number, HasValue: value != "text",
		EventTime: 1, IngestTime: 2,
	}
}

func put(t *testing.T, log bus.Log, messages ...telemetry.Message) {
	t.Helper()
	var recs []bus.Record
	for i := range messages {
		recs = append(recs, bus.Record{Value: telemetry.AppendMessage(nil, &messages[i])})
	}
	if err := log.Append(t.Context(), ingested, recs); err != nil {
		t.Fatal(err)
	}
}

// start runs a router and returns what ends it. To be called in a bubble.
func start(t *testing.T, cfg router.Config, log bus.Log, reg prometheus.Registerer) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- router.Run(ctx, cfg, router.Deps{Bus: log, Metrics: reg, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	}()
	synctest.Wait()
	return func() error {
		cancel()
		return <-ended
	}
}

// texts returns the ids of the messages in topic, as "m1 m2".
func texts(t *testing.T, log *mem.Log, topic string) string {
	t.Helper()
	var ids []string
	for _, m := range messagesOf(t, log, topic) {
		ids = append(ids, m.MessageID)
	}
	return strings.Join(ids, " ")
}

func messagesOf(t *testing.T, log *mem.Log, topic string) []telemetry.Message {
	t.Helper()
	var messages []telemetry.Message
	for _, r := range log.Records(bus.PartitionID{Topic: topic}) {
		var m telemetry.Message
		if err := telemetry.ParseMessage(r.Value, &m); err != nil {
			t.Fatalf("%s: %v", topic, err)
		}
		messages = append(messages, m)
	}
	return messages
}

func check(t *testing.T, log *mem.Log, want map[string]string) {
	t.Helper()
	for topic, ids := range want {
		if got := texts(t, log, topic); got != ids {
			t.Errorf("%s: got %q, want %q", topic, got, ids)
		}
	}
}

func newLog(cfg router.Config) *mem.Log {
	return mem.New(mem.Config{Topics: cfg.Topics(), Now: time.Now})
}

func TestWithoutConfigurationEachKindHasItsTopicAndTheRestGoesToTheFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := router.DefaultConfig()
		log := newLog(cfg)
		put(t, log,
			channel("c1", "temperature", "21.5", 21.5),
			telemetry.Message{DeviceID: "gw", Kind: telemetry.KindLog, MessageID: "l1", Text: "hello", Severity: telemetry.SeverityInfo},
			telemetry.Message{DeviceID: "gw", Kind: telemetry.KindEvent, MessageID: "e1"},
			telemetry.Message{DeviceID: "gw", Kind: telemetry.KindUnknown, MessageID: "u1"},
			channel("c2", "temperature", "22", 22),
		)
		stop := start(t, cfg, log, nil)
		check(t, log, map[string]string{bus.Telemetry: "c1 c2", bus.Logs: "l1", bus.Events: "e1 u1", bus.DeadLetters: ""})
		in, out := log.Records(ingested), log.Records(bus.PartitionID{Topic: bus.Telemetry})
		if want := (bus.Origin{Position: in[4].Position}); out[1].Origin != want || !bytes.Equal(out[1].Value, in[4].Value) {
			t.Errorf("c2 has the origin %v and %d bytes, want %v and the bytes that came", out[1].Origin, len(out[1].Value), want)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestRoutes(t *testing.T) {
	off := false
	warmRoom := router.Route{Name: "warm", Condition: `channelKey == "temperature" && hasValue && value > 30`, Endpoints: []string{"hot"}}
	tests := []struct {
		name   string
		routes []router.Route
		want   map[string]string
	}{
		{"a route of one's own stands beside the built-in ones", []router.Route{warmRoom}, map[string]string{"hot": "c2", bus.Telemetry: "c1 c2 c3", bus.Events: ""}},
		{
			"a message goes to a topic once, however many routes name it",
			[]router.Route{warmRoom, {Name: "also", Condition: `value > 0`, Endpoints: []string{"hot", bus.Telemetry}}},
			map[string]string{"hot": "c1 c2", bus.Telemetry: "c1 c2 c3", bus.Events: ""},
		},
		{
			"a condition that fails leaves a message that another route keeps where it is",
			[]router.Route{{Name: "warm", Condition: `value > 30`, Endpoints: []string{"hot"}}},
			map[string]string{"hot": "c2", bus.Telemetry: "c1 c2 c3", bus.Events: ""},
		},
		{
			"a condition that fails sends the message to the fallback",
			[]router.Route{{Name: "channel", Condition: `value > 30`, Endpoints: []string{bus.Telemetry}}, {Name: "hot", Endpoints: []string{"hot"}}},
			map[string]string{"hot": "c1 c2 c3", bus.Telemetry: "c2", bus.Events: "c3"},
		},
		{
			"a message has one home, the first that a route names",
			[]router.Route{{Name: "all-are-events", Endpoints: []string{bus.Events}}},
			map[string]string{bus.Telemetry: "c1 c2 c3", bus.Events: ""},
		},
		{
			"a route that bears a built-in name takes its place",
			[]router.Route{{Name: "channel", Condition: `hasValue`, Endpoints: []string{"hot"}}},
			map[string]string{"hot": "c1 c2", bus.Telemetry: "", bus.Events: "c3"},
		},
		{
			"a built-in route can be switched off",
			[]router.Route{{Name: "channel", Endpoints: []string{"hot"}, Enabled: &off}},
			map[string]string{bus.Telemetry: "", bus.Events: "c1 c2 c3"},
		},
		{
			"a route without a condition takes all",
			[]router.Route{{Name: "copy", Source: bus.Ingested, Endpoints: []string{"hot"}}},
			map[string]string{"hot": "c1 c2 c3", bus.Telemetry: "c1 c2 c3", bus.Events: ""},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := router.DefaultConfig()
				cfg.Routes = tt.routes
				log := newLog(cfg)
				put(t, log, channel("c1", "temperature", "21.5", 21.5), channel("c2", "temperature", "31", 31), channel("c3", "temperature", "text", 0))
				stop := start(t, cfg, log, nil)
				check(t, log, tt.want)
				if err := stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestWhatIsNoMessageBecomesADeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := router.DefaultConfig()
		log := newLog(cfg)
		nobody := telemetry.Message{Kind: telemetry.KindLog, Text: "who am I"}
		recs := []bus.Record{{Value: []byte("\xff\xff rubbish")}, {Value: telemetry.AppendMessage(nil, &nobody)}}
		if err := log.Append(t.Context(), ingested, recs); err != nil {
			t.Fatal(err)
		}
		put(t, log, channel("c1", "t", "1", 1))
		stop := start(t, cfg, log, nil)
		check(t, log, map[string]string{bus.Telemetry: "c1", bus.Logs: "", bus.Events: ""})
		letters := log.Records(bus.PartitionID{Topic: bus.DeadLetters})
		for i, want := range []string{"route: message header: ", "route: the message names no device"} {
			var d telemetry.DeadLetter
			if len(letters) != 2 {
				t.Fatalf("%d dead letters, want 2", len(letters))
			}
			if err := telemetry.ParseDeadLetter(letters[i].Value, &d); err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(d.Reason, want) || !bytes.Equal(d.Payload, recs[i].Value) {
				t.Errorf("dead letter %d: reason %q, %d bytes, want %q and the bytes that came", i, d.Reason, len(d.Payload), want)
			}
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestADevicesRetryIsDroppedAndARestartDoesNotForgetThat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := router.DefaultConfig()
		log := newLog(cfg)
		other := channel("c1", "t", "1", 1)
		other.DeviceID = "lab2"
		nameless := channel("", "t", "9", 9)
		for i := range 200 { // so that reading back takes several sections
			put(t, log, channel(fmt.Sprint("x", i), "t", "1", 1))
		}
		put(t, log, channel("c1", "t", "1", 1), channel("c2", "t", "2", 2), channel("c1", "t", "1", 1), other, nameless, nameless)
		reg := prometheus.NewRegistry()
		stop := start(t, cfg, log, reg)
		if got := texts(t, log, bus.Telemetry); !strings.HasSuffix(got, " x199 c1 c2 c1  ") {
			t.Errorf("got …%q, want c1 once of each device, and both that have no id", got[max(0, len(got)-30):])
		}
		if n := repeats(t, reg); n != 1 {
			t.Errorf("%v repeats counted, want 1", n)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		before := len(log.Records(bus.PartitionID{Topic: bus.Telemetry}))
		put(t, log, channel("x150", "t", "1", 1), channel("c2", "t", "2", 2), channel("c3", "t", "3", 3))
		stop = start(t, cfg, log, nil)
		after := messagesOf(t, log, bus.Telemetry)[before:]
		if len(after) != 1 || after[0].MessageID != "c3" {
			t.Errorf("after a restart %d messages passed, want c3 alone", len(after))
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func repeats(t *testing.T, reg *prometheus.Registry) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "millrace_router_repeats_total" {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatal("millrace_router_repeats_total is not there")
	return 0
}

func TestAfterATrimmedLogTheRouterStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := router.DefaultConfig()
		log := newLog(cfg)
		for i := range 100 {
			put(t, log, channel(fmt.Sprint("x", i), "t", "1", 1))
		}
		stop := start(t, cfg, log, nil)
		if err := stop(); err != nil {
			t.Error(err)
		}
		for _, through := range []uint64{90, 100} {
			log.Trim(ingested, log.Records(ingested)[0].Position)
			log.Trim(ingested, bus.Position{Seq: through, Index: 1 << 30})
			put(t, log, channel(fmt.Sprint("late", through), "t", "1", 1))
			stop := start(t, cfg, log, nil)
			if got := texts(t, log, bus.Telemetry); !strings.HasSuffix(got, fmt.Sprint(" late", through)) {
				t.Errorf("trimmed through %d: the newest message did not pass", through)
			}
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
	})
}

// A router that dies after an append and before its commit appends again; a reader that goes by origin takes each once.
func TestARouterThatCrashesDoublesNothingForItsReaders(t *testing.T) {
	for dieAt := range 6 {
		t.Run(fmt.Sprint("at append ", dieAt), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := router.DefaultConfig()
				cfg.Routes = []router.Route{{Name: "copy", Condition: `hasValue`, Endpoints: []string{"copies"}}}
				log := newLog(cfg)
				var want []string
				first := log.Open()
				var appends atomic.Int32 // topics are appended to side by side
				log.SetFaults(mem.Faults{
					AfterAppend: func(_ context.Context, id bus.PartitionID, _ []bus.Record) error {
						if id.Topic == bus.Ingested {
							return nil
						}
						if appends.Add(1) == int32(dieAt)+1 {
							first.Crash()
							return errors.New("nobody knows")
						}
						return nil
					},
				})
				stop := start(t, cfg, first, nil)
				for i := range 10 {
					id := fmt.Sprint("m", i)
					want = append(want, id)
					put(t, log, channel(id, "t", "1", 1), channel(id, "t", "1", 1))
					synctest.Wait()
				}
				if err := stop(); err == nil {
					t.Error("the router did not notice that its log is gone")
				}
				second := log.Open()
				stop = start(t, cfg, second, nil)
				for _, topic := range []string{bus.Telemetry, "copies"} {
					var origins bus.Origins
					var got []string
					for _, r := range log.Records(bus.PartitionID{Topic: topic}) {
						if !origins.Take(r.Origin) {
							continue
						}
						head, err := telemetry.PeekMessage(r.Value)
						if err != nil {
							t.Fatal(err)
						}
						got = append(got, head.MessageID)
					}
					if !slices.Equal(got, want) {
						t.Errorf("%s: got %v, want %v", topic, got, want)
					}
				}
				if err := stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestReferenceDataEnrichesAndIsReadAgainWhenItChanges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "devices.csv")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("device,site,type,limit\nlab1,Ulm,TH-100,30\n")
	synctest.Test(t, func(t *testing.T) {
		cfg := router.DefaultConfig()
		cfg.Reference = []router.Reference{{
			Name: "devices", File: file, Key: "device", Set: map[string]string{"deviceType": "type", "properties.site": "site"},
		}}
		cfg.Routes = []router.Route{
			{Name: "ulm", Condition: `deviceType == "TH-100" && properties.site == "Ulm"`, Endpoints: []string{"ulm"}},
			{Name: "hot", Condition: `value > double(reference.devices.limit)`, Endpoints: []string{"hot"}},
		}
		log := newLog(cfg)
		stranger := channel("s1", "t", "50", 50)
		stranger.DeviceID = "stranger"
		own := channel("c1", "t", "31", 31)
		own.Properties = []telemetry.Property{{Key: "site", Value: "a lie"}, {Key: "floor", Value: "2"}}
		put(t, log, own, channel("c2", "t", "29", 29), stranger)
		stop := start(t, cfg, log, nil)
		check(t, log, map[string]string{"ulm": "c1 c2", "hot": "c1", bus.Telemetry: "c1 c2 s1", bus.Events: ""})
		got := messagesOf(t, log, bus.Telemetry)
		want := own
		want.DeviceType = "TH-100"
		want.Properties = []telemetry.Property{{Key: "floor", Value: "2"}, {Key: "site", Value: "Ulm"}}
		if fmt.Sprint(got[0]) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got[0], want)
		}
		in, out := log.Records(ingested), log.Records(bus.PartitionID{Topic: bus.Telemetry})
		if !bytes.Equal(in[2].Value, out[2].Value) {
			t.Error("the bytes of a message that has no row changed")
		}

		write("device,site,type,limit\nlab1,Bonn,TH-100,10\n")
		again := time.NewTimer(3 * time.Second) // of the bubble
		<-again.C
		synctest.Wait()
		put(t, log, channel("c3", "t", "29", 29))
		synctest.Wait()
		check(t, log, map[string]string{"ulm": "c1 c2", "hot": "c1 c3"})
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestRunRefusesWhatCannotWork(t *testing.T) {
	tests := []struct {
		name   string
		change func(c *router.Config)
		want   string
	}{
		{"a bad condition", func(c *router.Config) {
			c.Routes = []router.Route{{Name: "a", Condition: "1", Endpoints: []string{"x"}}}
		}, "router: routes[0].condition: "},
		{"an endpoint that the bus does not know", func(c *router.Config) { c.Fallback = []string{"elsewhere"} }, `router: endpoint "elsewhere": `},
		{"reference data that is not there", func(c *router.Config) {
			c.Reference = []router.Reference{{Name: "a", File: "/nowhere/a.csv", Key: "k"}}
		}, "router: look at reference data a: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := router.DefaultConfig()
			tt.change(&cfg)
			err := router.Run(t.Context(), cfg, router.Deps{Bus: mem.New(mem.Config{}), Log: slog.Default(), Now: time.Now})
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Fatalf("error %v, want %s", err, tt.want)
			}
		})
	}
}
