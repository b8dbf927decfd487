package mqtt

import (
	"encoding/binary"
	"fmt"
	"iter"
)

// PropertyID names a property of MQTT 5 (2.2.2.2).
type PropertyID uint8

// The properties.
const (
	PropPayloadFormat            PropertyID = 0x01
	PropMessageExpiry            PropertyID = 0x02
	PropContentType              PropertyID = 0x03
	PropResponseTopic            PropertyID = 0x08
	PropCorrelationData          PropertyID = 0x09
	PropSubscriptionID           PropertyID = 0x0B
	PropSessionExpiry            PropertyID = 0x11
	PropAssignedClientID         PropertyID = 0x12
	PropServerKeepAlive          PropertyID = 0x13
	PropAuthMethod               PropertyID = 0x15
	PropAuthData                 PropertyID = 0x16
	PropRequestProblem           PropertyID = 0x17
	PropWillDelay                PropertyID = 0x18
	PropRequestResponse          PropertyID = 0x19
	PropResponseInformation      PropertyID = 0x1A
	PropServerReference          PropertyID = 0x1C
	PropReasonString             PropertyID = 0x1F
	PropReceiveMaximum           PropertyID = 0x21
	PropTopicAliasMaximum        PropertyID = 0x22
	PropTopicAlias               PropertyID = 0x23
	PropMaximumQoS               PropertyID = 0x24
	PropRetainAvailable          PropertyID = 0x25
	PropUser                     PropertyID = 0x26
	PropMaximumPacketSize        PropertyID = 0x27
	PropWildcardAvailable        PropertyID = 0x28
	PropSubscriptionIDsAvailable PropertyID = 0x29
	PropSharedAvailable          PropertyID = 0x2A

	propLast = PropSharedAvailable
)

// typeWill stands for the properties of a will, which are a set of their own within CONNECT.
const typeWill Type = 16

// Properties holds the properties of any packet. Which ones a packet may carry is checked when it is parsed and when it is
// appended.
//
// A parsed property is reported by Has, so that one that is absent can be told from one that is zero. To be appended, a
// property must have a value other than zero, or be marked with Set. Slices of parsed properties share the memory of the body.
type Properties struct {
	MessageExpiry     uint32 // seconds
	SessionExpiry     uint32 // seconds; 0xFFFFFFFF never
	WillDelay         uint32 // seconds
	MaximumPacketSize uint32 // bytes
	SubscriptionID    uint32 // the first; see SubscriptionIDs
	ServerKeepAlive   uint16 // seconds
	ReceiveMaximum    uint16 // messages; absent means 65,535
	TopicAliasMaximum uint16
	TopicAlias        uint16

	PayloadFormat            byte // 1: UTF-8
	RequestProblem           byte // absent means 1
	RequestResponse          byte
	MaximumQoS               byte // absent means 2
	RetainAvailable          byte // absent means 1, and so for the next three
	WildcardAvailable        byte
	SubscriptionIDsAvailable byte
	SharedAvailable          byte

	ContentType         []byte
	ResponseTopic       []byte
	CorrelationData     []byte
	AssignedClientID    []byte
	AuthMethod          []byte
	AuthData            []byte
	ResponseInformation []byte
	ServerReference     []byte
	ReasonString        []byte

	// User holds the user properties, still encoded.
	User UserProperties

	set uint64 // a bit for each PropertyID
}

// Has says whether the property was in the packet that was parsed, or was marked with Set.
func (p *Properties) Has(id PropertyID) bool { return id <= propLast && p.set&(1<<id) != 0 }

// Set marks a property as present even though its value is zero, for instance a MaximumQoS of 0.
func (p *Properties) Set(id PropertyID) {
	if id <= propLast {
		p.set |= 1 << id
	}
}

// empty says whether nothing of p would be appended. It spares most messages the way through all properties.
func (p *Properties) empty() bool {
	long := p.MessageExpiry | p.SessionExpiry | p.WillDelay | p.MaximumPacketSize | p.SubscriptionID
	short := p.ServerKeepAlive | p.ReceiveMaximum | p.TopicAliasMaximum | p.TopicAlias
	flags := p.PayloadFormat | p.RequestProblem | p.RequestResponse | p.MaximumQoS | p.RetainAvailable |
		p.WildcardAvailable | p.SubscriptionIDsAvailable | p.SharedAvailable
	texts := len(p.ContentType) + len(p.ResponseTopic) + len(p.CorrelationData) + len(p.AssignedClientID) +
		len(p.AuthMethod) + len(p.AuthData) + len(p.ResponseInformation) + len(p.ServerReference) + len(p.ReasonString)
	return p.set == 0 && long == 0 && short == 0 && flags == 0 && texts == 0 && len(p.User) == 0
}

