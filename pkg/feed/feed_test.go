package feed_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/feed"
	"github.com/millrace/millrace/pkg/telemetry"
)

const patience = 20 * time.Second

// fixture is a log with a hub on it.
type fixture struct {
	log *mem.Log
	hub *feed.Hub
	seq map[int]uint64 // origins by partition
	mu  sync.Mutex
}

func newLog(partitions int) *mem.Log { return mem.New(mem.Config{Partitions: partitions}) }

// start runs a hub on the log until the test, or the returned stop, ends it.
func start(tb testing.TB, log *mem.Log, cfg feed.Config, reg prometheus.Registerer) (h *feed.Hub, stop func()) {
	tb.Helper()
	h, err := feed.NewHub(cfg, feed.Deps{Bus: log, Metrics: reg})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	<-h.Ready()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				tb.Errorf("run: %v", err)
			}
		})
	}
	tb.Cleanup(stop)
	return h, stop
}

func newFixture(tb testing.TB, partitions int) *fixture {
	tb.Helper()
	f := &fixture{log: newLog(partitions), seq: map[int]uint64{}}
	f.hub, _ = start(tb, f.log, feed.DefaultConfig(), nil)
	return f
}

func message(device, channel string, n int) []byte {
	return telemetry.AppendMessage(nil, &telemetry.Message{
		Tenant: telemetry.DefaultTenant, DeviceID: device, Kind: telemetry.KindChannel, ChannelKey: channel, ChannelType: "number",
		ChannelValue: []byte(strconv.Itoa(n)), Value: float64(n), HasValue: true, EventTime: telemetry.Time(n + 1), IngestTime: telemetry.Time(n + 1),
	})
}

// say appends one value of a device, as the router would, with an origin.
func (f *fixture) say(tb testing.TB, device, channel string, n int) {
	tb.Helper()
	p := bus.PartitionOf(telemetry.DefaultTenant, device, f.log.Partitions(bus.Telemetry))
	f.mu.Lock()
	f.seq[p]++
	origin := bus.Origin{Partition: int32(p), Position: bus.Position{Seq: f.seq[p]}}
	f.mu.Unlock()
	appendTo(tb, f.log, bus.PartitionID{Topic: bus.Telemetry, Number: p}, bus.Record{Origin: origin, Value: message(device, channel, n)})
}

func appendTo(tb testing.TB, log *mem.Log, id bus.PartitionID, recs ...bus.Record) {
	tb.Helper()
	if err := log.Append(context.Background(), id, recs); err != nil {
		tb.Fatal(err)
	}
}

func subscribe(tb testing.TB, h *feed.Hub, f feed.Filter, after string) *feed.Subscription {
	tb.Helper()
	s, err := h.Subscribe(context.Background(), f, after)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

// collect returns the next n events and what was missed before them.
func collect(tb testing.TB, s *feed.Subscription, n int) (events []feed.Event, missed uint64) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for len(events) < n {
		some, m, err := s.Next(ctx)
		if err != nil {
			tb.Fatalf("after %d of %d events: %v", len(events), n, err)
		}
		events, missed = append(events, some...), missed+m
	}
	return events, missed
}

func value(tb testing.TB, e feed.Event) int {
	tb.Helper()
	var body struct{ Value int }
	if err := json.Unmarshal(e.Data, &body); err != nil {
		tb.Fatalf("%s: %v", e.Data, err)
	}
	return body.Value
}

