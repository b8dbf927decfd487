package ingest_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/mqtt"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/ingest"
)

func TestASilentClientIsCut(t *testing.T) {
	r := start(t, setup{})
	w := r.raw(mqtt.Version5)
	w.connect(mqtt.Connect{ClientID: "c", KeepAlive: 1})
	began := time.Now()
	w.ended(mqtt.ReasonKeepAliveTimeout)
	if took := time.Since(began); took < time.Second || took > 5*time.Second {
		t.Errorf("cut after %v, want 1.5 s", took)
	}
}

func TestAHalfSentPacketIsCut(t *testing.T) {
	r := start(t, setup{cfg: func(c *ingest.Config) { c.Limits.PacketTimeout = 100 * time.Millisecond }})
	w := r.raw(mqtt.Version5)
	w.connect(mqtt.Connect{ClientID: "c", KeepAlive: 600})
	w.send([]byte{0x32, 0x7f, 0}, nil)
	w.ended(mqtt.ReasonKeepAliveTimeout)
}

func TestAConnectionThatDoesNotConnectIsClosed(t *testing.T) {
	r := start(t, setup{cfg: func(c *ingest.Config) {
		c.Limits.ConnectTimeout, c.Limits.ConnectBytes = 100*time.Millisecond, 1024
	}})
	big := mqtt.Connect{Version: mqtt.Version5, ClientID: "c", Username: strings.Repeat("u", 2000)}
	connect, err := mqtt.AppendConnect(nil, &big)
	if err != nil {
		t.Fatal(err)
	}
	for name, sent := range map[string][]byte{
		"nothing": nil, "half a CONNECT": {0x10, 0x20, 0, 4}, "another packet": mqtt.AppendPingreq(nil), "too large": connect,
		"no MQTT at all": []byte("GET / HTTP/1.1\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			w := r.raw(mqtt.Version5)
			w.t = t
			w.send(sent, nil)
			w.closed()
		})
	}
}

func TestAnotherVersionOfMQTTIsToldSo(t *testing.T) {
	r := start(t, setup{})
	for name, connect := range map[string]string{
		"3.1": "\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x0a\x00\x00", "6": "\x10\x0c\x00\x04MQTT\x06\x02\x00\x0a\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			w := r.raw(mqtt.Version311)
			w.t = t
			w.send([]byte(connect), nil)
			p := w.next()
			answer, err := mqtt.ParseConnack(p.Body, mqtt.Version311)
			if err != nil || p.Type != mqtt.TypeConnack || answer.Reason != mqtt.ReasonUnsupportedVersion {
				t.Errorf("%v %+v (%v), want CONNACK with code 1", p.Type, answer, err)
			}
			w.closed()
		})
	}
}

func TestASessionIsKeptAsLongAsAsked(t *testing.T) {
	r := start(t, setup{})
	m := mqtt.Connect{ClientID: "c"}
	m.Properties.SessionExpiry = 60
	present := func(m mqtt.Connect) bool {
		w := r.raw(mqtt.Version5)
		a := w.connect(m)
		w.send(mqtt.AppendDisconnect(nil, mqtt.Version5, &mqtt.Disconnect{}))
		w.closed()
		return a.SessionPresent
	}
	clean := m
	clean.CleanStart = true
	for i, step := range []struct {
		m    mqtt.Connect
		want bool
	}{{m, false}, {m, true}, {clean, false}, {mqtt.Connect{ClientID: "c"}, true}, {m, false}} {
		if got := present(step.m); got != step.want {
			t.Errorf("step %d: session present %v, want %v", i, got, step.want)
		}
	}
}

func TestTheConnackTellsTheLimits(t *testing.T) {
	r := start(t, setup{cfg: func(c *ingest.Config) { c.MQTT.SessionExpiryMax, c.MQTT.KeepAliveMax = time.Minute, 2*time.Minute }})
	m := mqtt.Connect{KeepAlive: 600}
	m.Properties.SessionExpiry = 1 << 31
	p := r.raw(mqtt.Version5).connect(m).Properties
	if p.ReceiveMaximum != 65535 || p.MaximumPacketSize != 256<<10 || len(p.AssignedClientID) == 0 || p.SessionExpiry != 60 ||
		p.ServerKeepAlive != 120 || p.TopicAliasMaximum == 0 || !p.Has(mqtt.PropSharedAvailable) {
		t.Errorf("%+v", p)
	}
}

func TestTheWillIsPublishedWhenTheConnectionIsLost(t *testing.T) {
	r := start(t, setup{})
	will := &mqtt.Will{Topic: "devices/d/channels/state", Payload: []byte("lost")}
	connect := func(w *mqtt.Will, expiry uint32) *raw {
		c := r.raw(mqtt.Version5)
		m := mqtt.Connect{ClientID: "c", Will: w}
		m.Properties.SessionExpiry = expiry
		c.connect(m)
		return c
	}
	c := connect(will, 0)
	c.send(mqtt.AppendDisconnect(nil, mqtt.Version5, &mqtt.Disconnect{}))
	c.closed()
	if got := r.values(); len(got) > 0 {
		t.Errorf("%q after a DISCONNECT", got)
	}
	c = connect(will, 0)
	c.send(mqtt.AppendDisconnect(nil, mqtt.Version5, &mqtt.Disconnect{Reason: mqtt.ReasonDisconnectWithWill}))
	eventually(t, "the will of a DISCONNECT that asks for it", func() bool { return len(r.values()) == 1 })
	_ = connect(will, 0).conn.Close()
	eventually(t, "the will of a lost connection", func() bool { return len(r.values()) == 2 })

	late := *will
	late.Properties.WillDelay = 1
	_ = connect(&late, 60).conn.Close()
	back := connect(nil, 60) // in time: nothing is published
	back.send(mqtt.AppendDisconnect(nil, mqtt.Version5, &mqtt.Disconnect{}))
	back.closed()
	_ = connect(&late, 60).conn.Close()
	eventually(t, "the will after its delay", func() bool { return len(r.values()) == 3 })
	if got := r.values(); !slices.Equal(got, []string{"d/state=lost", "d/state=lost", "d/state=lost"}) {
		t.Errorf("%q", got)
	}
}

