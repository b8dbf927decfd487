package mqttedge

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/mqtt"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/ingest/internal/permit"
)

// will is a message for the case that a connection is lost. It outlives the connection while it waits for its delay.
type will struct {
	route       *route
	payload     []byte
	contentType string
	props       []telemetry.Property
	sender      *permit.Sender
	delay       time.Duration
	due         time.Time
}

// willBytesMax is the largest payload of a will: each connection keeps one as long as it lives, and its session after that.
const willBytesMax = 16 << 10

// bytes returns what the will takes, about.
func (w *will) bytes() int {
	n := len(w.payload) + len(w.contentType)
	for _, p := range w.props {
		n += len(p.Key) + len(p.Value)
	}
	return n
}

// newWill checks a CONNECT's will as its PUBLISH would be; nil without one. The error is a *mqtt.Refused for the CONNACK.
func newWill(m *mqtt.Connect, s *permit.Sender, bytesMax int) (*will, error) {
	if m.Will == nil {
		return nil, nil
	}
	refuse := func(code mqtt.Reason, text string) error {
		return &mqtt.Refused{Packet: mqtt.TypeConnack, Code: code, Text: "will: " + text}
	}
	bytesMax = min(bytesMax, willBytesMax)
	if n := len(m.Will.Payload); n > bytesMax {
		return nil, refuse(mqtt.ReasonPacketTooLarge, fmt.Sprintf("%d bytes, want at most %d", n, bytesMax))
	}
	r := parseRoute(m.Will.Topic)
	if r.err != nil {
		return nil, refuse(mqtt.ReasonTopicNameInvalid, r.err.Error())
	}
	if !s.MaySendFor(r.device) {
		return nil, refuse(mqtt.ReasonNotAuthorized, "this credential may not send for the device")
	}
	p := &m.Will.Properties
	w := &will{
		route: r, payload: bytes.Clone(m.Will.Payload), // not the whole CONNECT
		contentType: string(p.ContentType), sender: s,
		props: appendUser(slices.Clip(r.props), p.User), delay: time.Duration(p.WillDelay) * time.Second,
	}
	if n := w.bytes(); n > 2*willBytesMax {
		return nil, refuse(mqtt.ReasonPacketTooLarge, fmt.Sprintf("%d bytes with its properties, want at most %d", n, 2*willBytesMax))
	}
	return w, nil
}

// appendUser appends MQTT 5 user properties as application properties, those within the limit.
func appendUser(dst []telemetry.Property, user mqtt.UserProperties) []telemetry.Property {
	for name, value := range user.All() {
		if len(dst) >= telemetry.PropertiesMax {
			break
		}
		if len(name) > 0 {
			dst = append(dst, telemetry.Property{Key: string(name), Value: string(value)})
		}
	}
	return dst
}

// publishWill takes a will as if its device had sent it now, whatever its rate.
func (e *Edge) publishWill(ctx context.Context, w *will) {
	if w == nil {
		return
	}
	in := telemetry.Input{
		Body: w.payload, ContentType: w.contentType, DeviceID: w.route.device, ChannelKey: w.route.channel,
		Properties: w.props, Source: protocol, Credential: w.sender.Credential(), IngestTime: telemetry.At(e.now()),
		MayActFor: func(device string) bool { return w.sender.MayActFor(w.route.device, device) },
	}
	b := e.pipeline.Batch(e.count)
	b.Take(&in, true)
	b.Submit(ctx, e.pipeline.Flow("will/"+w.route.device), func(int) bus.Ticket { return &e.unheard })
	b.Release()
}
