package mqtt

import (
	"encoding/binary"
	"fmt"
)

// RemainingMax is the largest Remaining Length that the fixed header can carry, in bytes (MQTT 5, 2.1.4).
const RemainingMax = 268_435_455

// textMax is the longest string or binary value that the two length bytes can carry, in bytes (MQTT 5, 1.5.4).
const textMax = 65_535

// Version is a protocol level, as CONNECT carries it.
type Version uint8

// The versions that this package speaks. Zero means "not known yet".
const (
	Version311 Version = 4
	Version5   Version = 5
)

// String returns the version as people write it.
func (v Version) String() string {
	switch v {
	case Version311:
		return "3.1.1"
	case Version5:
		return "5.0"
	default:
		return fmt.Sprintf("level %d", uint8(v))
	}
}

// Type is the type of a control packet: the upper four bits of its first byte (MQTT 5, 2.1.2).
type Type uint8

// The control packets. AUTH is of MQTT 5 alone.
const (
	TypeConnect     Type = 1
	TypeConnack     Type = 2
	TypePublish     Type = 3
	TypePuback      Type = 4
	TypePubrec      Type = 5
	TypePubrel      Type = 6
	TypePubcomp     Type = 7
	TypeSubscribe   Type = 8
	TypeSuback      Type = 9
	TypeUnsubscribe Type = 10
	TypeUnsuback    Type = 11
	TypePingreq     Type = 12
	TypePingresp    Type = 13
	TypeDisconnect  Type = 14
	TypeAuth        Type = 15
)

// String returns the name of the packet as the specification writes it.
func (t Type) String() string {
	names := [...]string{
		"reserved", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK",
		"UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
	}
	if int(t) >= len(names) {
		return fmt.Sprintf("packet type %d", uint8(t))
	}
	return names[t]
}

// Packet is a view of one control packet, as Reader.Next returns it; Body is a slice into the reader's buffer.
type Packet struct {
	Type  Type
	Flags byte   // the lower four bits of the first byte, already checked against Type
	Body  []byte // everything behind the fixed header
}

// checkFirst checks the first byte of a packet: its type, and the flags that the type demands (MQTT 5, 2.1.3). Version zero
// takes what either version permits.
func checkFirst(b byte, v Version) error {
	t, flags := Type(b>>4), b&0x0f
	switch t {
	case 0:
		return malformed(t, "packet type 0 is reserved")
	case TypePublish:
		return checkPublishFlags(flags)
	case TypePubrel, TypeSubscribe, TypeUnsubscribe:
		if flags != 2 {
			return malformed(t, fmt.Sprintf("flags %#x, want 0x2", flags))
		}
	default:
		if flags != 0 {
			return malformed(t, fmt.Sprintf("flags %#x, want 0x0", flags))
		}
	}
	if t == TypeAuth && v == Version311 {
		return malformed(t, "packet type 15 is reserved in MQTT 3.1.1")
	}
	return nil
}

// appendVarint appends n as a Variable Byte Integer (MQTT 5, 1.5.5). n is at most RemainingMax.
func appendVarint(dst []byte, n int) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n)) //nolint:gosec // below 0x80
}

func appendText[T ~string | ~[]byte](dst []byte, s T) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s))) //nolint:gosec // callers have checked textMax
	return append(dst, s...)
}

// insert moves what was appended since at to the right by len(head) and puts head before it. What stands before a payload
// is short, so moving it costs less than computing its length beforehand.
func insert(dst []byte, at int, head []byte) []byte {
	n := len(dst)
	dst = append(dst, head...)
	copy(dst[at+len(head):], dst[at:n])
	copy(dst[at:], head)
	return dst
}

// frame puts the fixed header before the bytes that were appended since at; behind more bytes of payload will follow.
func frame(dst []byte, at int, first byte, behind int) ([]byte, error) {
	n := len(dst) - at + behind
	if n > RemainingMax {
		return dst[:at], &Error{
			Packet: Type(first >> 4), Code: ReasonPacketTooLarge,
			Detail: fmt.Sprintf("%d bytes behind the header, the format carries %d", n, RemainingMax),
		}
	}
	var head [5]byte
	head[0] = first
	return insert(dst, at, appendVarint(head[:1], n)), nil
}

// AppendPingreq appends a PINGREQ.
func AppendPingreq(dst []byte) []byte { return append(dst, byte(TypePingreq)<<4, 0) }

// AppendPingresp appends a PINGRESP.
func AppendPingresp(dst []byte) []byte { return append(dst, byte(TypePingresp)<<4, 0) }

// ParsePing checks the body of a PINGREQ or PINGRESP, which is empty.
func ParsePing(t Type, body []byte) error {
	if len(body) != 0 {
		return malformed(t, fmt.Sprintf("%d bytes of body, want none", len(body)))
	}
	return nil
}
