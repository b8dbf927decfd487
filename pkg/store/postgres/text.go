package postgres

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// nulShown stands for the character NUL, which PostgreSQL cannot keep in a text: an alarm whose value has one is still an alarm.
const nulShown = "\u2400"

var errDetail = errors.New("detail: want one JSON object")

// cleanText returns s as PostgreSQL takes it: bytes that are no UTF-8 as U+FFFD, and NUL as U+2400.
func cleanText(s string) string {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return strings.ReplaceAll(s, "\x00", nulShown)
}

// cleanJSON returns a JSON object as jsonb takes it, nil where b is empty: as it was written, but for what a JSON text may escape and
// jsonb refuses: NUL becomes U+2400, and half of a surrogate pair U+FFFD.
func cleanJSON(b []byte) (*string, error) {
	if len(b) == 0 {
		return nil, nil //nolint:nilnil // no detail is no error
	}
	if !bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("{")) || !json.Valid(b) {
		return nil, fmt.Errorf("%w, found %.80q", errDetail, b)
	}
	text := strings.ToValidUTF8(string(b), "\uFFFD")
	if strings.Contains(text, `\u`) {
		text = cleanEscapes(text)
	}
	return &text, nil
}

// cleanEscapes replaces the escapes of a valid JSON text that jsonb refuses.
func cleanEscapes(text string) string {
	const escape = len(`\u0000`)
	var clean strings.Builder
	for text != "" {
		at := strings.IndexByte(text, '\\')
		if at < 0 || at+1 == len(text) {
			break
		}
		clean.WriteString(text[:at])
		text = text[at:]
		take := len(`\n`)
		if code, ok := escaped(text); ok {
			take = escape
			low, pair := escaped(text[escape:])
			switch {
			case code == 0:
				clean.WriteString(`\u2400`)
				text = text[escape:]
				continue
			case utf16.IsSurrogate(code) && pair && utf16.DecodeRune(code, low) != utf8.RuneError:
				take = 2 * escape
			case utf16.IsSurrogate(code):
				clean.WriteString(`\ufffd`)
				text = text[escape:]
				continue
			}
		}
		clean.WriteString(text[:take])
		text = text[take:]
	}
	clean.WriteString(text)
	return clean.String()
}

// escaped reads \uXXXX at the start of text.
func escaped(text string) (rune, bool) {
	if len(text) < 6 || text[:2] != `\u` {
		return 0, false
	}
	n, err := strconv.ParseUint(text[2:6], 16, 16)
	return rune(n), err == nil
}
