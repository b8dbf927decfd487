package mqtt

import (
	"context"
	"fmt"
)

// stage is what a message in flight waits for.
type stage uint8

const (
	stageFree stage = iota
	stagePuback
	stagePubrec
	stagePubcomp
)

// flight is a message of QoS 1 or 2 that is not acknowledged.
type flight struct {
	done  func(error)
	stage stage
}

// end is a message whose outcome is known, and is told outside the lock.
type end struct {
	done func(error)
	err  error
}

// Publish sends a message and waits for its acknowledgement: PUBACK with QoS 1, PUBCOMP with QoS 2. With QoS 0 it returns as
// soon as the message is in line. When ctx ends before, the message may arrive all the same. A refusal is a *Refused.
func (c *Client) Publish(ctx context.Context, topic string, payload []byte, qos byte) error {
	defer context.AfterFunc(ctx, c.wakeAll)()
	answer := make(chan error, 1) // one answer, which may come when nobody waits any more
	p := Publish{QoS: qos, Payload: payload}
	if err := c.send(ctx.Err, &p, topic, func(err error) { answer <- err }); err != nil {
		return err
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("mqtt: publish to %s: %w", topic, context.Cause(ctx))
	}
}

// PublishAsync puts a message in line and returns. It waits only while MaxInflight messages are unacknowledged, or while too many
// bytes wait to be written. payload and props (nil: none) are copied.
//
// done, which may be nil, is called once with the outcome: nil when the message is acknowledged, a *Refused, or why the
// connection ended. Calls come one after the other from the client's reading goroutine, which
// they hold up, so done must not publish or wait; with QoS 0 it is called before PublishAsync returns. When PublishAsync returns
// an error the message was not taken, and done is not called.
func (c *Client) PublishAsync(topic string, payload []byte, qos byte, props *Properties, done func(error)) error {
	p := Publish{QoS: qos, Payload: payload}
	if props != nil {
		p.Properties = *props
	}
	return c.send(nil, &p, topic, done)
}

// Send is PublishAsync for a whole packet, with DUP and RETAIN. PacketID is ignored, since the client gives out its own.
func (c *Client) Send(p *Publish, done func(error)) error {
	return c.send(nil, p, string(p.Topic), done)
}

// send puts p in line. giveUp, which may be nil, ends the waiting.
func (c *Client) send(giveUp func() error, p *Publish, topic string, done func(error)) error {
	if err := c.checkSend(p, topic); err != nil {
		return err
	}
	if err := c.enqueue(giveUp, p, topic, done); err != nil {
		return err
	}
	if p.QoS == 0 && done != nil {
		done(nil)
	}
	return nil
}

func (c *Client) enqueue(giveUp func() error, p *Publish, topic string, done func(error)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.cause == nil && !c.closing && (len(c.out) >= outMax || p.QoS > 0 && c.freeLeft == 0) {
		if giveUp != nil {
			if err := giveUp(); err != nil {
				return fmt.Errorf("mqtt: publish to %s: wait for room: %w", topic, err)
			}
		}
		c.wait()
	}
	if err := c.down(); err != nil {
		return err
	}
	var id uint16
	if p.QoS > 0 {
		id = c.free[c.freeAt] // taken only when p is in line
	}
	n := len(c.out)
	out, err := appendPublish(c.out, c.version, p, topic, id)
	if err != nil {
		return err
	}
	if most := c.connack.Properties.MaximumPacketSize; most > 0 && uint32(len(out)-n) > most { //nolint:gosec // RemainingMax + 5
		return &Error{
			Packet: TypePublish, Code: ReasonPacketTooLarge,
			Detail: fmt.Sprintf("%d bytes, the server takes %d", len(out)-n, most),
		}
	}
	c.out = out
	if p.QoS > 0 {
		c.freeAt, c.freeLeft = (c.freeAt+1)%len(c.free), c.freeLeft-1
		c.flights[id-1] = flight{done: done, stage: stagePuback + stage(p.QoS-1)}
	}
	if c.idle {
		c.work.Signal()
	}
	return nil
}

// checkSend refuses what the server has said it does not take, and what cannot be a message.
func (c *Client) checkSend(p *Publish, topic string) error {
	s := &c.connack.Properties
	alias := topic == "" && c.version == Version5 && p.Properties.TopicAlias != 0
	if err := ValidTopic(topic); err != nil && !alias {
		return malformed(TypePublish, err.Error())
	}
	switch {
	case p.QoS > 2:
		return malformed(TypePublish, fmt.Sprintf("QoS is %d", p.QoS))
	case s.Has(PropMaximumQoS) && p.QoS > s.MaximumQoS:
		return &Error{Packet: TypePublish, Code: ReasonQoSNotSupported, Detail: fmt.Sprintf("the server takes %d", s.MaximumQoS)}
	case p.Retain && s.Has(PropRetainAvailable) && s.RetainAvailable == 0:
		return &Error{Packet: TypePublish, Code: ReasonRetainNotSupported, Detail: "the server retains nothing"}
	case p.Properties.TopicAlias > s.TopicAliasMaximum:
		return &Error{
			Packet: TypePublish, Code: ReasonTopicAliasInvalid,
			Detail: fmt.Sprintf("alias %d, the server takes %d", p.Properties.TopicAlias, s.TopicAliasMaximum),
		}
	case p.QoS == 2 && c.connack.SessionPresent:
		return ErrResumed
	}
	return nil
}

// down says why nothing can be sent any more. c.mu is held.
func (c *Client) down() error {
	if c.cause != nil {
		return c.cause
	}
	if c.closing {
		return ErrClosed
	}
	return nil
}

// land takes one acknowledgement: the message moves on, or its end is noted. c.mu is held.
func (c *Client) land(a *ack) error {
	if int(a.id) > len(c.flights) || c.flights[a.id-1].stage != a.stage {
		return violation(a.typ, fmt.Sprintf("identifier %d waits for no such packet", a.id))
	}
	f := &c.flights[a.id-1]
	if a.stage == stagePubrec && a.err == nil {
		f.stage = stagePubcomp
		c.out = AppendPubrel(c.out, c.version, a.id, ReasonSuccess)
		return nil
	}
	if f.done != nil {
		c.ends = append(c.ends, end{f.done, a.err})
	}
	*f = flight{}
	c.free[(c.freeAt+c.freeLeft)%len(c.free)] = a.id
	c.freeLeft++
	return nil
}

// abandon ends all that is in flight, when no more acknowledgements can come.
func (c *Client) abandon() {
	c.mu.Lock()
	for i := range c.flights {
		if f := &c.flights[i]; f.stage != stageFree && f.done != nil {
			c.ends = append(c.ends, end{f.done, fmt.Errorf("mqtt: message not acknowledged: %w", c.cause)})
		}
		c.flights[i] = flight{}
	}
	for id, call := range c.calls {
		call <- answer{err: c.cause}
		delete(c.calls, id)
	}
	c.mu.Unlock()
	c.tell()
}

// tell calls the done functions of the messages that have ended.
func (c *Client) tell() {
	for _, e := range c.ends {
		e.done(e.err)
	}
	clear(c.ends)
	c.ends = c.ends[:0]
}
