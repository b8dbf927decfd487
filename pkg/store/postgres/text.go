package postgres

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
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

// cleanJSON returns a JSON object as jsonb takes it, nil where b is empty. What a JSON text may escape and jsonb refuses, NUL and
// halves of surrogate pairs, becomes U+2400 and U+FFFD.
func cleanJSON(b []byte) (*string, error) {
	if len(b) == 0 {
		return nil, nil //nolint:nilnil // no detail is no error
	}
	if !bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("{")) || !json.Valid(b) {
		return nil, fmt.Errorf("%w, found %.80q", errDetail, b)
	}
	if !bytes.Contains(b, []byte(`\u`)) && utf8.Valid(b) {
		text := string(b)
		return &text, nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("%w: %w", errDetail, err)
	}
	var clean bytes.Buffer
	e := json.NewEncoder(&clean)
	e.SetEscapeHTML(false) // would make \u of what needs none
	if err := e.Encode(cleanValue(v)); err != nil {
		return nil, fmt.Errorf("%w: %w", errDetail, err)
	}
	text := strings.TrimSuffix(clean.String(), "\n")
	return &text, nil
}

// cleanValue cleans the texts of a decoded JSON value, in which the decoder has left no byte that is no UTF-8.
func cleanValue(v any) any {
	switch v := v.(type) {
	case string:
		return cleanText(v)
	case []any:
		for i := range v {
			v[i] = cleanValue(v[i])
		}
	case map[string]any:
		clean := make(map[string]any, len(v))
		for key, member := range v {
			clean[cleanText(key)] = cleanValue(member)
		}
		return clean
	}
	return v
}