func TestConnectionsOfADeviceAreRecorded(t *testing.T) {
	r := start(t, setup{})
	type event struct {
		Connected                            bool
		Address, Client_ID, Protocol, Reason string
	}
	events := func() []event {
		var all []event
		for _, m := range r.messages(bus.Sessions) {
			var e event
			if err := json.Unmarshal(m.ChannelValue, &e); err != nil {
				t.Fatal(err)
			}
			if m.Kind != telemetry.KindSession || m.DeviceID != "d" || m.ChannelKey != "session" || m.EventTime == 0 {
				t.Errorf("%+v", m)
			}
			all = append(all, e)
		}
		return all
	}
	c := r.dial(mqtt.ClientOptions{ClientID: "one"})
	for range 2 { // bound once
		if err := c.Publish(t.Context(), "devices/d/channels/n", []byte("1"), 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Disconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := r.raw(mqtt.Version311)
	w.connect(mqtt.Connect{ClientID: "two", CleanStart: true})
	w.publish(mqtt.Publish{}, "devices/d/channels/n", "2")
	eventually(t, "three events", func() bool { return len(events()) == 3 })
	_ = w.conn.Close()
	eventually(t, "four events", func() bool { return len(events()) == 4 })
	got := events()
	want := []event{
		{true, "", "one", "mqtt5", ""},
		{false, "", "one", "", "client disconnected"},
		{true, "", "two", "mqtt3.1.1", ""},
		{false, "", "two", "", "connection closed without DISCONNECT"},
	}
	for i := range want {
		if got[i].Connected != (got[i].Address != "") {
			t.Errorf("address %q of %+v", got[i].Address, got[i])
		}
		got[i].Address = ""
		if got[i] != want[i] {
			t.Errorf("%+v, want %+v", got[i], want[i])
		}
	}
}

func TestPropertiesAliasesAndContentTypesArriveWithTheMessage(t *testing.T) {
	r := start(t, setup{})
	w := r.raw(mqtt.Version5)
	w.connect(mqtt.Connect{ClientID: "c"})
	m := mqtt.Publish{QoS: 1, PacketID: 1}
	m.Properties.TopicAlias = 3
	m.Properties.User = m.Properties.User.With("room", "hall")
	w.publish(m, "devices/d/messages/events/site=a%20b&messageId=7", `{"n":1}`)
	w.ack(mqtt.TypePuback, 1, 0)
	m = mqtt.Publish{QoS: 1, PacketID: 2}
	m.Properties.TopicAlias = 3
	w.publish(m, "", `{"n":2}`)
	w.ack(mqtt.TypePuback, 2, 0)
	got := r.messages(bus.Ingested)
	if len(got) != 2 {
		t.Fatalf("%d messages", len(got))
	}
	for i, want := range []map[string]string{{"site": "a b", "room": "hall"}, {"site": "a b"}} {
		for k, v := range want {
			if have, _ := got[i].Property(k); have != v {
				t.Errorf("message %d: property %s is %q, want %q", i, k, have, v)
			}
		}
	}
	if !strings.HasPrefix(got[0].MessageID, "7") || got[0].Source != "mqtt" {
		t.Errorf("%+v", got[0])
	}
	m.Properties.TopicAlias = 9
	w.publish(m, "", "1")
	w.ended(mqtt.ReasonProtocolError)
}

func TestADeviceOverItsRateIsToldOrPaused(t *testing.T) {
	limited := func(perSecond int) setup {
		return setup{cfg: func(c *ingest.Config) { c.Limits.MessagesPerSecond, c.Limits.MessagesBurst = perSecond, 5 }}
	}
	r := start(t, limited(1))
	w := r.raw(mqtt.Version5)
	w.connect(mqtt.Connect{ClientID: "c"})
	var refused int
	for id := range uint16(10) {
		w.publish(mqtt.Publish{QoS: 1, PacketID: id + 1}, "devices/five/channels/n", "1")
		p := w.next()
		var a mqtt.Ack
		if err := mqtt.ParseAck(p.Type, p.Body, mqtt.Version5, &a); err != nil {
			t.Fatal(err)
		}
		if a.Reason == mqtt.ReasonQuotaExceeded {
			refused++
		}
	}
	if refused == 0 || refused > 5 {
		t.Errorf("%d of 10 refused, want 4 or so", refused)
	}
	for range 7 {
		r.post("", "/v1/devices/http/messages", `{"n":1}`)
	}
	if status := r.post("", "/v1/devices/http/messages", `{"n":1}`); status != 429 {
		t.Errorf("HTTP %d, want 429", status)
	}
	r = start(t, limited(20))
	began := time.Now()
	c := r.dial(mqtt.ClientOptions{Version: mqtt.Version311})
	for range 15 {
		if err := c.Publish(t.Context(), "devices/three/channels/n", []byte("1"), 1); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("15 messages in %v, want half a second or so", took)
	}
}
