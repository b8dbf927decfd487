package telemetry

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// field is a member with a meaning. Names are told apart as devices write them, whatever the case of their letters, since
// the same gateway's firmware writes DeviceId in one version and deviceId in the next.
type field uint8

const (
	fieldNone field = iota
	fieldMessageType
	fieldDeviceID
	fieldDeviceType
	fieldChannelType
	fieldChannelKey
	fieldChannelValue
	fieldLocalTimestamp
	fieldMessageID
	fieldSeverity
	fieldMessage
	fieldSource
	fieldTimestamp // from here on in flat JSON only
	fieldTS
	fieldTime
	fieldCount
)

// String returns the field's name as the documentation has it.
func (f field) String() string {
	return [fieldCount]string{
		"", "MessageType", "DeviceId", "DeviceType", "ChannelType", "ChannelKey", "ChannelValue", "LocalTimestamp",
		"MessageId", "Severity", "Message", "Source", "timestamp", "ts", "time",
	}[f]
}

// fieldOf returns the field that is named key.
func fieldOf(key string) field {
	switch key { // as they nearly always come
	case "MessageType":
		return fieldMessageType
	case "DeviceId":
		return fieldDeviceID
	case "DeviceType":
		return fieldDeviceType
	case "ChannelType":
		return fieldChannelType
	case "ChannelKey":
		return fieldChannelKey
	case "ChannelValue":
		return fieldChannelValue
	case "LocalTimestamp":
		return fieldLocalTimestamp
	}
	if len(key) > len("LocalTimestamp") || len(key) < len("ts") {
		return fieldNone
	}
	for f := fieldMessageType; f < fieldCount; f++ {
		if name := f.String(); len(name) == len(key) && strings.EqualFold(name, key) {
			return f
		}
	}
	return fieldNone
}

// classify finds the known fields of the record. Where two members are the same field in different cases, the second one is
// an unknown member.
func (u *unit) classify() {
	u.fields = [fieldCount]int{}
	for i := range u.scan.members {
		m := &u.scan.members[i]
		f := fieldOf(m.key)
		if u.fields[f] != 0 {
			f = fieldNone
		}
		m.field = f
		if f != fieldNone {
			u.fields[f] = i + 1
		}
	}
}

// member returns the member that is f; nil where there is none, or it is null.
func (u *unit) member(f field) *jsonMember {
	i := u.fields[f]
	if i == 0 || u.scan.members[i-1].kind == jsonNull {
		return nil
	}
	return &u.scan.members[i-1]
}

// text returns the string that f is, "" where it is not there.
func (u *unit) text(f field) (string, error) {
	m := u.member(f)
	if m == nil {
		return "", nil
	}
	if m.kind != jsonString {
		return "", fmt.Errorf("%s: %s, want a string", m.key, m.kind)
	}
	return alias(u.stringBytes(m.jsonValue)), nil
}

// head starts a message with what all formats of objects have: device, type, id and time, which is one of times, the first
// that is there. used is the member that held the time.
func (u *unit) head(m *Message, times ...field) (used field, err error) {
	*m = u.template
	device, err := u.text(fieldDeviceID)
	if err != nil {
		return fieldNone, err
	}
	if m.DeviceID, err = u.device(device); err != nil {
		return fieldNone, fmt.Errorf("DeviceId: %w", err)
	}
	deviceType, err := u.text(fieldDeviceType)
	if err != nil {
		return fieldNone, err
	}
	if deviceType != "" {
		m.DeviceType = deviceType
	}
	if id := u.member(fieldMessageID); id != nil {
		switch id.kind {
		case jsonString:
			u.id = alias(u.stringBytes(id.jsonValue))
		case jsonNumber:
			u.id = alias(id.raw)
		default:
			return fieldNone, fmt.Errorf("%s: %s, want a string", id.key, id.kind)
		}
	}
	m.EventTime, used, err = u.time(u.zone(m.DeviceType), times)
	return used, err
}

// device returns the device that a record speaks for: the one that its body names, or else that of the topic or path.
func (u *unit) device(named string) (string, error) {
	if named == "" || named == u.in.DeviceID {
		if u.in.DeviceID == "" {
			return "", errors.New("missing, want a non-empty string, since neither topic nor path names a device")
		}
		return u.in.DeviceID, nil
	}
	if err := ValidDeviceID(named); err != nil {
		return "", err
	}
	if u.in.MayActFor != nil {
		if !u.in.MayActFor(named) {
			return "", fmt.Errorf("%s: %w", quoted(named), ErrForeignDevice)
		}
		return named, nil
	}
	if u.in.DeviceID != "" {
		return "", fmt.Errorf("%s, want %s as the topic or path says: %w", quoted(named), quoted(u.in.DeviceID), ErrForeignDevice)
	}
	return named, nil
}

