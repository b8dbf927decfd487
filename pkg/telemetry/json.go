package telemetry

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonKind is the sort of a JSON value.
type jsonKind uint8

const (
	jsonNone jsonKind = iota
	jsonNull
	jsonTrue
	jsonFalse
	jsonNumber
	jsonString
	jsonObject
	jsonArray
)

// String returns the kind with its article, for messages such as "DeviceId: a number, want a string".
func (k jsonKind) String() string {
	switch k {
	case jsonNull:
		return "null"
	case jsonTrue, jsonFalse:
		return "a boolean"
	case jsonNumber:
		return "a number"
	case jsonString:
		return "a string"
	case jsonObject:
		return "an object"
	case jsonArray:
		return "an array"
	case jsonNone:
	}
	return "nothing"
}

// jsonValue is one value as it stands in the text.
type jsonValue struct {
	raw     []byte // the token, verbatim; a string with its quotes
	kind    jsonKind
	escaped bool // a string with at least one backslash
}

// jsonMember is one member of an object.
type jsonMember struct {
	key    string // decoded
	rawKey []byte // verbatim, with its quotes
	jsonValue
	field field // which of the known fields it is, see fields
}

// jsonReader is a strict reader of JSON (RFC 8259) over bytes that are known to be UTF-8. It refuses what others let pass:
// a key twice in one object, nesting beyond depthMax, NaN, half a surrogate pair, a line break within a string. It copies
// nothing except keys with an escape. One goroutine.
type jsonReader struct {
	b        []byte
	depthMax int
	arena    *arena
	members  []jsonMember // of the object that object read last
	keys     []string     // of the objects under way, a stack
	errAt    int
	errText  string
}

// keysFew is the number of keys up to which a duplicate is looked for by comparing; above it a map does it, so that no
// body makes the reader slow.
const keysFew = 16

// release lets go of the text and keeps what memory is worth keeping.
func (r *jsonReader) release() {
	const kept = 64
	if cap(r.members) > kept {
		r.members = nil
	}
	if cap(r.keys) > kept {
		r.keys = nil
	}
	clear(r.members[:cap(r.members)])
	clear(r.keys[:cap(r.keys)])
	r.b, r.members, r.keys, r.errText = nil, r.members[:0], r.keys[:0], ""
}

// object reads the object that begins at b[at], which must be '{', into r.members and returns where it ends. depth is the
// number of containers around it.
func (r *jsonReader) object(at, depth int) (end int, ok bool) {
	r.members = r.members[:0]
	r.keys = r.keys[:0]
	return r.readObject(at, depth+1, true)
}

// value reads any value that begins at b[at].
func (r *jsonReader) value(at, depth int) (v jsonValue, end int, ok bool) {
	if at >= len(r.b) {
		return v, at, r.fail(at, "want a value")
	}
	switch c := r.b[at]; {
	case c == '"':
		v.kind = jsonString
		end, v.escaped, ok = r.str(at)
	case c == '{':
		v.kind = jsonObject
		end, ok = r.readObject(at, depth+1, false)
	case c == '[':
		v.kind = jsonArray
		end, ok = r.readArray(at, depth+1)
	case c == '-' || c >= '0' && c <= '9':
		v.kind = jsonNumber
		end, ok = r.number(at)
	default:
		v.kind, end, ok = r.word(at)
	}
	if ok {
		v.raw = r.b[at:end:end]
	}
	return v, end, ok
}

func (r *jsonReader) readObject(at, depth int, collect bool) (int, bool) {
	if depth > r.depthMax {
		return at, r.fail(at, "nested deeper than %d", r.depthMax)
	}
	set := keySet{base: len(r.keys)}
	at = r.space(at + 1)
	if at < len(r.b) && r.b[at] == '}' {
		return at + 1, true
	}
	for {
		m, next, ok := r.member(at, depth, &set)
		if !ok {
			return next, false
		}
		if collect {
			r.members = append(r.members, m)
		}
		at = r.space(next)
		switch {
		case at < len(r.b) && r.b[at] == ',':
			at = r.space(at + 1)
		case at < len(r.b) && r.b[at] == '}':
			r.keys = r.keys[:set.base]
			return at + 1, true
		default:
			return at, r.fail(at, "want a comma or the end of the object")
		}
	}
}

