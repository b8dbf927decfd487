package live

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/pkg/config"
	"github.com/millrace/millrace/pkg/telemetry"
)

const (
	paramBytesMax  = 1024
	cursorBytesMax = 4096
	limitDefault   = 100
)

// params reads the parameters of a query, each once, and gathers what is wrong with them.
type params struct {
	values url.Values
	now    time.Time
	known  []string
	errs   []error
}

// query returns the parameters of a request.
func (l *Live) query(r *http.Request) *params {
	p := &params{now: l.deps.Now()}
	var err error
	if p.values, err = url.ParseQuery(r.URL.RawQuery); err != nil {
		p.errs = append(p.errs, fmt.Errorf("the query cannot be read: %w", err))
	}
	return p
}

// done returns what is wrong, all of it, as one answer; also a parameter that nobody has asked for.
func (p *params) done() error {
	for name := range p.values {
		if !slices.Contains(p.known, name) {
			p.fault(name, strings.TrimSuffix("unknown, want one of "+strings.Join(p.known, ", "), ", want one of "))
		}
	}
	if len(p.errs) == 0 {
		return nil
	}
	slices.SortFunc(p.errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return badRequest(strings.ReplaceAll(errors.Join(p.errs...).Error(), "\n", "; "))
}

func (p *params) fault(name, text string) {
	p.errs = append(p.errs, fmt.Errorf("%.100q: %s", name, text))
}

// text returns a parameter, "" where it is not there.
func (p *params) text(name string) string {
	p.known = append(p.known, name)
	values := p.values[name]
	if len(values) == 0 {
		return ""
	}
	switch v := values[0]; {
	case len(values) > 1:
		p.fault(name, "given more than once")
	case len(v) > paramBytesMax && name != "cursor" && name != "after":
		p.fault(name, fmt.Sprintf("%d bytes, want at most %d", len(v), paramBytesMax))
	case !utf8.ValidString(v):
		p.fault(name, "not UTF-8")
	default:
		return v
	}
	return ""
}

// oneOf returns a parameter that may have these values only, whatever the case of its letters; "" where it is not there.
func (p *params) oneOf(name string, want ...string) string {
	v := strings.ToLower(p.text(name))
	if v != "" && !slices.Contains(want, v) {
		p.fault(name, fmt.Sprintf("%.100q, want %s", v, strings.Join(want, ", ")))
		return ""
	}
	return v
}

// many returns the parts of a parameter that commas part.
func (p *params) many(name string) []string {
	v := p.text(name)
	if v == "" {
		return nil
	}
	return strings.Split(v, ",")
}

// time returns a moment: ISO 8601, an epoch, now, or a duration back from now such as -15m.
func (p *params) time(name string) (telemetry.Time, bool) {
	v := p.text(name)
	if v == "" {
		return 0, false
	}
	if v == "now" {
		return telemetry.At(p.now), true
	}
	if ago, ok := strings.CutPrefix(v, "-"); ok {
		if d, err := config.ParseDuration(ago); err == nil && d >= 0 {
			return telemetry.At(p.now.Add(-d)), true
		}
	}
	t, err := telemetry.ParseTime(v, nil)
	if err != nil {
		p.fault(name, fmt.Sprintf("%.100q, want RFC 3339 such as 2026-01-31T12:00:00Z (write + as %%2B), an epoch, now, or a time back from it such as -15m", v))
		return 0, false
	}
	return t, true
}

// limit returns how many rows are wanted.
func (p *params) limit(most int) int {
	v := p.text("limit")
	if v == "" {
		return min(limitDefault, most)
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > most {
		p.fault("limit", fmt.Sprintf("%.100q, want 1 to %d", v, most))
		return 1
	}
	return n
}

// window returns a length of time in nanoseconds: 10s, 1m, or seconds as a number.
func (p *params) window(name string) (int64, bool) {
	v := p.text(name)
	if v == "" {
		return 0, false
	}
	if seconds, err := strconv.ParseFloat(v, 64); err == nil && seconds > 0 && seconds < 1e9 {
		return int64(seconds * float64(time.Second)), true
	}
	d, err := config.ParseDuration(v)
	if err != nil || d <= 0 {
		p.fault(name, fmt.Sprintf("%.100q, want a duration such as 10s, 1m or 1h, or a number of seconds", v))
		return 0, false
	}
	return int64(d), true
}

// cursor returns the keys of the row after which to go on, one of each kind; ok is false where there is no cursor.
func (p *params) cursor(kinds []kind) (keys []any, ok bool) {
	v := p.text("cursor")
	if v == "" {
		return nil, false
	}
	keys, err := parseCursor(v, kinds)
	if err != nil {
		p.fault("cursor", "not one that an earlier answer of this resource gave")
		return nil, false
	}
	return keys, true
}

var errCursor = errors.New("not a cursor")

func parseCursor(text string, kinds []kind) ([]any, error) {
	if len(text) > cursorBytesMax {
		return nil, errCursor
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, errCursor
	}
	var parts []string
	if err := json.Unmarshal(b, &parts); err != nil || len(parts) != len(kinds) {
		return nil, errCursor
	}
	keys := make([]any, len(parts))
	for i, part := range parts {
		key, err := parseKey(part, kinds[i])
		if err != nil {
			return nil, errCursor
		}
		keys[i] = key
	}
	return keys, nil
}

// identityText marks the key of a kind identity that is a text; one that is a number stands as it is.
const identityText = "="

func parseKey(part string, k kind) (any, error) {
	if k == identity {
		if text, ok := strings.CutPrefix(part, identityText); ok {
			return text, nil
		}
		k = whole
	}
	switch k {
	case moment:
		n, err := strconv.ParseInt(part, 10, 64)
		return telemetry.Time(n), err
	case whole:
		return strconv.ParseInt(part, 10, 64)
	case plain, embedded, number, identity:
	}
	return part, nil
}

// makeCursor writes the keys of a row, as they come from the store. A cursor holds nothing else: any replica takes it.
func makeCursor(keys []any, columns []column) string {
	parts := make([]string, len(keys))
	for i, k := range keys {
		switch k := k.(type) {
		case time.Time:
			parts[i] = strconv.FormatInt(k.UnixNano(), 10)
		case string:
			parts[i] = k
			if columns[i].kind == identity {
				parts[i] = identityText + k
			}
		default:
			parts[i] = fmt.Sprint(k)
		}
	}
	b, err := json.Marshal(parts)
	if err != nil {
		return "" // not reached: strings always marshal
	}
	return base64.RawURLEncoding.EncodeToString(b)
}