func (u *unit) zone(deviceType string) *time.Location {
	if len(u.d.opt.Zone) == 0 {
		return nil
	}
	if z, ok := u.d.opt.Zone[deviceType]; ok {
		return z
	}
	return u.d.opt.Zone[""]
}

// time returns what the device said about when it happened, 0 where it said nothing: the configured field, else the first
// of times, else a property.
func (u *unit) time(zone *time.Location, times []field) (Time, field, error) {
	if v, used, ok := u.configuredTime(); ok {
		t, err := u.readTime(u.d.opt.TimeField, v, zone)
		return t, used, err
	}
	for _, f := range times {
		m := u.member(f)
		if m == nil {
			continue
		}
		if f >= fieldTimestamp && m.kind != jsonString && m.kind != jsonNumber {
			continue // a channel that happens to be named so
		}
		t, err := u.readTime(m.key, m.jsonValue, zone)
		return t, f, err
	}
	t, err := u.propertyTime(zone)
	return t, fieldNone, err
}

func (u *unit) readTime(name string, v jsonValue, zone *time.Location) (Time, error) {
	var text string
	switch v.kind {
	case jsonString:
		text = alias(u.stringBytes(v))
		if text == "" {
			return 0, nil
		}
	case jsonNumber:
		text = alias(v.raw)
	default:
		return 0, fmt.Errorf("%s: %s, %w", name, v.kind, errTime)
	}
	t, err := ParseTime(text, zone)
	if err != nil {
		return 0, fmt.Errorf("%s: %s, %w", name, quoted(text), err)
	}
	return t, nil
}

// propertyTime reads the time from the properties, where SDKs of IoT hubs have it.
func (u *unit) propertyTime(zone *time.Location) (Time, error) {
	if len(u.in.Properties) == 0 {
		return 0, nil
	}
	text := property(u.in.Properties, "LocalTimestamp", "iothub-creation-time-utc", "$.ctime")
	if text == "" {
		return 0, nil
	}
	t, err := ParseTime(text, zone)
	if err != nil {
		return 0, fmt.Errorf("property of the time: %s, %w", quoted(text), err)
	}
	return t, nil
}

// configuredTime finds Options.TimeField; used is the field that it is, if it is a known one.
func (u *unit) configuredTime() (v jsonValue, used field, ok bool) {
	path := u.d.timePath
	if len(path) == 0 {
		return v, fieldNone, false
	}
	members := u.scan.members
	for depth, name := range path {
		i := 0
		for i < len(members) && members[i].key != name {
			i++
		}
		if i == len(members) {
			return v, fieldNone, false
		}
		v, used = members[i].jsonValue, members[i].field
		if depth == len(path)-1 {
			break
		}
		if v.kind != jsonObject {
			return v, fieldNone, false
		}
		u.inner.b = v.raw
		if _, ok = u.inner.object(0, 0); !ok {
			return v, fieldNone, false
		}
		members = u.inner.members
	}
	if len(path) > 1 {
		used = fieldNone
	}
	return v, used, v.kind != jsonNull
}

// attributes returns, as a JSON object, the members that are none of known (a set of 1<<field); nil where there are none.
func (u *unit) attributes(known uint32) []byte {
	size := 0
	for i := range u.scan.members {
		if m := &u.scan.members[i]; known&(1<<m.field) == 0 {
			size += len(m.rawKey) + len(m.raw) + 2
		}
	}
	if size == 0 {
		return nil
	}
	b := jsonObjectWriter{arena: &u.arena}
	b.begin(size + 2)
	for i := range u.scan.members {
		if m := &u.scan.members[i]; known&(1<<m.field) == 0 {
			b.put(alias(m.rawKey), m.raw)
		}
	}
	return b.end()
}

// jsonObjectWriter puts members together that stand somewhere as they are.
type jsonObjectWriter struct {
	arena *arena
	mark  int
}

// begin makes room for size bytes, which bound all that is put.
func (w *jsonObjectWriter) begin(size int) {
	w.arena.need(size)
	w.mark = len(w.arena.chunk)
}

func (w *jsonObjectWriter) put(rawKey string, raw []byte) {
	c := w.arena.chunk
	separator := byte(',')
	if len(c) == w.mark {
		separator = '{'
	}
	c = append(append(c, separator), rawKey...)
	w.arena.chunk = append(append(c, ':'), raw...)
}

// end returns the object; nil where nothing was put.
func (w *jsonObjectWriter) end() []byte {
	if len(w.arena.chunk) == w.mark {
		return nil
	}
	w.arena.chunk = append(w.arena.chunk, '}')
	return w.arena.since(w.mark)
}
