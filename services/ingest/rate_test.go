package ingest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/access"
	"github.com/millrace/millrace/pkg/mqtt"
	"github.com/millrace/millrace/services/ingest"
)

func slow(c *ingest.Config) { c.Limits.MessagesPerSecond, c.Limits.MessagesBurst = 1, 5 }

func TestBadRecordsWithoutADeviceCountForTheirSenderAlone(t *testing.T) {
	r := start(t, setup{cfg: slow, keys: true})
	careless, _ := r.key(access.Request{Name: "careless", Scopes: []access.Scope{access.ScopeSend}})
	careful, _ := r.key(access.Request{Name: "careful", Scopes: []access.Scope{access.ScopeSend}})
	r.authenticated(careful)
	bad := strings.Repeat(`{"nobody":1}`+"\n", 50)
	for range 2 {
		r.post(careless, "/v1/messages", bad)
	}
	if status := r.post(careless, "/v1/messages", bad); status != http.StatusTooManyRequests {
		t.Errorf("HTTP %d for who sends too much, want 429", status)
	}
	one := `{"MessageType":"Channel","DeviceId":"a","ChannelKey":"n","ChannelValue":1}` + "\n{}"
	if status := r.post(careful, "/v1/messages", one); status != http.StatusAccepted {
		t.Errorf("HTTP %d for another, want 202", status)
	}
}

func TestABodyOfSeveralDevicesCountsForEachByItsPart(t *testing.T) {
	r := start(t, setup{cfg: func(c *ingest.Config) { c.Limits.BytesPerSecond, c.Limits.BytesBurst = 1, 15_000 }})
	message := func(device string) string {
		return `{"MessageType":"Channel","DeviceId":"` + device + `","ChannelKey":"n","ChannelValue":1,"pad":"` + strings.Repeat("x", 50) + "\"}\n"
	}
	for range 2 {
		if status := r.post("", "/v1/messages", message("quiet")+strings.Repeat(message("loud"), 99)); status != http.StatusAccepted {
			t.Fatalf("HTTP %d, want 202", status)
		}
	}
	if status := r.post("", "/v1/messages", message("quiet")); status != http.StatusAccepted {
		t.Errorf("HTTP %d for the device with two messages, want 202", status)
	}
	if status := r.post("", "/v1/messages", message("quiet")+message("loud")); status != http.StatusTooManyRequests {
		t.Errorf("HTTP %d for the device with 198 messages, want 429", status)
	}
}

func TestMessagesOnUnknownTopicsAreHeldToTheRate(t *testing.T) {
	r := start(t, setup{cfg: slow})
	w := r.raw(mqtt.Version311)
	w.connect(mqtt.Connect{ClientID: "c", CleanStart: true})
	for id := range uint16(20) {
		w.publish(mqtt.Publish{QoS: 1, PacketID: id + 1}, "nowhere", "1")
	}
	for id := range uint16(5) {
		w.ack(mqtt.TypePuback, id+1, 0)
	}
	eventually(t, "reading pauses", func() bool { return r.metric("millrace_mqtt_pauses_total") > 0 })
}

func TestMalformedMessagesAreHeldToTheRate(t *testing.T) {
	r := start(t, setup{cfg: slow})
	w := r.raw(mqtt.Version311)
	w.connect(mqtt.Connect{ClientID: "c", CleanStart: true})
	for range 20 {
		w.publish(mqtt.Publish{}, "devices/a/messages/events/", "{")
	}
	eventually(t, "reading pauses", func() bool { return r.metric("millrace_mqtt_pauses_total") > 0 })
}
