package telemetry

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
)

// Tags of millrace.v1.Message: field number << 3 | wire type.
const (
	tagTenant       = 1<<3 | wireBytes
	tagDeviceID     = 2<<3 | wireBytes
	tagDeviceType   = 3<<3 | wireBytes
	tagKind         = 4<<3 | wireVarint
	tagChannelKey   = 5<<3 | wireBytes
	tagChannelType  = 6<<3 | wireBytes
	tagChannelValue = 7<<3 | wireBytes
	tagValue        = 8<<3 | wireFixed64
	tagSeverity     = 9<<3 | wireVarint
	tagText         = 10<<3 | wireBytes
	tagEventTime    = 11<<3 | wireFixed64
	tagDeviceTime   = 12<<3 | wireFixed64
	tagIngestTime   = 13<<3 | wireFixed64
	tagMessageID    = 14<<3 | wireBytes
	tagSource       = 15<<3 | wireBytes
	tagCredential   = 16<<3 | wireBytes
	tagCodec        = 17<<3 | wireBytes
	tagProperty     = 18<<3 | wireBytes
	tagAttributes   = 19<<3 | wireBytes
	tagLogSource    = 20<<3 | wireBytes

	tagPropertyKey   = 1<<3 | wireBytes
	tagPropertyValue = 2<<3 | wireBytes
)

// AppendMessage appends m as protobuf millrace.v1.Message to dst and returns it. Fields are written in the order of their
// numbers, so equal messages give equal bytes. Strings are written as they are: codecs let only valid UTF-8 through, which
// is what other languages' readers demand. Keeps nothing of m.
func AppendMessage(dst []byte, m *Message) []byte {
	dst = appendText(dst, tagTenant, m.Tenant)
	dst = appendText(dst, tagDeviceID, m.DeviceID)
	dst = appendText(dst, tagDeviceType, m.DeviceType)
	dst = appendVarint(dst, tagKind, uint64(m.Kind))
	dst = appendText(dst, tagChannelKey, m.ChannelKey)
	dst = appendText(dst, tagChannelType, m.ChannelType)
	dst = appendBytes(dst, tagChannelValue, m.ChannelValue)
	if m.HasValue { // has presence: a zero is written
		dst = binary.LittleEndian.AppendUint64(append(dst, tagValue), math.Float64bits(m.Value))
	}
	dst = appendVarint(dst, tagSeverity, uint64(m.Severity))
	dst = appendText(dst, tagText, m.Text)
	dst = appendTime(dst, tagEventTime, m.EventTime)
	dst = appendTime(dst, tagDeviceTime, m.DeviceTime)
	dst = appendTime(dst, tagIngestTime, m.IngestTime)
	dst = appendText(dst, tagMessageID, m.MessageID)
	dst = appendText(dst, tagSource, m.Source)
	dst = appendText(dst, tagCredential, m.Credential)
	dst = appendText(dst, tagCodec, m.Codec)
	for i := range m.Properties {
		dst = appendProperty(dst, &m.Properties[i])
	}
	dst = appendBytes(dst, tagAttributes, m.Attributes)
	return appendText(dst, tagLogSource, m.LogSource)
}

func appendProperty(dst []byte, p *Property) []byte {
	dst = appendTag(dst, tagProperty)
	dst = binary.AppendUvarint(dst, uint64(textSize(p.Key)+textSize(p.Value))) //nolint:gosec // G115: a length.
	dst = appendText(dst, tagPropertyKey, p.Key)
	return appendText(dst, tagPropertyValue, p.Value)
}

// textSize returns what appendText writes for s under a tag of one byte, in bytes.
func textSize(s string) int {
	if len(s) == 0 {
		return 0
	}
	n := len(s) + 2
	for l := len(s); l >= 0x80; l >>= 7 {
		n++
	}
	return n
}