func TestAnEventBearsTheColumnsOfItsTable(t *testing.T) {
	at := telemetry.At(time.Date(2017, 4, 12, 17, 5, 20, 480850700, time.UTC))
	for _, c := range []struct {
		stream, topic string
		value         []byte
		want          string
	}{
		{feed.State, bus.Telemetry, telemetry.AppendMessage(nil, &telemetry.Message{
			Tenant: "default", DeviceID: "homecontroller", DeviceType: "Pi", Kind: telemetry.KindChannel, ChannelKey: "status@secvest", ChannelType: "json",
			ChannelValue: []byte("{\"Name\":\n \"S\"}"), EventTime: at, IngestTime: at + 1, MessageID: "m1",
		}), `{"tenant":"default","device_id":"homecontroller","device_type":"Pi","channel_key":"status@secvest","channel_type":"json",` +
			`"channel_value":"{\"Name\":\n \"S\"}","value":null,"json":{"Name":"S"},"event_time":"2017-04-12T17:05:20.4808507Z","ingest_time":"2017-04-12T17:05:20.480850701Z","message_id":"m1"}`},
		{feed.Logs, bus.Logs, telemetry.AppendMessage(nil, &telemetry.Message{
			Tenant: "default", DeviceID: "d", Kind: telemetry.KindLog, Severity: telemetry.SeverityCritical, Text: "a \"b\"\x01ü", LogSource: "s", EventTime: at, IngestTime: at,
		}), `{"tenant":"default","device_id":"d","device_type":"","severity":"Critical","source":"s","message":"a \"b\"\u0001ü","event_time":"2017-04-12T17:05:20.4808507Z","ingest_time":"2017-04-12T17:05:20.4808507Z","message_id":""}`},
		{feed.Aggregates, bus.Aggregates, telemetry.AppendAggregate(nil, &telemetry.Aggregate{
			Tenant: "default", DeviceID: "d", ChannelKey: "c", WindowStart: at, WindowLength: int64(10 * time.Second), Count: 2, Min: 1, Max: 3, Sum: 4, First: 1, Last: 3, P50: 1, P95: 3, P99: 3, Revision: 1, Final: true,
		}), `{"tenant":"default","device_id":"d","device_type":"","channel_key":"c","window_start":"2017-04-12T17:05:20.4808507Z","window_seconds":10,"count":2,"min":1,"max":3,"sum":4,"avg":2,"first":1,"last":3,"p50":1,"p95":3,"p99":3,"revision":1,"final":true}`},
		{feed.Alarms, bus.Alarms, telemetry.AppendAlarm(nil, &telemetry.Alarm{
			AlarmID: "a1", Tenant: "default", Rule: "r", DeviceID: "d", ChannelKey: "c", Severity: "error", State: telemetry.AlarmRaised, Value: "40", PreviousValue: "37", RaisedAt: at, Detail: []byte(`{"x":1}`), Revision: 1,
		}), `{"alarm_id":"a1","tenant":"default","rule":"r","device_id":"d","channel_key":"c","severity":"error","state":"raised","value":"40","previous_value":"37","raised_at":"2017-04-12T17:05:20.4808507Z","acked_at":null,"cleared_at":null,"detail":{"x":1},"revision":1}`},
	} {
		t.Run(c.stream, func(t *testing.T) {
			f := newFixture(t, 2)
			s := subscribe(t, f.hub, feed.Filter{}, "")
			appendTo(t, f.log, bus.PartitionID{Topic: c.topic, Number: 1}, bus.Record{Value: c.value})
			events, _ := collect(t, s, 1)
			if events[0].Stream != c.stream || string(events[0].Data) != c.want {
				t.Errorf("%s %s\nwant %s %s", events[0].Stream, events[0].Data, c.stream, c.want)
			}
		})
	}
}

func TestAFilterLetsThroughWhatItNames(t *testing.T) {
	for _, c := range []struct {
		name   string
		filter feed.Filter
		want   []int
	}{
		{"all", feed.Filter{}, []int{1, 2, 3, 4}},
		{"a device", feed.Filter{Device: "thermostat-1"}, []int{1}},
		{"devices by glob", feed.Filter{Device: "thermostat-*"}, []int{1, 2}},
		{"a channel", feed.Filter{Channel: "window"}, []int{3}},
		{"both", feed.Filter{Device: "*-1", Channel: "temp*"}, []int{1}},
		{"a tenant", feed.Filter{Tenant: "other", Device: "x"}, nil},
		{"the stream", feed.Filter{Streams: []string{feed.State}}, []int{1, 2, 3, 4}},
		{"another stream", feed.Filter{Streams: []string{feed.Logs}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, 4)
			s := subscribe(t, f.hub, c.filter, "")
			all := subscribe(t, f.hub, feed.Filter{}, "")
			f.say(t, "thermostat-1", "temperature", 1)
			f.say(t, "thermostat-2", "temperature", 2)
			f.say(t, "window-kitchen", "window", 3)
			f.say(t, "other", "door", 4)
			collect(t, all, 4) // what s would have got by mistake it has got by now
			events, _ := collect(t, s, len(c.want))
			got := map[int]bool{}
			for _, e := range events {
				got[value(t, e)] = true
			}
			for _, n := range c.want {
				if !got[n] {
					t.Errorf("%d is missing", n)
				}
			}
			if len(events) != len(c.want) {
				t.Errorf("%d events, want %v", len(events), c.want)
			}
		})
	}
	if _, err := newFixture(t, 1).hub.Subscribe(t.Context(), feed.Filter{Streams: []string{"stat"}}, ""); !errors.Is(err, feed.ErrFilter) {
		t.Errorf("unknown stream: %v", err)
	}
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"*", "", true},
		{"", "", true},
		{"a", "a", true},
		{"a", "b", false},
		{"a*", "abc", true},
		{"*c", "abc", true},
		{"a*c", "abbc", true},
		{"a*b*c", "aXbYbZc", true},
		{"a*b*c", "aXc", false},
		{"?", "ü", true},
		{"??", "ü", false},
		{"x?z", "xyz", true},
		{"[a]", "a", false},
		{"a/*", "a/b/c", true},
	} {
		if got := feed.Glob(c.pattern, c.text); got != c.want {
			t.Errorf("Glob(%q, %q) = %t", c.pattern, c.text, got)
		}
	}
}

