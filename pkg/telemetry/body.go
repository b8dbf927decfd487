package telemetry

import (
	"bytes"
	"errors"
	"fmt"
)

// ErrRecordTooLarge is wrapped in the refusal of a record beyond Options.RecordBytesMax.
var ErrRecordTooLarge = errors.New("the message is too large")

var (
	errUTF8     = errors.New("not valid UTF-8")
	errUnread   = errors.New("of no format that is known")
	errEmpty    = errors.New("empty, want a JSON object, an array or NDJSON")
	errTrailing = errors.New("trailing data behind the JSON text, want a line break")
)

// decodeBody walks over the texts of a body.
func (u *unit) decodeBody() {
	if u.in.ChannelKey != "" {
		u.raw = u.in.Body
		u.decode(u.in.Body)
		return
	}
	b := u.in.Body
	at := 0
	if bytes.HasPrefix(b, []byte("\uFEFF")) { // .NET writes it before anything
		at = 3
	}
	for {
		next := u.scan.space(at)
		u.line += bytes.Count(b[at:next], []byte{'\n'})
		at = next
		if at == len(b) {
			break
		}
		if u.refuseRest(at) {
			break
		}
		end := u.decodeText(at)
		u.line += bytes.Count(b[at:end], []byte{'\n'})
		at = end
	}
	if u.index == 0 {
		u.refuse(b, errEmpty)
	}
}

// refuseRest refuses everything from at on where a limit of the body is reached.
func (u *unit) refuseRest(at int) bool {
	switch {
	case len(u.out)-u.first >= u.d.opt.MessagesMax:
		u.refuse(u.in.Body[at:], fmt.Errorf("more than %d messages in one body", u.d.opt.MessagesMax))
		return true
	case len(u.bad) >= RefusedMax:
		u.refuse(u.in.Body[at:], fmt.Errorf("%d records were refused before: the rest of the body was not read", RefusedMax))
		return true
	}
	return false
}

// decodeText decodes the object or array that begins at b[at] and returns where to go on.
//
// A text may span lines, so a body that is pretty-printed is one message. One that cannot be read is refused up to the next
// line that begins a text, so that a broken line of NDJSON costs no other line.
func (u *unit) decodeText(at int) int {
	b := u.in.Body
	switch b[at] {
	case '{':
		end, ok := u.scan.object(at, 0)
		if !ok {
			err := u.scan.err(at)
			end = u.nextText(at)
			u.refuse(b[at:end], err)
			return end
		}
		if !u.lineEnds(end) {
			end = u.lineEnd(end)
			u.refuse(b[at:end], errTrailing)
			return end
		}
		u.inPack = u.senml // a stream of SenML records
		u.record(b[at:end:end])
		return end
	case '[':
		return u.decodeArray(at)
	}
	end := u.lineEnd(at)
	u.refuse(b[at:end], fmt.Errorf("want a JSON object or an array%s", found(b, at)))
	return end
}

// lineEnds reports whether nothing but blanks is left of the line at b[at].
func (u *unit) lineEnds(at int) bool {
	b := u.in.Body
	for ; at < len(b); at++ {
		switch b[at] {
		case '\n':
			return true
		case ' ', '\t', '\r':
		default:
			return false
		}
	}
	return true
}

func (u *unit) lineEnd(at int) int {
	if n := bytes.IndexByte(u.in.Body[at:], '\n'); n >= 0 {
		return at + n
	}
	return len(u.in.Body)
}

// nextText returns the end of the line before the next one that begins a text; the end of the body where there is none.
// Where the content type says that every line is a record, the next line is one.
func (u *unit) nextText(at int) int {
	b := u.in.Body
	for {
		at = u.lineEnd(at)
		if at == len(b) || u.ndjson || at+1 < len(b) && (b[at+1] == '{' || b[at+1] == '[') {
			return at
		}
		at++
	}
}

// decodeArray decodes the elements of the array that begins at b[start], each as a record, and returns where it ends.
func (u *unit) decodeArray(start int) int {
	b := u.in.Body
	out, bad, index := len(u.out), len(u.bad), u.index
	u.beginPack(start)
	at := u.scan.space(start + 1)
	if at < len(b) && b[at] == ']' {
		u.refuse(b[start:at+1], errors.New("an empty array, want at least one object"))
		return at + 1
	}
	defer func() { u.element, u.inPack = -1, false }()
	for u.element = 0; ; u.element++ {
		if u.refuseRest(at) {
			return len(b)
		}
		end, ok := u.decodeElement(at)
		if !ok {
			return end
		}
		at = u.scan.space(end)
		if at < len(b) && b[at] == ',' {
			at = u.scan.space(at + 1)
			continue
		}
		if at >= len(b) || b[at] != ']' {
			u.refuse(b[end:], fmt.Errorf("not valid JSON: want a comma or the end of the array%s", found(b, at)))
			return len(b)
		}
		break
	}
	end := at + 1
	if !u.lineEnds(end) {
		u.out, u.bad, u.index, u.element = u.out[:out], u.bad[:bad], index, -1
		end = u.lineEnd(end)
		u.refuse(b[start:end], errTrailing)
	}
	return end
}

// decodeElement decodes one element of an array. After a fault it looks for the element's end by its brackets alone, so that
// the elements behind it are kept; ok is false where the array cannot be read on, and then end is the end of the body.
func (u *unit) decodeElement(at int) (end int, ok bool) {
	b := u.in.Body
	if at < len(b) && b[at] == '{' {
		if end, ok = u.scan.object(at, 1); ok {
			u.record(b[at:end:end])
			return end, true
		}
	} else {
		var v jsonValue
		if v, end, ok = u.scan.value(at, 1); ok {
			u.refuse(v.raw, fmt.Errorf("%s, want an object", v.kind))
			return end, true
		}
	}
	err := u.scan.err(at)
	end, ok = bracketEnd(b, at)
	if u.inPack { // what follows may stand on base values that could not be read
		end, ok = len(b), false
	}
	if !ok {
		end = len(b)
	}
	u.refuse(b[at:end], err)
	return end, ok
}

// bracketEnd returns where the element of an array that begins at b[at] ends, if brackets and quotes are closed.
func bracketEnd(b []byte, at int) (end int, ok bool) {
	depth, quoted := 0, false
	for ; at < len(b); at++ {
		c := b[at]
		switch {
		case quoted:
			switch c {
			case '\\':
				at++
			case '"':
				quoted = false
			}
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			depth++
		case depth == 0 && (c == ',' || c == ']'):
			return at, true
		case c == '}' || c == ']':
			depth--
		}
	}
	return at, false
}
