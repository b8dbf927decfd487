package telemetry

import (
	"math"
	"strconv"
	"strings"
)

// The channel types that codecs give where the device says none.
const (
	typeNumber  = "number"
	typeBoolean = "boolean"
	typeText    = "text"
	typeJSON    = "json"
)

// setValue sets value, number and, where the device said none, type of m from a JSON value.
func (u *unit) setValue(m *Message, v jsonValue) {
	found := typeJSON
	m.ChannelValue = v.raw
	switch v.kind {
	case jsonString:
		m.ChannelValue = u.stringBytes(v)
		found = u.setText(m)
	case jsonNumber:
		found = typeNumber
		m.setNumber(alias(v.raw))
	case jsonTrue, jsonFalse:
		found = typeBoolean
		m.HasValue = true
		if v.kind == jsonTrue {
			m.Value = 1
		}
	case jsonObject, jsonArray, jsonNull, jsonNone:
	}
	if m.ChannelType == "" {
		m.ChannelType = found
	}
}

// setText reads the text in m.ChannelValue as a number or a boolean where it is one, and returns its type.
//
// A number is what people write as one: an optional sign, digits with at most one point, an optional exponent, blanks
// around it; so "+3", "007", ".5" and "1e5" are numbers and "0x1F", "1_000", "NaN", "Inf", "21.5 °C" and "1,234.5" are
// not. A decimal comma is read where the device type is configured to have one, and nowhere else.
func (u *unit) setText(m *Message) string {
	text := strings.TrimSpace(alias(m.ChannelValue))
	if text == "" {
		return typeText
	}
	switch c := text[0]; {
	case c >= '0' && c <= '9' || c == '+' || c == '-' || c == '.':
		if isNumber(text) {
			m.setNumber(text)
			return typeNumber
		}
		return u.setDecimalComma(m, text)
	case c == 't' || c == 'f' || c == 'T' || c == 'F':
		if strings.EqualFold(text, "true") {
			m.Value, m.HasValue = 1, true
			return typeBoolean
		}
		if strings.EqualFold(text, "false") {
			m.HasValue = true
			return typeBoolean
		}
	case c == '{' || c == '[':
		if m.ChannelType != "" { // it says itself what it is, and need not be read
			return m.ChannelType
		}
		if _, ok := u.parseJSON(m.ChannelValue); ok {
			return typeJSON
		}
	}
	return typeText
}

func (u *unit) setDecimalComma(m *Message, text string) string {
	var buf [64]byte
	number, ok := decimalPoint(buf[:0], text)
	if !ok {
		return typeText
	}
	if !u.d.opt.DecimalComma[m.DeviceType] {
		u.count(CountDecimalComma, m.DeviceID)
		return typeText
	}
	m.setNumber(string(number))
	return typeNumber
}

// setNumber sets Value if text is a number that a float64 holds; never an infinity.
func (m *Message) setNumber(text string) {
	v, err := strconv.ParseFloat(text, 64)
	if err == nil && !math.IsInf(v, 0) && !math.IsNaN(v) {
		m.Value, m.HasValue = v, true
	}
}

// isNumber reports whether text is a decimal number; see setText.
func isNumber(text string) bool {
	at := 0
	if text[0] == '+' || text[0] == '-' {
		at = 1
	}
	whole := digitsEnd(text, at)
	end, digits := whole, whole-at
	if end < len(text) && text[end] == '.' {
		end = digitsEnd(text, whole+1)
		digits += end - whole - 1
	}
	if digits == 0 {
		return false
	}
	if end < len(text) && (text[end] == 'e' || text[end] == 'E') {
		at = end + 1
		if at < len(text) && (text[at] == '+' || text[at] == '-') {
			at++
		}
		if end = digitsEnd(text, at); end == at {
			return false
		}
	}
	return end == len(text)
}

// decimalPoint appends text, a number with a decimal comma, to dst with a point in its place and without the points that
// group the thousands. ok is false for anything else and for what is longer than dst's capacity.
func decimalPoint(dst []byte, text string) (number []byte, ok bool) {
	comma := strings.IndexByte(text, ',')
	if comma < 0 || len(text) > cap(dst) || digitsEnd(text, comma+1) != len(text) || comma+1 == len(text) {
		return nil, false
	}
	at := 0
	if text[0] == '+' || text[0] == '-' {
		dst = append(dst, text[0])
		at = 1
	}
	groups := strings.IndexByte(text[:comma], '.') >= 0
	for first := true; ; first = false {
		end := digitsEnd(text, at)
		n := end - at
		if n == 0 || groups && (n > 3 || !first && n != 3) {
			return nil, false
		}
		dst = append(dst, text[at:end]...)
		if end == comma {
			break
		}
		if text[end] != '.' {
			return nil, false
		}
		at = end + 1
	}
	return append(append(dst, '.'), text[comma+1:]...), true
}

// parseJSON reads text as one JSON value; where it is none, u.inner has the fault.
func (u *unit) parseJSON(text []byte) (jsonValue, bool) {
	r := &u.inner
	r.b, r.keys = text, r.keys[:0]
	v, end, ok := r.value(r.space(0), 0)
	if ok && r.space(end) != len(text) {
		return v, r.fail(end, "trailing data behind the value")
	}
	return v, ok
}

// stringBytes returns the text of a JSON string.
func (u *unit) stringBytes(v jsonValue) []byte {
	inside := v.raw[1 : len(v.raw)-1 : len(v.raw)-1]
	if v.escaped {
		return u.arena.unescape(inside)
	}
	return inside
}
