package mqttedge

import (
	"fmt"
	"strings"
	"testing"
)

func TestTopics(t *testing.T) {
	for _, c := range []struct {
		topic, device, channel string
		props                  int
		ok                     bool
	}{
		{"devices/d/messages/events/", "d", "", 0, true},
		{"devices/d/messages/events", "d", "", 0, true},
		{"devices/d/messages/events/a=b&c=d%20e", "d", "", 2, true},
		{"devices/d/messages/events/MessageType=Channel", "d", "", 1, true},
		{"devices/d/channels/temperature", "d", "temperature", 0, true},
		{"devices/d/channels/a/b", "d", "a/b", 0, true},
		{"devices/d/channels/", "d", "", 0, false},
		{"devices/d/channels", "d", "", 0, false},
		{"devices/d/messages/eventsx", "d", "", 0, false},
		{"devices/d/messages/devicebound/", "d", "", 0, false},
		{"devices/d/messages/events/%zz", "d", "", 0, false},
		{"devices//channels/a", "", "", 0, false},
		{"devices/$d/channels/a", "", "", 0, false},
		{"devices/" + strings.Repeat("d", 129) + "/channels/a", "", "", 0, false},
		{"$iothub/twin/GET", "", "", 0, false},
		{"devices/d/channels/" + strings.Repeat("x", topicBytesMax), "", "", 0, false},
	} {
		r := parseRoute(c.topic)
		if (r.err == nil) != c.ok || r.device != c.device || r.channel != c.channel || len(r.props) != c.props {
			t.Errorf("%.60s: %+v, want %+v", c.topic, r, c)
		}
	}
}

func TestRoutesAreRememberedWithinABound(t *testing.T) {
	var known routes
	first := known.find([]byte("devices/d/channels/a"))
	if known.find([]byte("devices/d/channels/a")) != first {
		t.Error("a topic is parsed twice")
	}
	for i := range 3 * routesMax {
		known.find(fmt.Appendf(nil, "devices/d%d/channels/%s", i, strings.Repeat("x", i)))
		if len(known.known) > routesMax || known.bytes > routesBytesMax {
			t.Fatalf("%d topics of %d bytes are remembered", len(known.known), known.bytes)
		}
	}
	before := len(known.known)
	known.find([]byte("devices/d/messages/events/%24.mid=7"))
	if len(known.known) != before {
		t.Error("a topic of one message is remembered")
	}
}

func FuzzRoute(f *testing.F) {
	f.Add("devices/d/messages/events/a=b")
	f.Add("devices/d/channels/x")
	f.Fuzz(func(t *testing.T, topic string) {
		if r := parseRoute(topic); r.err == nil && (r.device == "" || !strings.HasPrefix(topic, "devices/"+r.device+"/")) {
			t.Errorf("%q: %+v", topic, r)
		}
	})
}
