package mqtt

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// The bits of CONNECT's flags (MQTT 5, 3.1.2.3).
const (
	flagCleanStart = 0x02
	flagWill       = 0x04
	flagWillRetain = 0x20
	flagPassword   = 0x40
	flagUsername   = 0x80
)

// Connect is a CONNECT.
type Connect struct {
	Version     Version
	CleanStart  bool   // in MQTT 3.1.1: Clean Session
	KeepAlive   uint16 // seconds; 0 is none
	ClientID    string // empty: the server makes one up
	Will        *Will  // nil: none
	HasUsername bool
	HasPassword bool
	Username    string
	Password    []byte
	Properties  Properties
}

// Will is the message that the server publishes when the connection ends without a DISCONNECT.
type Will struct {
	Topic      string
	Payload    []byte
	QoS        byte
	Retain     bool
	Properties Properties
}

// ParseConnect reads the body of a CONNECT into memory of its own. With an error it returns what could be read, so
// that the server knows the Version in which to say no; Version is zero when even that could not be read.
//
// The error's code is ReasonUnsupportedVersion for MQTT 3.1 ("MQIsdp") and any other protocol than 3.1.1 and 5, and
// ReasonClientIDNotValid for an empty client identifier without Clean Session in MQTT 3.1.1.
func ParseConnect(body []byte) (*Connect, error) {
	m := &Connect{}
	c := cursor{b: bytes.Clone(body), in: TypeConnect}
	if name := c.binary("protocol name"); c.err == nil && string(name) != "MQTT" {
		return m, &Error{Packet: TypeConnect, Code: ReasonUnsupportedVersion, Detail: fmt.Sprintf(
			"protocol %.16q, want \"MQTT\" (3.1.1 or 5)", name)}
	}
	level := Version(c.byte("protocol level"))
	if c.err == nil && level != Version311 && level != Version5 {
		return m, &Error{Packet: TypeConnect, Code: ReasonUnsupportedVersion, Detail: fmt.Sprintf(
			"protocol level %d, want 4 (3.1.1) or 5", uint8(level))}
	}
	if c.err == nil {
		m.Version = level
	}
	flags := c.byte("connect flags")
	c.checkConnectFlags(flags, level)
	m.CleanStart = flags&flagCleanStart != 0
	m.KeepAlive = c.uint16("keep alive")
	if level == Version5 {
		c.properties(&m.Properties, TypeConnect)
	}
	m.ClientID = string(c.text("client identifier"))
	if flags&flagWill != 0 {
		m.Will = c.will(flags, level)
	}
	if m.HasUsername = flags&flagUsername != 0; m.HasUsername {
		m.Username = string(c.text("user name"))
	}
	if m.HasPassword = flags&flagPassword != 0; m.HasPassword {
		m.Password = c.binary("password")
	}
	if err := c.end(); err != nil {
		return m, err
	}
	if level == Version311 && m.ClientID == "" && !m.CleanStart {
		return m, &Error{Packet: TypeConnect, Code: ReasonClientIDNotValid, Detail: "client identifier is empty without clean session"}
	}
	return m, nil
}

func (c *cursor) checkConnectFlags(flags byte, v Version) {
	will := flags&flagWill != 0
	switch {
	case c.err != nil:
	case flags&1 != 0:
		c.fail(malformed(c.in, "the reserved bit of the connect flags is set"))
	case flags>>3&3 == 3:
		c.fail(malformed(c.in, "QoS of the will is 3"))
	case !will && flags&(flagWillRetain|0x18) != 0:
		c.fail(malformed(c.in, "QoS or retain of a will, but no will"))
	case v == Version311 && flags&(flagUsername|flagPassword) == flagPassword:
		c.fail(malformed(c.in, "password without user name"))
	}
}

func (c *cursor) will(flags byte, v Version) *Will {
	w := &Will{QoS: flags >> 3 & 3, Retain: flags&flagWillRetain != 0}
	if v == Version5 {
		c.properties(&w.Properties, typeWill)
	}
	topic := c.text("topic of the will")
	if err := checkTopic(topic); err != nil && c.err == nil {
		c.fail(malformed(c.in, "will: "+err.Error()))
	}
	w.Topic = string(topic)
	w.Payload = c.binary("payload of the will")
	return w
}