func (r *jsonReader) member(at, depth int, set *keySet) (m jsonMember, end int, ok bool) {
	if at >= len(r.b) || r.b[at] != '"' {
		return m, at, r.fail(at, "want a key in quotes")
	}
	keyEnd, escaped, ok := r.str(at)
	if !ok {
		return m, keyEnd, false
	}
	m.rawKey = r.b[at:keyEnd:keyEnd]
	m.key = alias(r.b[at+1 : keyEnd-1])
	if escaped {
		m.key = alias(r.arena.unescape(r.b[at+1 : keyEnd-1]))
	}
	if !r.addKey(set, m.key) {
		return m, at, r.fail(at, "the key %s stands twice in one object", quoted(m.key))
	}
	at = r.space(keyEnd)
	if at >= len(r.b) || r.b[at] != ':' {
		return m, at, r.fail(at, "want a colon")
	}
	m.jsonValue, end, ok = r.value(r.space(at+1), depth)
	return m, end, ok
}

func (r *jsonReader) readArray(at, depth int) (int, bool) {
	if depth > r.depthMax {
		return at, r.fail(at, "nested deeper than %d", r.depthMax)
	}
	at = r.space(at + 1)
	if at < len(r.b) && r.b[at] == ']' {
		return at + 1, true
	}
	for {
		_, next, ok := r.value(at, depth)
		if !ok {
			return next, false
		}
		at = r.space(next)
		switch {
		case at < len(r.b) && r.b[at] == ',':
			at = r.space(at + 1)
		case at < len(r.b) && r.b[at] == ']':
			return at + 1, true
		default:
			return at, r.fail(at, "want a comma or the end of the array")
		}
	}
}

// keySet is the keys of one object: those from base on in jsonReader.keys, and once they are many the map.
type keySet struct {
	base int
	many map[string]struct{}
}

// addKey reports false if key is in the set already.
func (r *jsonReader) addKey(set *keySet, key string) bool {
	if set.many != nil {
		n := len(set.many)
		set.many[key] = struct{}{}
		return len(set.many) > n
	}
	if slices.Contains(r.keys[set.base:], key) {
		return false
	}
	r.keys = append(r.keys, key)
	if len(r.keys)-set.base > keysFew {
		set.many = make(map[string]struct{}, 4*keysFew)
		for _, k := range r.keys[set.base:] {
			set.many[k] = struct{}{}
		}
	}
	return true
}

// space returns the first place from at on that is no white space.
func (r *jsonReader) space(at int) int {
	for at < len(r.b) {
		switch r.b[at] {
		case ' ', '\n', '\t', '\r':
			at++
		default:
			return at
		}
	}
	return at
}

func (r *jsonReader) word(at int) (jsonKind, int, bool) {
	for _, w := range [...]struct {
		text string
		kind jsonKind
	}{{"true", jsonTrue}, {"false", jsonFalse}, {"null", jsonNull}} {
		if end := at + len(w.text); end <= len(r.b) && string(r.b[at:end]) == w.text {
			return w.kind, end, true
		}
	}
	return jsonNone, at, r.fail(at, "want a value")
}

func (r *jsonReader) number(at int) (int, bool) {
	start := at
	if r.b[at] == '-' {
		at++
	}
	from := at
	at = digitsEnd(r.b, at)
	if at == from || at > from+1 && r.b[from] == '0' {
		return at, r.fail(start, "not a number as JSON has it")
	}
	if at < len(r.b) && r.b[at] == '.' {
		from = at + 1
		if at = digitsEnd(r.b, from); at == from {
			return at, r.fail(start, "not a number as JSON has it")
		}
	}
	if at < len(r.b) && (r.b[at] == 'e' || r.b[at] == 'E') {
		from = at + 1
		if from < len(r.b) && (r.b[from] == '+' || r.b[from] == '-') {
			from++
		}
		if at = digitsEnd(r.b, from); at == from {
			return at, r.fail(start, "not a number as JSON has it")
		}
	}
	return at, true
}

