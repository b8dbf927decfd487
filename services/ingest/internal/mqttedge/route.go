package mqttedge

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/ingest/internal/permit"
)

const (
	topicBytesMax  = 4096     // of a topic with its properties; longer is unknown
	routesMax      = 1024     // topics that a connection remembers, a gateway's children among them
	routesBytesMax = 64 << 10 // of their names
)

var errUnknownTopic = errors.New("unknown topic, want devices/{deviceId}/messages/events/ or devices/{deviceId}/channels/{channelKey}")

// route is what a topic says.
type route struct {
	device  string
	channel string // of a topic for one bare value, else ""
	props   []telemetry.Property
	err     error          // what is wrong with the topic
	allowed *permit.Sender // who was found to be allowed last; a changed credential is a new sender
}

// parseRoute reads a topic that devices publish to.
func parseRoute(topic string) *route {
	r := &route{}
	if len(topic) > topicBytesMax {
		r.err = fmt.Errorf("topic of %d bytes, want at most %d", len(topic), topicBytesMax)
		return r
	}
	rest, ok := strings.CutPrefix(topic, "devices/")
	if !ok {
		r.err = fmt.Errorf("%.100q: %w", topic, errUnknownTopic)
		return r
	}
	device, rest, _ := strings.Cut(rest, "/")
	if err := telemetry.ValidDeviceID(device); err != nil {
		r.err = fmt.Errorf("%.100q: device id: %w", topic, err)
		return r
	}
	r.device = device
	if channel, ok := strings.CutPrefix(rest, "channels/"); ok && channel != "" {
		r.channel = channel
		return r
	}
	props, ok := strings.CutPrefix(rest, "messages/events")
	if !ok || props != "" && props[0] != '/' {
		r.err = fmt.Errorf("%.100q: %w", topic, errUnknownTopic)
		return r
	}
	if props != "" {
		r.props, r.err = telemetry.PropertiesFromTopic(props[1:])
	}
	return r
}

// passing reports whether the topic is most likely of one message alone, as SDKs make them that put a message's id into it.
func (r *route) passing() bool {
	return r.err != nil || slices.ContainsFunc(r.props, func(p telemetry.Property) bool {
		return strings.EqualFold(p.Key, "$.mid") || strings.EqualFold(p.Key, "messageId") || strings.EqualFold(p.Key, "$.ctime")
	})
}

// routes remembers the topics of a connection, within bounds. One goroutine.
type routes struct {
	last   []byte
	newest *route
	known  map[string]*route
	bytes  int
}

// find returns the route of topic, which is not kept.
func (t *routes) find(topic []byte) *route {
	if t.newest != nil && string(t.last) == string(topic) {
		return t.newest
	}
	r, ok := t.known[string(topic)]
	if !ok {
		text := string(topic)
		if r = parseRoute(text); r.passing() {
			return r
		}
		if len(t.known) >= routesMax || t.bytes+len(text) > routesBytesMax {
			clear(t.known)
			t.bytes = 0
		}
		if t.known == nil {
			t.known = map[string]*route{}
		}
		t.known[text] = r
		t.bytes += len(text)
	}
	t.last, t.newest = append(t.last[:0], topic...), r
	return r
}
