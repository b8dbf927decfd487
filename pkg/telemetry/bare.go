package telemetry

import (
	"bytes"
	"errors"
	"unicode/utf8"
)

func takesBare(u *unit) bool { return u.in.ChannelKey != "" }

// decodeBare reads one value that stands alone, with the blanks around it taken off: JSON where it begins as an object, an
// array or a string does, and must then be one; else text, which is read as a number or boolean where it is one. With the
// content type text/plain everything is text.
func decodeBare(u *unit) error {
	m := u.template
	if m.DeviceID == "" {
		return errors.New("device id: missing, want the device in the topic or path")
	}
	m.Kind, m.ChannelKey = KindChannel, u.in.ChannelKey
	text := bytes.TrimSpace(bytes.TrimPrefix(u.in.Body, []byte("\uFEFF")))
	if len(text) == 0 {
		return errors.New("empty, want a value")
	}
	if u.rawText && !utf8.Valid(text) {
		return errUTF8
	}
	var err error
	if m.EventTime, err = u.propertyTime(u.zone(m.DeviceType)); err != nil {
		return err
	}
	if c := text[0]; !u.plainText && (c == '{' || c == '[' || c == '"') {
		v, ok := u.parseJSON(text)
		if !ok {
			return u.inner.err(0)
		}
		u.setValue(&m, v)
	} else {
		m.ChannelValue = text
		m.ChannelType = u.setText(&m)
	}
	u.emit(&m)
	return nil
}
