package mqtt

import (
	"encoding/binary"
	"fmt"
)

// FiltersMax is the number of topic filters that one SUBSCRIBE or UNSUBSCRIBE may carry. More is refused with
// ReasonQuotaExceeded, since a filter of three bytes on the wire costs ten times that in memory.
const FiltersMax = 1024

// Subscription is one topic filter of a SUBSCRIBE and what it asks for. The last three fields are of MQTT 5.
type Subscription struct {
	Filter            string
	QoS               byte // the most that the subscriber wants
	NoLocal           bool // not what the subscriber itself publishes
	RetainAsPublished bool
	RetainHandling    byte // 0: send retained messages, 1: for a new subscription, 2: never
}

// Subscribe is a SUBSCRIBE.
type Subscribe struct {
	PacketID      uint16
	Properties    Properties
	Subscriptions []Subscription
}

// ParseSubscribe reads the body of a SUBSCRIBE. That a filter makes sense is left to ValidFilter, since a bad one is answered
// in the SUBACK beside the good ones. Filters are copies; properties share the memory of body.
func ParseSubscribe(body []byte, v Version) (*Subscribe, error) {
	s := &Subscribe{}
	c := cursor{b: body, in: TypeSubscribe}
	s.PacketID = c.packetID()
	if v == Version5 {
		c.properties(&s.Properties, TypeSubscribe)
	}
	if c.err == nil && len(c.b) == 0 {
		return nil, violation(TypeSubscribe, "no topic filter")
	}
	for len(c.b) > 0 {
		if len(s.Subscriptions) == FiltersMax {
			return nil, tooManyFilters(TypeSubscribe)
		}
		s.Subscriptions = append(s.Subscriptions, c.subscription(v))
	}
	if err := c.end(); err != nil {
		return nil, err
	}
	return s, nil
}

func (c *cursor) subscription(v Version) Subscription {
	s := Subscription{Filter: string(c.text("topic filter"))}
	o := c.byte("subscription options")
	reserved := byte(0xc0)
	if v != Version5 {
		reserved = 0xfc
	}
	s.QoS, s.NoLocal, s.RetainAsPublished, s.RetainHandling = o&3, o&4 != 0, o&8 != 0, o>>4&3
	_, _, shared := SplitShared(s.Filter)
	switch {
	case c.err != nil:
	case o&reserved != 0:
		c.fail(malformed(c.in, fmt.Sprintf("subscription options %#02x: reserved bits are set", o)))
	case s.QoS == 3:
		c.fail(malformed(c.in, "subscription options: QoS is 3"))
	case s.RetainHandling == 3:
		c.fail(violation(c.in, "subscription options: retain handling is 3"))
	case s.NoLocal && shared:
		c.fail(violation(c.in, "subscription options: no local on a shared subscription"))
	}
	return s
}

// AppendSubscribe appends s.
func AppendSubscribe(dst []byte, v Version, s *Subscribe) ([]byte, error) {
	at := len(dst)
	if s.PacketID == 0 || len(s.Subscriptions) == 0 || len(s.Subscriptions) > FiltersMax {
		return dst, violation(TypeSubscribe, fmt.Sprintf("identifier %d with %d filters, want 1 to %d of them",
			s.PacketID, len(s.Subscriptions), FiltersMax))
	}
	dst = binary.BigEndian.AppendUint16(dst, s.PacketID)
	dst, err := appendOptional(dst, v, &s.Properties, TypeSubscribe)
	if err != nil {
		return dst[:at], err
	}
	for _, sub := range s.Subscriptions {
		if err := ValidFilter(sub.Filter); err != nil {
			return dst[:at], &Error{Packet: TypeSubscribe, Code: ReasonTopicFilterInvalid, Detail: err.Error()}
		}
		o := sub.QoS | sub.RetainHandling<<4
		if sub.NoLocal {
			o |= 4
		}
		if sub.RetainAsPublished {
			o |= 8
		}
		if sub.QoS > 2 || sub.RetainHandling > 2 || v != Version5 && o > 2 {
			return dst[:at], violation(TypeSubscribe, fmt.Sprintf("%q: no such options in MQTT %v", sub.Filter, v))
		}
		dst = append(appendText(dst, sub.Filter), o)
	}
	return frame(dst, at, byte(TypeSubscribe)<<4|2, 0)
}

// Unsubscribe is an UNSUBSCRIBE.
type Unsubscribe struct {
	PacketID   uint16
	Properties Properties
	Filters    []string
}