// TestASubscriberThatComesBackMissesNothing appends all the time, while a subscriber loses its connection at random places and comes back, to
// the same hub or to another on the same log.
func TestASubscriberThatComesBackMissesNothing(t *testing.T) {
	f := newFixture(t, 3)
	other, _ := start(t, f.log.Open(), feed.DefaultConfig(), nil)
	hubs := []*feed.Hub{f.hub, other}
	const total, devices = 3000, 7
	s := subscribe(t, f.hub, feed.Filter{Streams: []string{feed.State}}, "")
	var writing sync.WaitGroup
	writing.Go(func() {
		for n := range total {
			f.say(t, fmt.Sprintf("dev%d", n%devices), "n", n)
		}
	})
	next := map[string]int{}
	for d := range devices {
		next[fmt.Sprintf("dev%d", d)] = d
	}
	r := rand.New(rand.NewPCG(1, 2))
	for got := 0; got < total; {
		events, missed := collect(t, s, 1)
		if missed > 0 {
			t.Fatalf("missed %d", missed)
		}
		cut := 1 + r.IntN(len(events)) // the connection breaks here
		for _, e := range events[:cut] {
			if n := value(t, e); n != next[e.Device] {
				t.Fatalf("%s: got %d, want %d", e.Device, n, next[e.Device])
			}
			next[e.Device] += devices
		}
		got += cut
		if cut < len(events) || r.IntN(20) == 0 {
			token := events[cut-1].ID
			s.Close()
			s = subscribe(t, hubs[r.IntN(len(hubs))], feed.Filter{Streams: []string{feed.State}}, token)
		}
	}
	writing.Wait()
}

func TestATokenOutlivesTheHub(t *testing.T) {
	log := newLog(2)
	f := &fixture{log: log, seq: map[int]uint64{}}
	first, stop := start(t, log, feed.DefaultConfig(), nil)
	s := subscribe(t, first, feed.Filter{}, "")
	f.say(t, "a", "n", 1)
	events, _ := collect(t, s, 1)
	quiet := s.Token()
	stop()
	if _, _, err := s.Next(t.Context()); !errors.Is(err, feed.ErrClosed) {
		t.Errorf("next after the hub has ended: %v", err)
	}
	f.say(t, "a", "n", 2)
	f.say(t, "b", "n", 3)
	second, _ := start(t, log, feed.DefaultConfig(), nil)
	f.say(t, "a", "n", 4)
	for _, token := range []string{events[0].ID, quiet} {
		again := subscribe(t, second, feed.Filter{}, token)
		events, missed := collect(t, again, 3)
		if missed > 0 || len(events) != 3 {
			t.Errorf("%d events, %d missed, want 3 and none", len(events), missed)
		}
	}
}

func TestASlowSubscriberIsToldWhatItMissedAndSlowsNobody(t *testing.T) {
	log := newLog(1)
	f := &fixture{log: log, seq: map[int]uint64{}}
	cfg := feed.DefaultConfig()
	cfg.QueueRecords = 10
	hub, _ := start(t, log, cfg, nil)
	slow := subscribe(t, hub, feed.Filter{}, "")
	quick := subscribe(t, hub, feed.Filter{}, "")
	const total = 500
	for n := range total {
		f.say(t, "a", "n", n)
		if events, missed := collect(t, quick, 1); missed > 0 || value(t, events[0]) != n {
			t.Fatalf("the quick one got %d after %d missed, want %d", value(t, events[0]), missed, n)
		}
	}
	events, missed := collect(t, slow, 1)
	if len(events) != 10 || missed != total-10 || value(t, events[0]) != total-10 {
		t.Errorf("%d events from %d on, %d missed; want the last 10, %d missed", len(events), value(t, events[0]), missed, total-10)
	}
}