// SubscriptionIDs ranges over the subscription identifiers of a parsed PUBLISH, of which there may be several.
func (p *Properties) SubscriptionIDs() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for block := p.User; len(block) > 0; {
			id, v, _, rest := block.next()
			if id == PropSubscriptionID {
				if n, k := binary.Uvarint(v); k <= 0 || !yield(uint32(n)) { //nolint:gosec // at most 4 bytes of 7 bits
					return
				}
			}
			block = rest
		}
	}
}

// UserProperties is a list of name and value pairs in encoded form. It may hold other properties, as a parsed packet has
// them side by side; they are skipped.
type UserProperties []byte

// With returns u with a pair added; it appends, like append. A name or value beyond 65,535 bytes is refused when the
// packet is appended.
func (u UserProperties) With(name, value string) UserProperties {
	if len(name) > textMax || len(value) > textMax {
		return append(u, 0xff) // no property has this number, so the block is refused
	}
	return appendText(appendText(append(u, byte(PropUser)), name), value)
}

// All ranges over the pairs in their order; a name may come more than once. It does not allocate, and what it yields
// shares u's memory.
func (u UserProperties) All() iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		for block := u; len(block) > 0; {
			id, name, value, rest := block.next()
			if id == PropUser && !yield(name, value) {
				return
			}
			block = rest
		}
	}
}

// next takes the first property off u: its value, or name and value of a user property. id is zero, and rest empty, when u is
// not well formed.
func (u UserProperties) next() (id PropertyID, v, v2 []byte, rest UserProperties) {
	c := cursor{b: u}
	id = PropertyID(c.byte(""))
	n := 0
	switch kindOf(id) {
	case kindByte:
		n = 1
	case kindUint16:
		n = 2
	case kindUint32:
		n = 4
	case kindVarint:
		for n < len(c.b) && c.b[n] >= 0x80 {
			n++
		}
		n++
	case kindText, kindBinary:
		v = c.binary("")
	case kindPair:
		v, v2 = c.binary(""), c.binary("")
	default:
		return 0, nil, nil, nil
	}
	if n > len(c.b) || c.err != nil {
		return 0, nil, nil, nil
	}
	if n > 0 {
		v = c.b[:n]
	}
	return id, v, v2, c.b[n:]
}

// properties reads a property length and the properties behind it into p. What p held is gone.
func (c *cursor) properties(p *Properties, owner Type) {
	*p = Properties{}
	n := c.varint("property length")
	if n > len(c.b) {
		c.fail(malformed(c.in, fmt.Sprintf("property length %d, but %d bytes left", n, len(c.b))))
	}
	if n == 0 || c.err != nil {
		return
	}
	block := cursor{b: c.b[:n:n], in: c.in}
	c.b = c.b[n:]
	p.User = UserProperties(block.b)
	for len(block.b) > 0 {
		block.property(p, owner)
	}
	if block.err != nil {
		c.fail(block.err)
		return
	}
	if p.Has(PropAuthData) && !p.Has(PropAuthMethod) {
		c.fail(violation(c.in, "authentication data without a method"))
	}
	if !p.Has(PropUser) && !p.Has(PropSubscriptionID) {
		p.User = nil
	}
}

func (c *cursor) property(p *Properties, owner Type) {
	id := PropertyID(c.byte("property"))
	switch {
	case kindOf(id) == kindNone:
		c.fail(malformed(c.in, fmt.Sprintf("property %#02x does not exist", uint8(id))))
		return
	case allowedProperties(owner)&(1<<id) == 0:
		c.fail(violation(c.in, fmt.Sprintf("property %#02x is not for this packet", uint8(id))))
		return
	case p.Has(id) && id != PropUser && (id != PropSubscriptionID || owner != TypePublish):
		c.fail(violation(c.in, fmt.Sprintf("property %#02x comes twice", uint8(id))))
		return
	}
	first := !p.Has(id)
	p.set |= 1 << id
	switch kindOf(id) {
	case kindByte:
		v := c.byte("property")
		if v > 1 {
			c.fail(violation(c.in, fmt.Sprintf("property %#02x is %d, want 0 or 1", uint8(id), v)))
		}
		*p.byteField(id) = v
	case kindUint16:
		*p.uint16Field(id) = c.uint16("property")
	case kindUint32:
		*p.uint32Field(id) = c.uint32("property")
	case kindVarint:
		if v := c.varint("subscription identifier"); first {
			p.SubscriptionID = uint32(v) //nolint:gosec // at most RemainingMax
		}
	case kindText:
		*p.textField(id) = c.text("property")
	case kindBinary:
		*p.textField(id) = c.binary("property")
	case kindPair:
		c.text("name of a user property")
		c.text("value of a user property")
	case kindNone: // refused above
	}
	c.checkProperty(p, id)
}