// ParseUnsubscribe reads the body of an UNSUBSCRIBE; see ParseSubscribe.
func ParseUnsubscribe(body []byte, v Version) (*Unsubscribe, error) {
	u := &Unsubscribe{}
	c := cursor{b: body, in: TypeUnsubscribe}
	u.PacketID = c.packetID()
	if v == Version5 {
		c.properties(&u.Properties, TypeUnsubscribe)
	}
	if c.err == nil && len(c.b) == 0 {
		return nil, violation(TypeUnsubscribe, "no topic filter")
	}
	for len(c.b) > 0 {
		if len(u.Filters) == FiltersMax {
			return nil, tooManyFilters(TypeUnsubscribe)
		}
		u.Filters = append(u.Filters, string(c.text("topic filter")))
	}
	if err := c.end(); err != nil {
		return nil, err
	}
	return u, nil
}

// AppendUnsubscribe appends u.
func AppendUnsubscribe(dst []byte, v Version, u *Unsubscribe) ([]byte, error) {
	at := len(dst)
	if u.PacketID == 0 || len(u.Filters) == 0 || len(u.Filters) > FiltersMax {
		return dst, violation(TypeUnsubscribe, fmt.Sprintf("identifier %d with %d filters, want 1 to %d of them",
			u.PacketID, len(u.Filters), FiltersMax))
	}
	dst = binary.BigEndian.AppendUint16(dst, u.PacketID)
	dst, err := appendOptional(dst, v, &u.Properties, TypeUnsubscribe)
	if err != nil {
		return dst[:at], err
	}
	for _, f := range u.Filters {
		if err := ValidFilter(f); err != nil {
			return dst[:at], &Error{Packet: TypeUnsubscribe, Code: ReasonTopicFilterInvalid, Detail: err.Error()}
		}
		dst = appendText(dst, f)
	}
	return frame(dst, at, byte(TypeUnsubscribe)<<4|2, 0)
}

// Suback is a SUBACK or UNSUBACK: one reason for each filter, in their order. An UNSUBACK of MQTT 3.1.1 has none.
type Suback struct {
	Type       Type // TypeSuback or TypeUnsuback
	PacketID   uint16
	Properties Properties
	Reasons    []Reason
}

// ParseSuback reads the body of a packet of type t, TypeSuback or TypeUnsuback. Properties share the memory of body.
func ParseSuback(t Type, body []byte, v Version) (*Suback, error) {
	s := &Suback{Type: t}
	c := cursor{b: body, in: t}
	s.PacketID = c.packetID()
	if v == Version5 {
		c.properties(&s.Properties, t)
	}
	silent := t == TypeUnsuback && v != Version5
	for len(c.b) > 0 && !silent {
		r := c.reason(t)
		if v != Version5 && r > ReasonUnspecified && c.err == nil {
			c.fail(violation(t, fmt.Sprintf("return code %#02x, want 0, 1, 2 or 0x80", uint8(r))))
		}
		s.Reasons = append(s.Reasons, r)
	}
	if err := c.end(); err != nil {
		return nil, err
	}
	if len(s.Reasons) == 0 && !silent {
		return nil, violation(t, "no reason codes")
	}
	return s, nil
}

// AppendSuback appends s. In MQTT 3.1.1 every refusal of a SUBACK becomes 0x80, and an UNSUBACK has no reasons.
func AppendSuback(dst []byte, v Version, s *Suback) ([]byte, error) {
	at := len(dst)
	if s.PacketID == 0 || s.Type != TypeSuback && s.Type != TypeUnsuback {
		return dst, violation(s.Type, fmt.Sprintf("identifier %d, or not a SUBACK or UNSUBACK", s.PacketID))
	}
	dst = binary.BigEndian.AppendUint16(dst, s.PacketID)
	dst, err := appendOptional(dst, v, &s.Properties, s.Type)
	if err != nil {
		return dst[:at], err
	}
	for _, r := range s.Reasons {
		switch {
		case !r.allowedIn(s.Type):
			return dst[:at], violation(s.Type, "reason code "+r.String()+" is not for this packet")
		case v == Version5:
			dst = append(dst, byte(r))
		case s.Type == TypeSuback:
			dst = append(dst, min(byte(r), byte(ReasonUnspecified)))
		}
	}
	return frame(dst, at, byte(s.Type)<<4, 0)
}

func tooManyFilters(t Type) error {
	return &Error{Packet: t, Code: ReasonQuotaExceeded, Detail: fmt.Sprintf("more than %d topic filters", FiltersMax)}
}
