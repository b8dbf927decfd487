package telemetry

import "unicode/utf8"

// arenaChunk is how much memory an arena takes at once, in bytes.
const arenaChunk = 4096

// arena gives out memory for the few parts of a message that its body does not hold as they are: strings with escapes,
// attributes, message ids. What it has given it never takes back, so messages of many bodies may lie in one chunk and the
// garbage collector frees it after the last of them.
type arena struct {
	chunk []byte // len is what is given out
}

// need makes sure that n bytes can be appended without moving.
func (a *arena) need(n int) {
	if cap(a.chunk)-len(a.chunk) < n {
		a.chunk = make([]byte, 0, max(n, arenaChunk))
	}
}

// since returns what was appended from mark on.
func (a *arena) since(mark int) []byte { return a.chunk[mark:len(a.chunk):len(a.chunk)] }

// unescape returns the inside of a JSON string that str has accepted with its escapes resolved.
func (a *arena) unescape(in []byte) []byte {
	a.need(len(in)) // no escape is shorter than what it stands for
	mark := len(a.chunk)
	for len(in) > 0 {
		n := plain(in)
		a.chunk = append(a.chunk, in[:n]...)
		if in = in[n:]; len(in) < 2 {
			break
		}
		switch in[1] {
		case 'u':
			c, size := unicodeEscape(in)
			a.chunk = utf8.AppendRune(a.chunk, c)
			in = in[max(size, 1):]
			continue
		case 'b':
			a.chunk = append(a.chunk, '\b')
		case 'f':
			a.chunk = append(a.chunk, '\f')
		case 'n':
			a.chunk = append(a.chunk, '\n')
		case 'r':
			a.chunk = append(a.chunk, '\r')
		case 't':
			a.chunk = append(a.chunk, '\t')
		default:
			a.chunk = append(a.chunk, in[1])
		}
		in = in[2:]
	}
	return a.since(mark)
}