func TestWhatWasAppendedTwiceIsThereOnce(t *testing.T) {
	log := newLog(1)
	id := bus.PartitionID{Topic: bus.Telemetry}
	record := func(n int) bus.Record {
		return bus.Record{Origin: bus.Origin{Position: bus.Position{Seq: uint64(n)}}, Value: message("a", "n", n)}
	}
	appendTo(t, log, id, record(1))
	hub, _ := start(t, log, feed.DefaultConfig(), nil)
	s := subscribe(t, hub, feed.Filter{}, "")
	appendTo(t, log, id, record(1), record(2)) // as a router does that crashed before its commit
	appendTo(t, log, id, record(2), record(3))
	events, _ := collect(t, s, 2)
	if value(t, events[0]) != 2 || value(t, events[1]) != 3 {
		t.Errorf("got %d and %d, want 2 and 3", value(t, events[0]), value(t, events[1]))
	}
	again := subscribe(t, hub, feed.Filter{}, events[0].ID)
	if events, _ := collect(t, again, 1); len(events) != 1 || value(t, events[0]) != 3 {
		t.Errorf("after 2 comes %d, want 3", value(t, events[0]))
	}
}

func TestWhatTheLogHasTrimmedCountsAsMissed(t *testing.T) {
	f := newFixture(t, 1)
	s := subscribe(t, f.hub, feed.Filter{}, "")
	for n := range 10 {
		f.say(t, "a", "n", n)
	}
	events, _ := collect(t, s, 10)
	f.log.Trim(bus.PartitionID{Topic: bus.Telemetry}, bus.Position{Seq: 7})
	again, missed := collect(t, subscribe(t, f.hub, feed.Filter{}, events[2].ID), 3)
	if missed != 4 || len(again) != 3 || value(t, again[0]) != 7 {
		t.Errorf("%d missed, then %d; want 4 missed, then 7", missed, value(t, again[0]))
	}
}

func TestATokenOfAnotherLogBeginsNow(t *testing.T) {
	f := newFixture(t, 1)
	s := subscribe(t, f.hub, feed.Filter{}, "")
	for n := range 10 {
		f.say(t, "a", "n", n)
	}
	events, _ := collect(t, s, 10)
	wiped := newFixture(t, 1)
	again := subscribe(t, wiped.hub, feed.Filter{}, events[9].ID)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, missed, err := again.Next(ctx); missed == 0 || err != nil {
		t.Fatalf("%d missed, error %v; want to be told", missed, err)
	}
	wiped.say(t, "a", "n", 77)
	if got, _ := collect(t, again, 1); value(t, got[0]) != 77 {
		t.Errorf("got %d, want 77", value(t, got[0]))
	}
	for _, token := range []string{"x", "AQ", "%%%", events[0].ID + ".1", strings.Repeat("A", 1<<17)} {
		if _, err := f.hub.Subscribe(t.Context(), feed.Filter{}, token); !errors.Is(err, feed.ErrToken) {
			t.Errorf("token %.20q: %v", token, err)
		}
	}
}

func TestSubscribersAreLimited(t *testing.T) {
	cfg := feed.DefaultConfig()
	cfg.Subscribers = 2
	hub, _ := start(t, newLog(1), cfg, nil)
	first := subscribe(t, hub, feed.Filter{}, "")
	subscribe(t, hub, feed.Filter{}, "")
	if _, err := hub.Subscribe(t.Context(), feed.Filter{}, ""); !errors.Is(err, feed.ErrTooMany) {
		t.Fatalf("the third: %v", err)
	}
	first.Close()
	deadline := time.After(patience)
	for hub.Subscribers() > 1 {
		select {
		case <-deadline:
			t.Fatal("the place is not given back")
		default:
		}
	}
	subscribe(t, hub, feed.Filter{}, "")
}

