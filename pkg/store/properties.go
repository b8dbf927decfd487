package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/millrace/millrace/pkg/telemetry"
)

var errProperties = errors.New("properties: want one JSON object")

// AppendProperties appends to dst what the column properties holds: the properties as a JSON object in their order. A key
// that came several times, as MQTT 5 allows, has an array of its values. No properties append nothing (the column is null).
func AppendProperties(dst []byte, props []telemetry.Property) []byte {
	if len(props) == 0 {
		return dst
	}
	dst = append(dst, '{')
	for i, p := range props {
		if repeated(props[:i], p.Key) {
			continue // its first occurrence has written them all
		}
		if dst[len(dst)-1] != '{' {
			dst = append(dst, ',')
		}
		dst = append(AppendJSONString(dst, p.Key), ':')
		if !repeated(props[i+1:], p.Key) {
			dst = AppendJSONString(dst, p.Value)
			continue
		}
		dst = append(dst, '[')
		for _, q := range props[i:] {
			if q.Key != p.Key {
				continue
			}
			if dst[len(dst)-1] != '[' {
				dst = append(dst, ',')
			}
			dst = AppendJSONString(dst, q.Value)
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

func repeated(props []telemetry.Property, key string) bool {
	for i := range props {
		if props[i].Key == key {
			return true
		}
	}
	return false
}

// AppendJSONString appends s as a JSON string. Bytes that are no UTF-8 become U+FFFD.
func AppendJSONString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, r := range s { // invalid bytes come as U+FFFD
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			dst = append(dst, string(r)...)
		}
	}
	return append(dst, '"')
}

// ParseProperties appends to dst the properties that AppendProperties wrote; empty text is none.
func ParseProperties(dst []telemetry.Property, text []byte) ([]telemetry.Property, error) {
	if len(text) == 0 {
		return dst, nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return dst, errProperties
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return dst, fmt.Errorf("properties: %w", err)
		}
		var v any
		if err := d.Decode(&v); err != nil {
			return dst, fmt.Errorf("properties: %v: %w", key, err)
		}
		dst, err = appendValues(dst, fmt.Sprint(key), v)
		if err != nil {
			return dst, err
		}
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return dst, fmt.Errorf("properties: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return dst, errProperties
	}
	return dst, nil
}

func appendValues(dst []telemetry.Property, key string, v any) ([]telemetry.Property, error) {
	values, many := v.([]any)
	if !many {
		values = []any{v}
	}
	for _, e := range values {
		s, ok := e.(string)
		if !ok {
			return dst, fmt.Errorf("properties: %s: %v, want a string", key, e)
		}
		dst = append(dst, telemetry.Property{Key: key, Value: s})
	}
	return dst, nil
}
