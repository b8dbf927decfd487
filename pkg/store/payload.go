package store

import (
	"fmt"
	"strconv"
	"unicode/utf8"
)

// PayloadText returns what the column payload of dead_letters holds: the payload as it is where it is UTF-8 without control characters
// other than white space; else, escaped, with each other byte as \xNN and each backslash doubled. The exact bytes then belong
// into payload_bytes, which is null otherwise.
func PayloadText(payload []byte) (text string, escaped bool) {
	if isText(payload) {
		return string(payload), false
	}
	const hex = "0123456789ABCDEF"
	out := make([]byte, 0, 2*len(payload))
	for _, b := range payload {
		switch {
		case b == '\\':
			out = append(out, '\\', '\\')
		case b >= ' ' && b < 0x7f, b == '\n', b == '\t', b == '\r':
			out = append(out, b)
		default:
			out = append(out, '\\', 'x', hex[b>>4], hex[b&15])
		}
	}
	return string(out), true
}

// PayloadBytes is the inverse of PayloadText.
func PayloadBytes(text string, escaped bool) ([]byte, error) {
	if !escaped {
		return []byte(text), nil
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] != '\\':
			out = append(out, text[i])
		case i+1 < len(text) && text[i+1] == '\\':
			out = append(out, '\\')
			i++
		case i+3 < len(text) && text[i+1] == 'x':
			b, err := strconv.ParseUint(text[i+2:i+4], 16, 8)
			if err != nil {
				return nil, fmt.Errorf("payload: byte %d: %q is no escaped byte", i, text[i:i+4])
			}
			out = append(out, byte(b))
			i += 3
		default:
			return nil, fmt.Errorf("payload: byte %d: a backslash, want \\\\ or \\xNN", i)
		}
	}
	return out, nil
}

func isText(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	for _, c := range b {
		if c < ' ' && c != '\n' && c != '\t' && c != '\r' {
			return false
		}
	}
	return true
}
