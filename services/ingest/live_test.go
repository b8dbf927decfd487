package ingest_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/access"
	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/feed"
	"github.com/millrace/millrace/pkg/mqtt"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/ingest"
)

// later is a feed that is made after the rig whose log it reads.
type later struct{ hub atomic.Pointer[feed.Hub] }

func (l *later) Subscribe(ctx context.Context, f feed.Filter, after string) (*feed.Subscription, error) {
	return l.hub.Load().Subscribe(ctx, f, after)
}

func startLive(t *testing.T, s setup) *rig {
	t.Helper()
	l := &later{}
	s.feed = l
	if s.mem.Partitions == 0 {
		s.mem = mem.Config{Partitions: 2}
	}
	r := start(t, s)
	hub, err := feed.NewHub(feed.DefaultConfig(), feed.Deps{Bus: r.log, Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	l.hub.Store(hub)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = hub.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	<-hub.Ready()
	return r
}

// happens appends a message to the topic telemetry, as the router does.
func (r *rig) happens(device, channel, value string) {
	r.t.Helper()
	m := telemetry.Message{
		Tenant: telemetry.DefaultTenant, DeviceID: device, Kind: telemetry.KindChannel, ChannelKey: channel, ChannelType: "number",
		ChannelValue: []byte(value), EventTime: 1, IngestTime: 1,
	}
	n := bus.PartitionOf(m.Tenant, m.DeviceID, r.log.Partitions(bus.Telemetry))
	id := bus.PartitionID{Topic: bus.Telemetry, Number: n}
	if err := r.log.Append(context.Background(), id, []bus.Record{{Value: telemetry.AppendMessage(nil, &m)}}); err != nil {
		r.t.Fatal(err)
	}
}

func (w *raw) subscribe(subs ...mqtt.Subscription) []mqtt.Reason {
	w.t.Helper()
	w.send(mqtt.AppendSubscribe(nil, w.version, &mqtt.Subscribe{PacketID: 9, Subscriptions: subs}))
	p := w.next()
	a, err := mqtt.ParseSuback(p.Type, append([]byte(nil), p.Body...), w.version)
	if err != nil {
		w.t.Fatal(err)
	}
	return a.Reasons
}

// message expects a PUBLISH and returns it as "topic dup".
func (w *raw) message() (text string, m mqtt.Publish) {
	w.t.Helper()
	p := w.next()
	if p.Type != mqtt.TypePublish {
		w.t.Fatalf("%v, want PUBLISH", p.Type)
	}
	if err := mqtt.ParsePublish(p.Flags, append([]byte(nil), p.Body...), w.version, &m); err != nil {
		w.t.Fatal(err)
	}
	return fmt.Sprintf("%s %v", m.Topic, m.Dup), m
}

func TestSubscribersGetTheLiveStreams(t *testing.T) {
	for _, version := range []mqtt.Version{mqtt.Version311, mqtt.Version5} {
		r := startLive(t, setup{})
		w := r.raw(version)
		w.connect(mqtt.Connect{ClientID: "c", CleanStart: true})
		got := w.subscribe(mqtt.Subscription{Filter: "live/state/+/temperature", QoS: 2}, mqtt.Subscription{Filter: "live/state/b/#"})
		if !slices.Equal(got, []mqtt.Reason{1, 0}) {
			t.Fatal(got)
		}
		r.happens("a", "temperature", "1")
		r.happens("a", "other", "2")
		text, m := w.message()
		if text != "live/state/a/temperature false" || m.QoS != 1 || !strings.Contains(string(m.Payload), `"device_id":"a"`) {
			t.Errorf("%s %d %s", text, m.QoS, m.Payload)
		}
		r.happens("b", "x/y+z", "3")
		if text, m := w.message(); text != "live/state/b/x/y%2Bz false" || m.QoS != 0 {
			t.Errorf("%s %d", text, m.QoS)
		}
		w.send(mqtt.AppendUnsubscribe(nil, version, &mqtt.Unsubscribe{PacketID: 3, Filters: []string{"live/state/b/#"}}))
		if p := w.next(); p.Type != mqtt.TypeUnsuback {
			t.Fatal(p.Type)
		}
		r.happens("b", "z", "4")
		w.silent(30 * time.Millisecond)
	}
}

func TestOnlyWhatIsTheSubscribersIsGranted(t *testing.T) {
	r := startLive(t, setup{keys: true})
	device, _ := r.key(access.Request{Device: "a"})
	reader, _ := r.key(access.Request{Scopes: []access.Scope{access.ScopeRead}})
	r.authenticated(reader)
	for _, c := range []struct {
		secret, filter string
		want           mqtt.Reason
	}{
		{reader, "live/#", 0},
		{reader, "live/alarms/+/+", 0},
		{reader, "live/nothing/#", mqtt.ReasonTopicFilterInvalid},
		{reader, "live/missed", 0},
		{reader, "#", mqtt.ReasonTopicFilterInvalid},
		{reader, "devices/#", mqtt.ReasonTopicFilterInvalid},
		{reader, "$share/g/live/#", mqtt.ReasonSharedNotSupported},
		{device, "live/state/a/#", 0},
		{device, "live/+/a/x", 0},
		{device, "live/state/b/#", mqtt.ReasonNotAuthorized},
		{device, "live/state/+/x", mqtt.ReasonNotAuthorized},
		{device, "live/#", mqtt.ReasonNotAuthorized},
	} {
		w := r.raw(mqtt.Version5)
		w.connect(mqtt.Connect{Username: "u", Password: []byte(c.secret)})
		if got := w.subscribe(mqtt.Subscription{Filter: c.filter}); got[0] != c.want {
			t.Errorf("%s: %v, want %v", c.filter, got[0], c.want)
		}
	}
}

func TestAKeptSessionGetsWhatItHasNotAcknowledgedAndWhatItMissed(t *testing.T) {
	for _, version := range []mqtt.Version{mqtt.Version311, mqtt.Version5} {
		r := startLive(t, setup{})
		m := mqtt.Connect{ClientID: "c"}
		if version == mqtt.Version5 {
			m.Properties.SessionExpiry = 60
		}
		w := r.raw(version)
		w.connect(m)
		w.subscribe(mqtt.Subscription{Filter: "live/state/#", QoS: 1})
		r.happens("a", "one", "1")
		_, first := w.message()
		r.happens("a", "two", "2")
		w.message()
		w.send(mqtt.AppendPuback(nil, version, first.PacketID, 0), nil)
		w.send(mqtt.AppendPingreq(nil), nil)
		w.next()
		_ = w.conn.Close()
		eventually(t, "the connection is gone", func() bool { return r.metric("millrace_mqtt_connections") == 0 })
		r.happens("a", "three", "3")
		w = r.raw(version)
		if a := w.connect(m); !a.SessionPresent {
			t.Fatal("the session is gone")
		}
		for _, want := range []string{"live/state/a/two true", "live/state/a/three false"} {
			if text, _ := w.message(); text != want {
				t.Errorf("%s, want %s", text, want)
			}
		}
	}
}

func TestTheWindowOfASubscriberHolds(t *testing.T) {
	r := startLive(t, setup{})
	m := mqtt.Connect{ClientID: "c"}
	m.Properties.ReceiveMaximum = 2
	w := r.raw(mqtt.Version5)
	w.connect(m)
	w.subscribe(mqtt.Subscription{Filter: "live/state/#", QoS: 1})
	for i := range 3 {
		r.happens("a", fmt.Sprint("n", i), "1")
	}
	_, first := w.message()
	w.message()
	w.silent(30 * time.Millisecond)
	w.send(mqtt.AppendPuback(nil, mqtt.Version5, first.PacketID, 0), nil)
	if text, _ := w.message(); text != "live/state/a/n2 false" {
		t.Error(text)
	}
}

func TestASlowSubscriberIsToldWhatItMissed(t *testing.T) {
	r := startLive(t, setup{cfg: func(c *ingest.Config) { c.Limits.SubscriberInflight = 1 }})
	w := r.raw(mqtt.Version5)
	w.connect(mqtt.Connect{ClientID: "c"})
	w.subscribe(mqtt.Subscription{Filter: "live/missed"}, mqtt.Subscription{Filter: "live/state/a/#", QoS: 1})
	const n = 10_000 // beyond the feed's queue
	for range n {
		r.happens("a", "n", "1")
	}
	var got, missed int
	for got+missed < n {
		_, m := w.message()
		if string(m.Topic) == "live/missed" {
			if !strings.Contains(string(m.Payload), `"filter":"live/state/a/#"`) {
				t.Errorf("%s", m.Payload)
			}
			continue
		}
		for k, v := range m.Properties.User.All() {
			var k2 int
			if _, err := fmt.Sscan(string(v), &k2); err != nil || string(k) != "missed" {
				t.Fatalf("%s=%s", k, v)
			}
			missed += k2
		}
		got++
		w.send(mqtt.AppendPuback(nil, mqtt.Version5, m.PacketID, 0), nil)
	}
	if missed == 0 || got+missed != n {
		t.Errorf("%d came and %d were missed, want %d together", got, missed, n)
	}
}

func TestWithoutAFeedNothingCanBeSubscribedTo(t *testing.T) {
	r := start(t, setup{})
	w := r.raw(mqtt.Version5)
	w.connect(mqtt.Connect{ClientID: "c"})
	if got := w.subscribe(mqtt.Subscription{Filter: "live/#"}); !got[0].Failed() {
		t.Error(got)
	}
}