// AppendConnect appends m in the form of m.Version. A Username or Password that is not empty is sent also where
// HasUsername or HasPassword is not set.
func AppendConnect(dst []byte, m *Connect) ([]byte, error) {
	at := len(dst)
	if m.Version != Version311 && m.Version != Version5 {
		return dst, &Error{Packet: TypeConnect, Code: ReasonUnsupportedVersion, Detail: m.Version.String()}
	}
	flags := m.flags()
	c := cursor{in: TypeConnect}
	c.checkConnectFlags(flags, m.Version)
	for _, s := range []string{m.ClientID, m.Username} {
		if err := checkText(s); err != nil {
			c.fail(malformed(TypeConnect, "client identifier or user name: "+err.Error()))
		}
	}
	if len(m.Password) > textMax {
		c.fail(malformed(TypeConnect, fmt.Sprintf("password: %d bytes, at most %d", len(m.Password), textMax)))
	}
	if c.err != nil {
		return dst, c.err
	}
	dst = append(appendText(dst, "MQTT"), byte(m.Version), flags)
	dst = binary.BigEndian.AppendUint16(dst, m.KeepAlive)
	dst, err := appendOptional(dst, m.Version, &m.Properties, TypeConnect)
	if err != nil {
		return dst[:at], err
	}
	dst = appendText(dst, m.ClientID)
	if m.Will != nil {
		if dst, err = m.Will.append(dst, m.Version); err != nil {
			return dst[:at], err
		}
	}
	if flags&flagUsername != 0 {
		dst = appendText(dst, m.Username)
	}
	if flags&flagPassword != 0 {
		dst = appendText(dst, m.Password)
	}
	return frame(dst, at, byte(TypeConnect)<<4, 0)
}

func (m *Connect) flags() byte {
	var flags byte
	if m.CleanStart {
		flags |= flagCleanStart
	}
	if m.HasUsername || m.Username != "" {
		flags |= flagUsername
	}
	if m.HasPassword || len(m.Password) > 0 {
		flags |= flagPassword
	}
	if w := m.Will; w != nil {
		flags |= flagWill | min(w.QoS, 3)<<3
		if w.Retain {
			flags |= flagWillRetain
		}
	}
	return flags
}

func (w *Will) append(dst []byte, v Version) ([]byte, error) {
	err := ValidTopic(w.Topic)
	if err == nil && len(w.Payload) > textMax {
		err = fmt.Errorf("payload of %d bytes, at most %d", len(w.Payload), textMax)
	}
	if err != nil {
		return dst, malformed(TypeConnect, "will: "+err.Error())
	}
	if v == Version5 {
		dst, err = appendProperties(dst, &w.Properties, TypeConnect, typeWill)
	} else if !w.Properties.empty() {
		err = violation(TypeConnect, "will: MQTT 3.1.1 has no properties")
	}
	return appendText(appendText(dst, w.Topic), w.Payload), err
}

// Connack is a CONNACK.
type Connack struct {
	SessionPresent bool
	Reason         Reason
	Properties     Properties
}

// ParseConnack reads the body of a CONNACK. The return codes of MQTT 3.1.1 come as the reasons that correspond.
func ParseConnack(body []byte, v Version) (Connack, error) {
	var m Connack
	c := cursor{b: body, in: TypeConnack}
	flags := c.byte("acknowledge flags")
	if flags > 1 {
		c.fail(malformed(TypeConnack, fmt.Sprintf("acknowledge flags %#02x, want 0 or 1", flags)))
	}
	m.SessionPresent = flags == 1
	if v == Version5 {
		m.Reason = c.reason(TypeConnack)
		c.properties(&m.Properties, TypeConnack)
	} else {
		code, ok := c.byte("return code"), false
		if m.Reason, ok = connackReason(code); !ok {
			c.fail(violation(TypeConnack, fmt.Sprintf("return code %d, want 0 to 5", code)))
		}
	}
	if c.err == nil && m.SessionPresent && m.Reason != ReasonSuccess {
		c.fail(violation(TypeConnack, "session present in a refusal"))
	}
	return m, c.end()
}

// AppendConnack appends m. In MQTT 3.1.1 its reason becomes the return code that comes closest, and its properties are left
// out: they only inform, and a server need not build two answers.
func AppendConnack(dst []byte, v Version, m *Connack) ([]byte, error) {
	var flags byte
	if m.SessionPresent && m.Reason == ReasonSuccess {
		flags = 1
	}
	if v != Version5 {
		return append(dst, byte(TypeConnack)<<4, 2, flags, m.Reason.connackCode()), nil
	}
	if !m.Reason.allowedIn(TypeConnack) {
		return dst, violation(TypeConnack, "reason code "+m.Reason.String()+" is not for this packet")
	}
	at := len(dst)
	dst, err := appendProperties(append(dst, flags, byte(m.Reason)), &m.Properties, TypeConnack, TypeConnack)
	if err != nil {
		return dst[:at], err
	}
	return frame(dst, at, byte(TypeConnack)<<4, 0)
}
