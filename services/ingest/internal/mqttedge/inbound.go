package mqttedge

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/millrace/millrace/pkg/mqtt"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/ingest/internal/pipeline"
)

// take handles one packet. An error is a *mqtt.Error and ends the connection; what else ends it calls end.
func (c *conn) take(hard, life context.Context, p mqtt.Packet) error {
	switch p.Type {
	case mqtt.TypePublish:
		return c.takePublish(hard, p)
	case mqtt.TypePubrel:
		return c.takePubrel(p)
	case mqtt.TypePuback:
		return c.takePuback(p)
	case mqtt.TypePingreq:
		c.reply(mqtt.AppendPingresp)
		return mqtt.ParsePing(p.Type, p.Body)
	case mqtt.TypeSubscribe:
		return c.takeSubscribe(life, p)
	case mqtt.TypeUnsubscribe:
		return c.takeUnsubscribe(p)
	case mqtt.TypeDisconnect:
		return c.takeDisconnect(p)
	default:
		return &mqtt.Error{Packet: p.Type, Code: mqtt.ReasonProtocolError, Detail: "a client sends no such packet here"}
	}
}

// reply sends a packet that needs not wait for others.
func (c *conn) reply(build func([]byte) []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = build(c.out)
	c.flushLocked()
}

func (c *conn) takePublish(hard context.Context, p mqtt.Packet) error {
	m := &c.message
	if err := mqtt.ParsePublish(p.Flags, p.Body, c.version, m); err != nil {
		return err
	}
	r, err := c.route(m)
	if err != nil {
		return err
	}
	if c.batch == nil {
		c.batch = c.edge.pipeline.Batch(c.edge.count)
	}
	if c.now == 0 { // once for all that one read brought
		c.now = telemetry.At(c.edge.now())
	}
	answer := receipt{at: int64(c.now), size: uint32(len(p.Body)), id: m.PacketID} //nolint:gosec // below the packet limit
	switch m.QoS {
	case 1:
		answer.kind = mqtt.TypePuback
	case 2:
		answer.kind = mqtt.TypePubrec
		if c.session.received.has(m.PacketID) { // taken before: it is acknowledged in its turn, behind the first
			c.edge.metrics.doubles.Inc()
			c.batch.Skip()
			c.pending = append(c.pending, answer)
			return nil
		}
	}
	if !c.publish(hard, r, &answer) {
		return nil
	}
	if m.QoS == 2 && !answer.reason.Failed() {
		c.session.received.add(m.PacketID)
	}
	c.pending = append(c.pending, answer)
	return nil
}

// route finds where a PUBLISH goes, by topic or alias.
func (c *conn) route(m *mqtt.Publish) (*route, error) {
	alias := int(m.Properties.TopicAlias)
	if alias == 0 {
		return c.routes.find(m.Topic), nil
	}
	if alias > aliasesMax {
		return nil, &mqtt.Error{
			Packet: mqtt.TypePublish, Code: mqtt.ReasonTopicAliasInvalid, Detail: fmt.Sprintf("topic alias %d, at most %d", alias, aliasesMax),
		}
	}
	if c.aliases == nil {
		c.aliases = make([]*route, aliasesMax)
	}
	if len(m.Topic) > 0 {
		c.aliases[alias-1] = c.routes.find(m.Topic)
	}
	if c.aliases[alias-1] == nil {
		return nil, &mqtt.Error{
			Packet: mqtt.TypePublish, Code: mqtt.ReasonProtocolError, Detail: fmt.Sprintf("topic alias %d stands for no topic yet", alias),
		}
	}
	return c.aliases[alias-1], nil
}

// publish gathers the message and says in answer how it is acknowledged. false: the connection ends because of it.
func (c *conn) publish(hard context.Context, r *route, answer *receipt) bool {
	in := c.inputOf(r)
	told := c.version5() && c.message.QoS > 0 // there is a packet that can carry a refusal
	sender := c.sender.Load()
	switch {
	case r.err != nil && told:
		c.refuse(answer, mqtt.ReasonTopicNameInvalid, "unknown_topic")
		return true
	case r.err != nil:
		c.edge.count.Refuse("unknown_topic", 1)
		c.pause = max(c.pause, c.batch.Letter(in, r.err.Error()))
		answer.pending = 1
		return true
	case r.allowed != sender && !sender.MaySendFor(r.device):
		if told {
			c.refuse(answer, mqtt.ReasonNotAuthorized, "not_authorized")
			return true
		}
		// Neither MQTT 3.1.1 nor QoS 0 has another way to say no (3.1.1, 3.3.5).
		c.edge.count.Refuse("not_authorized", 1)
		c.end(endUnauthorized("this credential may not send for device " + r.device))
		return false
	}
	r.allowed = sender
	c.bind(hard, r.device)
	if told && c.refused > 0 { // who goes on all the same is refused unread
		if wait, over := c.edge.pipeline.Over(r.device, c.now); over != pipeline.QuotaNone {
			c.batch.Refuse(over, 1)
			c.refuseOver(answer, wait)
			return true
		}
	}
	out := c.batch.Take(in, !told)
	if out.Over {
		c.refuseOver(answer, out.Wait)
		return true
	}
	c.refused = 0
	if out.Wait > c.pause && !told {
		c.pause = out.Wait
	}
	answer.pending = uint32(out.Gathered()) //nolint:gosec // bounded by the decoder
	if told && out.Accepted == 0 && len(out.Rejected) > 0 {
		answer.reason = reasonOf(&out)
	}
	return true
}