func TestReadingGoesOnAfterAFault(t *testing.T) {
	f := newFixture(t, 2)
	s := subscribe(t, f.hub, feed.Filter{}, "")
	broken := errors.New("broken")
	f.log.SetFaults(mem.Faults{BeforeRead: func(context.Context, bus.PartitionID, bus.Position) error { return broken }})
	f.say(t, "a", "n", 1)
	f.say(t, "b", "n", 2)
	f.log.SetFaults(mem.Faults{})
	f.say(t, "a", "n", 3)
	events, missed := collect(t, s, 3)
	if len(events) != 3 || missed > 0 {
		t.Errorf("%d events, %d missed", len(events), missed)
	}
}

func TestNothingIsDecodedForNobody(t *testing.T) {
	log := newLog(1)
	reg := prometheus.NewRegistry()
	hub, _ := start(t, log, feed.DefaultConfig(), reg)
	id := bus.PartitionID{Topic: bus.Telemetry}
	appendTo(t, log, id, bus.Record{Value: []byte{0xff}})
	logs := subscribe(t, hub, feed.Filter{Streams: []string{feed.Logs}}, "")
	appendTo(t, log, bus.PartitionID{Topic: bus.Logs}, bus.Record{Value: []byte{0xff}}, bus.Record{Value: message("a", "", 1)})
	collect(t, logs, 1)
	const want = `
# HELP millrace_feed_undecodable_total Records that are not what their topic holds.
# TYPE millrace_feed_undecodable_total counter
millrace_feed_undecodable_total 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "millrace_feed_undecodable_total"); err != nil {
		t.Error(err)
	}
}

func FuzzToken(f *testing.F) {
	fx := newFixture(f, 2)
	s := subscribe(f, fx.hub, feed.Filter{}, "")
	fx.say(f, "a", "n", 1)
	events, _ := collect(f, s, 1)
	f.Add(events[0].ID)
	f.Add("AQQC.0.1.0")
	f.Add("AQQ")
	f.Fuzz(func(t *testing.T, token string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		again, err := fx.hub.Subscribe(ctx, feed.Filter{Streams: []string{feed.State}}, token)
		if err != nil {
			if !errors.Is(err, feed.ErrToken) {
				t.Fatal(err)
			}
			return
		}
		again.Close()
	})
}

func FuzzEventIsJSON(f *testing.F) {
	log := newLog(1)
	hub, _ := start(f, log, feed.DefaultConfig(), nil)
	f.Add("dev", "chan", []byte(`{"a": [1,2]}`), 1.5)
	f.Add("\xff\u2028", "\x00", []byte("[1"), 0.0)
	f.Fuzz(func(t *testing.T, device, channel string, value []byte, number float64) {
		s := subscribe(t, hub, feed.Filter{}, "")
		appendTo(t, log, bus.PartitionID{Topic: bus.Telemetry}, bus.Record{Value: telemetry.AppendMessage(nil, &telemetry.Message{
			DeviceID: device, ChannelKey: channel, ChannelValue: value, Value: number, HasValue: true,
		})})
		events, _ := collect(t, s, 1)
		var body map[string]any
		if err := json.Unmarshal(events[0].Data, &body); err != nil {
			t.Fatalf("%s: %v", events[0].Data, err)
		}
		if strings.ContainsAny(string(events[0].Data), "\n\r") {
			t.Fatalf("%q has a line break", events[0].Data)
		}
		s.Close()
	})
}

func BenchmarkTake(b *testing.B) {
	for _, subscribers := range []int{0, 1, 100} {
		b.Run(strconv.Itoa(subscribers), func(b *testing.B) {
			log := newLog(1)
			hub, _ := start(b, log, feed.DefaultConfig(), nil)
			for range subscribers {
				subscribe(b, hub, feed.Filter{}, "")
			}
			all := subscribe(b, hub, feed.Filter{Device: "last"}, "")
			recs := make([]bus.Record, 1000)
			for i := range recs {
				recs[i].Value = message("device-1", "temperature", i)
			}
			id := bus.PartitionID{Topic: bus.Telemetry}
			n := 0
			for b.Loop() {
				appendTo(b, log, id, recs...)
				appendTo(b, log, id, bus.Record{Value: message("last", "x", 1)})
				collect(b, all, 1)
				log.Trim(id, bus.Position{Seq: 1 << 40})
				n += len(recs)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/record")
		})
	}
}
