package telemetry

import (
	"fmt"
	"strings"
)

// The fields that each kind has a place for.
const (
	knownAlways  = 1<<fieldMessageType | 1<<fieldDeviceID | 1<<fieldDeviceType | 1<<fieldLocalTimestamp | 1<<fieldMessageID
	knownChannel = knownAlways | 1<<fieldChannelType | 1<<fieldChannelKey | 1<<fieldChannelValue
	knownLog     = knownAlways | 1<<fieldSeverity | 1<<fieldMessage | 1<<fieldSource
)

// takesChannel takes an object that says its MessageType, or whose topic does, and those that can be recognised without:
// ChannelKey with ChannelValue, and Severity, which in any spelling but that needs a Message beside it.
func takesChannel(u *unit) bool {
	f := &u.fields
	switch {
	case u.member(fieldMessageType) != nil || u.messageType != "":
		return true
	case f[fieldChannelKey] != 0 && f[fieldChannelValue] != 0:
		return true
	case f[fieldSeverity] == 0:
		return false
	}
	return f[fieldMessage] != 0 || u.scan.members[f[fieldSeverity]-1].key == "Severity"
}

// decodeChannel reads the Channel, Log and Event messages of gateways. What they hold beyond the known fields goes to
// Attributes.
func decodeChannel(u *unit) error {
	messageType, err := u.text(fieldMessageType)
	if err != nil {
		return err
	}
	if messageType == "" {
		messageType = u.messageType
	}
	switch f := &u.fields; {
	case strings.EqualFold(messageType, "Channel"):
		return u.decodeOneChannel()
	case strings.EqualFold(messageType, "Log"):
		return u.decodeLog()
	case messageType != "":
		return u.decodeEvent(messageType)
	case f[fieldChannelKey] != 0:
		return u.decodeOneChannel()
	case f[fieldSeverity] != 0:
		return u.decodeLog()
	}
	return missing(fieldMessageType, "Channel, Log or the name of an event")
}

func missing(f field, want string) error { return fmt.Errorf("%s: missing, want %s", f, want) }

func (u *unit) decodeOneChannel() error {
	var m Message
	if _, err := u.head(&m, fieldLocalTimestamp); err != nil {
		return err
	}
	m.Kind = KindChannel
	var err error
	if m.ChannelKey, err = u.channelKey(); err != nil {
		return err
	}
	if m.ChannelType, err = u.text(fieldChannelType); err != nil {
		return err
	}
	i := u.fields[fieldChannelValue]
	if i == 0 {
		return missing(fieldChannelValue, "any JSON value")
	}
	u.setValue(&m, u.scan.members[i-1].jsonValue)
	m.Attributes = u.attributes(knownChannel)
	u.emit(&m)
	return nil
}

func (u *unit) channelKey() (string, error) {
	m := u.member(fieldChannelKey)
	if m == nil {
		return "", missing(fieldChannelKey, "a non-empty string")
	}
	key, err := u.text(fieldChannelKey)
	if err != nil {
		return "", err
	}
	if err := validChannelKey(key); err != nil {
		return "", fmt.Errorf("ChannelKey: %w", err)
	}
	return key, nil
}

// decodeLog reads a log line. A severity that is missing or that nobody knows is Info; the text of the latter stays in
// Attributes, and it is counted.
func (u *unit) decodeLog() error {
	var m Message
	if _, err := u.head(&m, fieldLocalTimestamp); err != nil {
		return err
	}
	m.Kind, m.Severity = KindLog, SeverityInfo
	line := u.member(fieldMessage)
	if line == nil {
		return missing(fieldMessage, "a string")
	}
	m.Text = alias(line.raw) // whatever it is
	if line.kind == jsonString {
		m.Text = alias(u.stringBytes(line.jsonValue))
	}
	known := uint32(knownLog)
	if severity := u.member(fieldSeverity); severity != nil {
		ok := severity.kind == jsonString
		if ok {
			m.Severity, ok = ParseSeverity(alias(u.stringBytes(severity.jsonValue)))
		}
		if !ok {
			m.Severity = SeverityInfo
			known &^= 1 << fieldSeverity
			u.count(CountUnknownSeverity, m.DeviceID)
		}
	}
	if source := u.member(fieldSource); source != nil {
		if source.kind == jsonString {
			m.LogSource = alias(u.stringBytes(source.jsonValue))
		} else {
			known &^= 1 << fieldSource
		}
	}
	m.Attributes = u.attributes(known)
	u.emit(&m)
	return nil
}

// decodeEvent keeps the whole record as the value: what is in a custom event only its reader knows. The channel is the
// message type; for the type "Event" it is the ChannelKey, where there is one.
func (u *unit) decodeEvent(messageType string) error {
	var m Message
	if _, err := u.head(&m, fieldLocalTimestamp); err != nil {
		return err
	}
	m.Kind, m.ChannelKey, m.ChannelType, m.ChannelValue = KindEvent, messageType, typeJSON, u.raw
	if strings.EqualFold(messageType, "Event") && u.member(fieldChannelKey) != nil {
		var err error
		if m.ChannelKey, err = u.channelKey(); err != nil {
			return err
		}
	}
	if err := validChannelKey(m.ChannelKey); err != nil {
		return fmt.Errorf("MessageType: %w", err)
	}
	u.emit(&m)
	return nil
}
