package mqtt

import "fmt"

// Error says what is wrong with a packet that was read, or that cannot be written. Code is what to send in an MQTT 5
// CONNACK, DISCONNECT or acknowledgement because of it: ReasonMalformedPacket, ReasonProtocolError,
// ReasonPacketTooLarge, ReasonUnsupportedVersion, or a closer one where the specification names it.
type Error struct {
	Packet Type
	Code   Reason
	Detail string // where and what was expected
}

// Error returns packet, code and detail in one line.
func (e *Error) Error() string {
	return fmt.Sprintf("mqtt %v: %v: %s", e.Packet, e.Code, e.Detail)
}

// Refused is the answer of the other side that it does not take something: a CONNACK, an acknowledgement, a SUBACK or a
// DISCONNECT with a reason of 0x80 and above.
type Refused struct {
	Packet Type // the packet that carried the reason
	Code   Reason
	Text   string // the Reason String property; empty when there was none
}

// Error returns packet, code and text in one line.
func (e *Refused) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("mqtt %v: refused: %v", e.Packet, e.Code)
	}
	return fmt.Sprintf("mqtt %v: refused: %v: %s", e.Packet, e.Code, e.Text)
}

func malformed(t Type, detail string) error {
	return &Error{Packet: t, Code: ReasonMalformedPacket, Detail: detail}
}

func violation(t Type, detail string) error {
	return &Error{Packet: t, Code: ReasonProtocolError, Detail: detail}
}