// ParseMessage reads b, which AppendMessage or any other protobuf writer wrote, into m, which is reset first. Strings and
// byte slices of m alias b: they are good for as long as b is left alone (Clone makes a copy that stands for itself).
// It allocates only where Properties must grow, so a caller that reads many records keeps one Message.
// Unknown fields are skipped; an unknown kind or severity is read as zero. The error wraps ErrWire and m is then half read.
func ParseMessage(b []byte, m *Message) error {
	m.Reset()
	r := wireReader{b: b}
	for r.next() {
		if r.tag > tagChannelValue && !m.parseLate(&r) {
			break
		}
		switch r.tag {
		case tagTenant:
			m.Tenant = r.text()
		case tagDeviceID:
			m.DeviceID = r.text()
		case tagDeviceType:
			m.DeviceType = r.text()
		case tagKind:
			m.Kind = r.kind()
		case tagChannelKey:
			m.ChannelKey = r.text()
		case tagChannelType:
			m.ChannelType = r.text()
		case tagChannelValue:
			m.ChannelValue = r.data
		}
	}
	if r.err != nil {
		return fmt.Errorf("message: %w", r.err)
	}
	return nil
}

// parseLate takes the fields from number 8 on; false after a fault.
func (m *Message) parseLate(r *wireReader) bool {
	switch r.tag {
	case tagValue:
		m.Value, m.HasValue = r.float(), true
	case tagSeverity:
		m.Severity = r.sev()
	case tagText:
		m.Text = r.text()
	case tagEventTime:
		m.EventTime = r.time()
	case tagDeviceTime:
		m.DeviceTime = r.time()
	case tagIngestTime:
		m.IngestTime = r.time()
	case tagMessageID:
		m.MessageID = r.text()
	case tagSource:
		m.Source = r.text()
	case tagCredential:
		m.Credential = r.text()
	case tagCodec:
		m.Codec = r.text()
	case tagProperty:
		return m.parseProperty(r)
	case tagAttributes:
		m.Attributes = r.data
	case tagLogSource:
		m.LogSource = r.text()
	}
	return true
}

func (m *Message) parseProperty(outer *wireReader) bool {
	var p Property
	r := wireReader{b: outer.data}
	for r.next() {
		switch r.tag {
		case tagPropertyKey:
			p.Key = r.text()
		case tagPropertyValue:
			p.Value = r.text()
		}
	}
	if r.err != nil {
		outer.err = fmt.Errorf("property %d: %w", len(m.Properties), r.err)
		return false
	}
	m.Properties = append(m.Properties, p)
	return true
}

// Clone returns a copy of m that shares no memory with it, made in two allocations (one without properties).
func (m *Message) Clone() Message {
	c := *m
	texts := [...]*string{
		&c.Tenant, &c.DeviceID, &c.DeviceType, &c.ChannelKey, &c.ChannelType, &c.Text, &c.MessageID,
		&c.Source, &c.LogSource, &c.Credential, &c.Codec,
	}
	size := len(m.ChannelValue) + len(m.Attributes)
	for _, s := range texts {
		size += len(*s)
	}
	for i := range m.Properties {
		size += len(m.Properties[i].Key) + len(m.Properties[i].Value)
	}
	own := cloner(make([]byte, 0, size))
	for _, s := range texts {
		*s = own.text(*s)
	}
	c.ChannelValue = own.bytes(m.ChannelValue)
	c.Attributes = own.bytes(m.Attributes)
	c.Properties = nil
	if len(m.Properties) > 0 {
		c.Properties = make([]Property, len(m.Properties))
		for i, p := range m.Properties {
			c.Properties[i] = Property{Key: own.text(p.Key), Value: own.text(p.Value)}
		}
	}
	return c
}

// cloner is memory of the right capacity that is handed out piece by piece, so that a copy is one allocation.
type cloner []byte

func (c *cloner) text(s string) string {
	if s == "" {
		return ""
	}
	at := len(*c)
	*c = append(*c, s...)
	return alias((*c)[at:])
}

func (c *cloner) bytes(b []byte) []byte {
	if b == nil {
		return nil
	}
	at := len(*c)
	*c = append(*c, b...)
	return (*c)[at:len(*c):len(*c)]
}

// Property returns the value of the first property named key, whatever the case of its letters.
func (m *Message) Property(key string) (value string, ok bool) {
	for i := range m.Properties {
		if strings.EqualFold(m.Properties[i].Key, key) {
			return m.Properties[i].Value, true
		}
	}
	return "", false
}