// refuseOver answers what is over a quota. Who does not heed that is paused.
func (c *conn) refuseOver(answer *receipt, wait time.Duration) {
	answer.reason = mqtt.ReasonQuotaExceeded
	if c.refused++; c.refused >= refusedMax {
		c.refused = 1 // of the next ones
		c.pause = max(c.pause, wait)
	}
}

// refuse answers without a record.
func (c *conn) refuse(answer *receipt, code mqtt.Reason, label string) {
	answer.reason = code
	c.edge.count.Refuse(label, 1)
	c.batch.Skip()
}

// reasonOf is the code for a body of which nothing was taken.
func reasonOf(out *pipeline.Outcome) mqtt.Reason {
	if pipeline.Foreign(out.Rejected[0].Err) {
		return mqtt.ReasonNotAuthorized
	}
	return mqtt.ReasonPayloadFormatInvalid
}

// inputOf fills the connection's input with the message in hand.
func (c *conn) inputOf(r *route) *telemetry.Input {
	in, m := &c.input, &c.message
	in.Body, in.DeviceID, in.ChannelKey, in.Properties = m.Payload, r.device, r.channel, r.props
	in.Source, in.Credential, in.IngestTime = protocol, c.sender.Load().Credential(), c.now
	in.ContentType = ""
	if t := m.Properties.ContentType; len(t) > 0 {
		if string(t) != c.typeText {
			c.typeText = string(t)
		}
		in.ContentType = c.typeText
	}
	if len(m.Properties.User) > 0 {
		c.props = appendUser(append(c.props[:0], r.props...), m.Properties.User)
		in.Properties = c.props
	}
	return in
}

// takePubrel releases an identifier of QoS 2. PUBCOMP has its turn behind what came before, so also where a client did not
// wait for PUBREC it is sent only when the message is on disk.
func (c *conn) takePubrel(p mqtt.Packet) error {
	var a mqtt.Ack
	if err := mqtt.ParseAck(p.Type, p.Body, c.version, &a); err != nil {
		return err
	}
	if c.batch == nil {
		c.batch = c.edge.pipeline.Batch(c.edge.count)
	}
	answer := receipt{at: int64(telemetry.At(c.edge.now())), id: a.PacketID, kind: mqtt.TypePubcomp}
	if !c.session.received.remove(a.PacketID) {
		answer.reason = mqtt.ReasonPacketIDNotFound
	}
	c.batch.Skip()
	c.pending = append(c.pending, answer)
	return nil
}

func (c *conn) takeDisconnect(p mqtt.Packet) error {
	d, err := mqtt.ParseDisconnect(p.Body, c.version)
	if err != nil {
		return err
	}
	if d.Properties.Has(mqtt.PropSessionExpiry) {
		if c.session.expiry == 0 && d.Properties.SessionExpiry != 0 {
			return &mqtt.Error{
				Packet: p.Type, Code: mqtt.ReasonProtocolError, Detail: "session expiry was 0 in CONNECT and cannot be changed",
			}
		}
		c.session.expiry = expiryOf(d.Properties.SessionExpiry, c.edge.cfg.SessionExpiryMax)
	}
	e := ending{why: "client disconnected", will: d.Reason == mqtt.ReasonDisconnectWithWill}
	if d.Reason.Failed() {
		e = ending{why: "client disconnected: " + d.Reason.String(), will: true}
	}
	c.end(e)
	return nil
}

// limit takes from CONNECT what the client can bear.
func (o *outgoing) limit(m *mqtt.Connect, most int) {
	o.window, o.packetMax = most, math.MaxInt
	if m.Properties.Has(mqtt.PropReceiveMaximum) {
		o.window = min(most, int(m.Properties.ReceiveMaximum))
	}
	if m.Properties.Has(mqtt.PropMaximumPacketSize) {
		o.packetMax = int(m.Properties.MaximumPacketSize)
	}
}
