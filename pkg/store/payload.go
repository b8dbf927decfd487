package store

import "unicode/utf8"

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