func digitsEnd[T string | []byte](b T, at int) int {
	for at < len(b) && b[at] >= '0' && b[at] <= '9' {
		at++
	}
	return at
}

// str reads the string whose opening quote is b[at].
func (r *jsonReader) str(at int) (end int, escaped, ok bool) {
	start := at
	at++
	for {
		at += plain(r.b[at:])
		if at >= len(r.b) {
			return at, escaped, r.fail(start, "the string does not end")
		}
		switch r.b[at] {
		case '"':
			return at + 1, escaped, true
		case '\\':
			n := escapeSize(r.b[at:])
			if n == 0 {
				return at, escaped, r.fail(at, "not an escape as JSON has it")
			}
			escaped = true
			at += n
		default:
			return at, escaped, r.fail(at, "a control character in a string, want an escape")
		}
	}
}

// plain returns how many bytes of a string's inside come before a quote, a backslash, a control character or the end.
// Eight bytes at a time: most bodies are mostly strings, and this halves the time of the whole decoding.
func plain(b []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	at := 0
	for ; at+8 <= len(b); at += 8 {
		x := binary.LittleEndian.Uint64(b[at:])
		quote, slash := x^('"'*ones), x^('\\'*ones)
		hit := ((x-0x20*ones)&^x | (quote-ones)&^quote | (slash-ones)&^slash) & highs
		if hit != 0 { // the lowest hit is exact, those above may come from a borrow
			return at + bits.TrailingZeros64(hit)/8
		}
	}
	for ; at < len(b); at++ {
		if c := b[at]; c == '"' || c == '\\' || c < 0x20 {
			break
		}
	}
	return at
}

// escapeSize returns the length of the escape at the beginning of b, 0 if it is none. A surrogate pair is one escape; half
// of one is none.
func escapeSize(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		_, n := unicodeEscape(b)
		return n
	}
	return 0
}

// unicodeEscape reads \uXXXX or a pair of them; n is 0 if there is none.
func unicodeEscape(b []byte) (c rune, n int) {
	first, ok := hex4(b)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(first) {
		return first, 6
	}
	second, ok := hex4(b[6:])
	if !ok {
		return 0, 0
	}
	if c = utf16.DecodeRune(first, second); c == utf8.RuneError {
		return 0, 0
	}
	return c, 12
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	var c rune
	for _, d := range b[2:6] {
		v, ok := hexDigit(d)
		if !ok {
			return 0, false
		}
		c = c<<4 | rune(v)
	}
	return c, true
}

func hexDigit(d byte) (byte, bool) {
	switch {
	case d >= '0' && d <= '9':
		return d - '0', true
	case d >= 'a' && d <= 'f':
		return d - 'a' + 10, true
	case d >= 'A' && d <= 'F':
		return d - 'A' + 10, true
	}
	return 0, false
}

// fail notes the first fault and returns false.
func (r *jsonReader) fail(at int, format string, args ...any) bool {
	r.errAt = at
	r.errText = format
	if len(args) > 0 {
		r.errText = fmt.Sprintf(format, args...)
	}
	return false
}

// err returns the fault that was found, with its place counted in bytes from start, which is where the record begins.
func (r *jsonReader) err(start int) error {
	return fmt.Errorf("not valid JSON at byte %d: %s%s", r.errAt-start, r.errText, found(r.b, r.errAt))
}

// found quotes what stands where something else was wanted.
func found(b []byte, at int) string {
	if at >= len(b) {
		return " (the text ends there)"
	}
	text := b[at:min(at+12, len(b))]
	if n := bytes.IndexByte(text, '\n'); n > 0 {
		text = text[:n]
	}
	return fmt.Sprintf(" (found %s)", quoted(string(text)))
}
