package mqtt

import (
	"encoding/binary"
	"fmt"
)

// Publish is a PUBLISH packet. A parsed one consists of slices into the body; whoever keeps it longer copies it.
type Publish struct {
	Dup        bool
	Retain     bool
	QoS        byte   // 0, 1 or 2
	PacketID   uint16 // zero with QoS 0
	Topic      []byte // may be empty in MQTT 5, when Properties has a TopicAlias
	Payload    []byte
	Properties Properties // MQTT 5
}

func checkPublishFlags(flags byte) error {
	switch qos := flags >> 1 & 3; {
	case qos == 3:
		return malformed(TypePublish, "QoS is 3")
	case qos == 0 && flags&8 != 0:
		return malformed(TypePublish, "DUP is set with QoS 0")
	}
	return nil
}

// ParsePublish reads the body of a PUBLISH into p and overwrites all of it, so that one Publish can serve a whole
// connection. It does not allocate but for an *Error. A topic alias is reported, not resolved.
func ParsePublish(flags byte, body []byte, v Version, p *Publish) error {
	if err := checkPublishFlags(flags); err != nil {
		return err
	}
	c := cursor{b: body, in: TypePublish}
	p.Dup, p.Retain, p.QoS = flags&8 != 0, flags&1 != 0, flags>>1&3
	p.Topic, p.PacketID, p.Payload = c.text("topic"), 0, nil
	if p.QoS > 0 {
		p.PacketID = c.packetID()
	}
	if v == Version5 {
		c.properties(&p.Properties, TypePublish)
	} else {
		p.Properties = Properties{}
	}
	if c.err != nil {
		return c.err
	}
	p.Payload = c.b
	if len(p.Topic) == 0 && p.Properties.TopicAlias != 0 {
		return nil
	}
	if err := checkTopic(p.Topic); err != nil {
		if len(p.Topic) == 0 && v == Version5 {
			return violation(TypePublish, "no topic and no topic alias")
		}
		return malformed(TypePublish, err.Error())
	}
	return nil
}

// AppendPublish appends p in the form of version v. It refuses with an *Error what could not be sent: a bad topic or QoS, a
// missing packet identifier, properties in MQTT 3.1.1; dst then comes back as it was.
func AppendPublish(dst []byte, v Version, p *Publish) ([]byte, error) {
	if len(p.Topic) > textMax || !validText(p.Topic) {
		return dst, malformed(TypePublish, fmt.Sprintf("topic: want UTF-8 of at most %d bytes", textMax))
	}
	alias := v == Version5 && p.Properties.TopicAlias != 0
	if err := checkTopic(p.Topic); err != nil && (len(p.Topic) > 0 || !alias) {
		return dst, malformed(TypePublish, err.Error())
	}
	if (p.QoS > 0) != (p.PacketID != 0) {
		return dst, violation(TypePublish, fmt.Sprintf("packet identifier is %d with QoS %d", p.PacketID, p.QoS))
	}
	return appendPublish(dst, v, p, p.Topic, p.PacketID)
}

// appendPublish is AppendPublish for a topic and identifier that are in order and stand beside p.
func appendPublish[T ~string | ~[]byte](dst []byte, v Version, p *Publish, topic T, id uint16) ([]byte, error) {
	first := byte(TypePublish)<<4 | p.QoS<<1
	if p.Dup {
		first |= 8
	}
	if p.Retain {
		first |= 1
	}
	if p.QoS > 2 {
		return dst, malformed(TypePublish, fmt.Sprintf("QoS is %d", p.QoS))
	}
	if err := checkPublishFlags(first & 0x0f); err != nil {
		return dst, err
	}
	at := len(dst)
	dst = appendText(dst, topic)
	if p.QoS > 0 {
		dst = binary.BigEndian.AppendUint16(dst, id)
	}
	dst, err := appendOptional(dst, v, &p.Properties, TypePublish)
	if err != nil {
		return dst[:at], err
	}
	if dst, err = frame(dst, at, first, len(p.Payload)); err != nil {
		return dst, err
	}
	return append(dst, p.Payload...), nil
}

// appendOptional appends properties in MQTT 5, and refuses them in MQTT 3.1.1, which has no place for them.
func appendOptional(dst []byte, v Version, p *Properties, owner Type) ([]byte, error) {
	if v == Version5 {
		return appendProperties(dst, p, owner, owner)
	}
	if p != nil && !p.empty() {
		return dst, violation(owner, "MQTT 3.1.1 has no properties")
	}
	return dst, nil
}
