package mqtt

import (
	"encoding/binary"
	"fmt"
)

// Ack is a PUBACK, PUBREC, PUBREL or PUBCOMP. Reason and Properties are of MQTT 5; in 3.1.1 Reason is always
// ReasonSuccess, since such a packet can only say yes.
type Ack struct {
	Type       Type
	PacketID   uint16
	Reason     Reason
	Properties Properties
}

// ParseAck reads the body of an acknowledgement of type t into a and overwrites all of it. It does not allocate but for an
// *Error.
func ParseAck(t Type, body []byte, v Version, a *Ack) error {
	c := cursor{b: body, in: t}
	a.Type, a.PacketID, a.Reason = t, c.packetID(), ReasonSuccess
	if t < TypePuback || t > TypePubcomp {
		return malformed(t, "not an acknowledgement")
	}
	a.Properties = Properties{}
	if v == Version5 {
		c.outcome(&a.Reason, &a.Properties, t)
	}
	return c.end()
}

// outcome reads a reason code and properties, of which the packet may leave out both, or the properties (MQTT 5, 3.4.2.1).
func (c *cursor) outcome(r *Reason, p *Properties, t Type) {
	if len(c.b) == 0 || c.err != nil {
		return
	}
	*r = c.reason(t)
	if len(c.b) > 0 {
		c.properties(p, t)
	}
}

func (c *cursor) reason(t Type) Reason {
	r := Reason(c.byte("reason code"))
	if c.err == nil && !r.allowedIn(t) {
		c.fail(violation(t, fmt.Sprintf("reason code %v is not for this packet", r)))
	}
	return r
}

// AppendPuback appends a PUBACK, with the reason in MQTT 5 alone: in 3.1.1 a refusal can only be said by closing the connection.
func AppendPuback(dst []byte, v Version, id uint16, r Reason) []byte {
	return appendAck(dst, byte(TypePuback)<<4, v, id, r)
}

// AppendPubrec appends a PUBREC; see AppendPuback about the reason.
func AppendPubrec(dst []byte, v Version, id uint16, r Reason) []byte {
	return appendAck(dst, byte(TypePubrec)<<4, v, id, r)
}

// AppendPubrel appends a PUBREL; see AppendPuback about the reason.
func AppendPubrel(dst []byte, v Version, id uint16, r Reason) []byte {
	return appendAck(dst, byte(TypePubrel)<<4|2, v, id, r)
}

// AppendPubcomp appends a PUBCOMP; see AppendPuback about the reason.
func AppendPubcomp(dst []byte, v Version, id uint16, r Reason) []byte {
	return appendAck(dst, byte(TypePubcomp)<<4, v, id, r)
}

func appendAck(dst []byte, first byte, v Version, id uint16, r Reason) []byte {
	if v == Version5 && r != ReasonSuccess {
		return append(binary.BigEndian.AppendUint16(append(dst, first, 3), id), byte(r))
	}
	return binary.BigEndian.AppendUint16(append(dst, first, 2), id)
}

// AppendAck appends a with its properties, for instance a reason string. Without properties the four short functions do.
func AppendAck(dst []byte, v Version, a *Ack) ([]byte, error) {
	if a.Type < TypePuback || a.Type > TypePubcomp || a.PacketID == 0 {
		return dst, malformed(a.Type, fmt.Sprintf("not an acknowledgement, or its identifier %d is 0", a.PacketID))
	}
	first := byte(a.Type) << 4
	if a.Type == TypePubrel {
		first |= 2
	}
	if a.Properties.empty() {
		return appendAck(dst, first, v, a.PacketID, a.Reason), nil
	}
	at := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, a.PacketID)
	dst = append(dst, byte(a.Reason))
	dst, err := appendOptional(dst, v, &a.Properties, a.Type)
	if err != nil {
		return dst[:at], err
	}
	return frame(dst, at, first, 0)
}