// checkProperty refuses the values that the specification excludes one by one.
func (c *cursor) checkProperty(p *Properties, id PropertyID) {
	if c.err != nil {
		return
	}
	switch {
	case id == PropReceiveMaximum && p.ReceiveMaximum == 0,
		id == PropMaximumPacketSize && p.MaximumPacketSize == 0,
		id == PropSubscriptionID && p.SubscriptionID == 0:
		c.fail(violation(c.in, fmt.Sprintf("property %#02x is 0", uint8(id))))
	case id == PropTopicAlias && p.TopicAlias == 0:
		c.fail(&Error{Packet: c.in, Code: ReasonTopicAliasInvalid, Detail: "topic alias is 0"})
	case id == PropResponseTopic:
		if err := checkTopic(p.ResponseTopic); err != nil {
			c.fail(violation(c.in, "response topic: "+err.Error()))
		}
	}
}

// appendProperties appends the property length and all of p that has a value; a nil p is an empty list.
func appendProperties(dst []byte, p *Properties, in, owner Type) ([]byte, error) {
	if p == nil || p.empty() {
		return append(dst, 0), nil
	}
	at := len(dst)
	for id := PropPayloadFormat; id <= propLast; id++ {
		n := len(dst)
		var err error
		if dst, err = p.append(dst, id); err != nil {
			return dst[:at], violation(in, err.Error())
		}
		if len(dst) > n && allowedProperties(owner)&(1<<id) == 0 {
			return dst[:at], violation(in, fmt.Sprintf("property %#02x is not for this packet", uint8(id)))
		}
	}
	n := len(dst) - at
	if n > RemainingMax {
		return dst[:at], &Error{Packet: in, Code: ReasonPacketTooLarge, Detail: "properties are too long"}
	}
	var length [4]byte
	return insert(dst, at, appendVarint(length[:0], n)), nil
}

// append appends one property where it has a value or is marked.
func (p *Properties) append(dst []byte, id PropertyID) ([]byte, error) {
	marked, key := p.Has(id), append(dst, byte(id))
	switch kindOf(id) {
	case kindByte:
		if v := *p.byteField(id); v != 0 || marked {
			return append(key, v), nil
		}
	case kindUint16:
		if v := *p.uint16Field(id); v != 0 || marked {
			return binary.BigEndian.AppendUint16(key, v), nil
		}
	case kindUint32:
		if v := *p.uint32Field(id); v != 0 || marked {
			return binary.BigEndian.AppendUint32(key, v), nil
		}
	case kindVarint:
		return p.appendSubscriptionIDs(dst)
	case kindText, kindBinary:
		v := *p.textField(id)
		if len(v) > textMax || kindOf(id) == kindText && !validText(v) {
			return dst, fmt.Errorf("property %#02x: want UTF-8 of at most %d bytes", uint8(id), textMax)
		}
		if len(v) > 0 || marked {
			return appendText(key, v), nil
		}
	case kindPair:
		return p.User.append(dst)
	case kindNone:
	}
	return dst, nil
}

// appendSubscriptionIDs appends all identifiers of a parsed packet, else the one that was set.
func (p *Properties) appendSubscriptionIDs(dst []byte) ([]byte, error) {
	if p.SubscriptionID > RemainingMax {
		return dst, fmt.Errorf("subscription identifier is %d, at most %d", p.SubscriptionID, RemainingMax)
	}
	n := len(dst)
	for id := range p.SubscriptionIDs() {
		dst = appendVarint(append(dst, byte(PropSubscriptionID)), int(id))
	}
	if len(dst) == n && p.SubscriptionID != 0 {
		dst = appendVarint(append(dst, byte(PropSubscriptionID)), int(p.SubscriptionID))
	}
	return dst, nil
}

func (u UserProperties) append(dst []byte) ([]byte, error) {
	for block := u; len(block) > 0; {
		id, name, value, rest := block.next()
		if id == 0 || id == PropUser && (!validText(name) || !validText(value)) {
			return dst, fmt.Errorf("user properties: want pairs of UTF-8, each of at most %d bytes", textMax)
		}
		if id == PropUser {
			dst = appendText(appendText(append(dst, byte(PropUser)), name), value)
		}
		block = rest
	}
	return dst, nil
}
