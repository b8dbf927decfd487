package ingest_test

import (
	"testing"

	"github.com/millrace/millrace/pkg/access"
	"github.com/millrace/millrace/pkg/mqtt"
	"github.com/millrace/millrace/services/ingest"
)

func TestTheConnectionsOfADevicesKeyAreBounded(t *testing.T) {
	r := start(t, setup{keys: true, cfg: func(c *ingest.Config) { c.Limits.DeviceConnections = 2 }})
	secret, _ := r.key(access.Request{Device: "a"})
	other, _ := r.key(access.Request{Device: "b"})
	r.authenticated(other)
	connect := func(v mqtt.Version, id, secret string) (*raw, mqtt.Connack) {
		w := r.raw(v)
		return w, w.connect(mqtt.Connect{ClientID: id, CleanStart: true, Username: "u", Password: []byte(secret)})
	}
	first, a := connect(mqtt.Version5, "1", secret)
	if a.Reason.Failed() {
		t.Fatalf("the first: %v", a.Reason)
	}
	if _, a := connect(mqtt.Version5, "2", secret); a.Reason.Failed() {
		t.Errorf("the second: %v", a.Reason)
	}
	if _, a := connect(mqtt.Version5, "3", secret); a.Reason != mqtt.ReasonQuotaExceeded {
		t.Errorf("the third: %v, want 0x97", a.Reason)
	}
	if _, a := connect(mqtt.Version311, "3", secret); a.Reason != mqtt.ReasonServerUnavailable {
		t.Errorf("the third, of 3.1.1: %v, want 3", a.Reason)
	}
	if _, a := connect(mqtt.Version5, "2", secret); a.Reason.Failed() {
		t.Errorf("one that takes over its own session: %v", a.Reason)
	}
	if _, a := connect(mqtt.Version5, "1", other); a.Reason.Failed() {
		t.Errorf("another device: %v", a.Reason)
	}
	_ = first.conn.Close()
	eventually(t, "its place is free again", func() bool {
		_, a := connect(mqtt.Version5, "4", secret)
		return !a.Reason.Failed()
	})
	if r.metric("millrace_mqtt_connections_turned_away_total") < 2 {
		t.Error("who was turned away is not counted")
	}
}

// A client of MQTT 5 that goes on in spite of 0x97 is read more slowly as well, so that to refuse it costs little.
func TestWhoIgnoresRefusalsIsPaused(t *testing.T) {
	r := start(t, setup{cfg: slow})
	w := r.raw(mqtt.Version5)
	w.connect(mqtt.Connect{ClientID: "c", CleanStart: true})
	for id := range uint16(500) {
		w.publish(mqtt.Publish{QoS: 1, PacketID: id + 1}, "devices/a/channels/n", "1")
	}
	eventually(t, "reading pauses", func() bool { return r.metric("millrace_mqtt_pauses_total") > 0 })
	if got := r.metric("millrace_ingest_over_quota_total"); got > 400 {
		t.Errorf("%v messages were refused before the pause", got)
	}
}
