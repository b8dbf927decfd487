package config

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

var (
	errDuration = errors.New("want a duration such as 30s, 5m or 7d")
	errBytes    = errors.New("want a size such as 256KiB")
)

// ParseDuration reads what time.ParseDuration reads and, in front of it, days of 24 hours: "7d", "1d12h", "0.5d".
func ParseDuration(text string) (time.Duration, error) {
	whole, rest, found := strings.Cut(text, "d")
	if !found {
		d, err := time.ParseDuration(text)
		if err != nil {
			return 0, errDuration
		}
		return d, nil
	}
	days, err := parseDecimal(strings.TrimPrefix(whole, "-"))
	if err != nil || days > float64(math.MaxInt64/day) {
		return 0, errDuration
	}
	d := time.Duration(days * float64(day))
	if rest != "" {
		more, err := time.ParseDuration(rest)
		if err != nil || strings.ContainsAny(rest, "+-") || d > math.MaxInt64-more {
			return 0, errDuration
		}
		d += more
	}
	if strings.HasPrefix(whole, "-") {
		d = -d
	}
	return d, nil
}

// FormatDuration writes d as ParseDuration reads it, in the shortest way: "7d", "1m30s", "5m" and not "5m0s".
func FormatDuration(d time.Duration) string {
	if d != 0 && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Bytes is a size in bytes, written as a plain number or with a unit: B, kB, MB, GB, TB (powers of 1000), KiB, MiB,
// GiB, TiB (powers of 1024). Upper and lower case are one; a fraction such as 1.5GiB is taken; less than 0 is not.
type Bytes int64

// byteUnits are in the order in which String tries them.
func byteUnits() []struct {
	name string
	size Bytes
} {
	return []struct {
		name string
		size Bytes
	}{
		{"TiB", 1 << 40},
		{"GiB", 1 << 30},
		{"MiB", 1 << 20},
		{"KiB", 1 << 10},
		{"TB", 1e12},
		{"GB", 1e9},
		{"MB", 1e6},
		{"kB", 1e3},
		{"B", 1},
	}
}

// ParseBytes reads a size as described at Bytes.
func ParseBytes(text string) (Bytes, error) {
	number := strings.TrimRight(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
	name := text[len(number):]
	factor := Bytes(0)
	for _, unit := range byteUnits() {
		if strings.EqualFold(name, unit.name) {
			factor = unit.size
		}
	}
	if name == "" {
		factor = 1
	}
	number = strings.TrimSpace(number)
	if whole, err := strconv.ParseInt(number, 10, 64); err == nil && factor > 0 && whole >= 0 &&
		whole <= math.MaxInt64/int64(factor) {
		return Bytes(whole) * factor, nil
	}
	value, err := parseDecimal(number)
	if err != nil || factor <= 1 || value*float64(factor) >= math.MaxInt64 {
		return 0, errBytes
	}
	return Bytes(value * float64(factor)), nil
}

// parseDecimal reads digits with at most one point: no sign, no exponent, no NaN.
func parseDecimal(text string) (float64, error) {
	if strings.Trim(text, "0123456789.") != "" {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseFloat(text, 64)
}

// String writes the size with the largest unit that divides it.
func (b Bytes) String() string {
	for _, unit := range byteUnits() {
		if b != 0 && b%unit.size == 0 {
			return strconv.FormatInt(int64(b/unit.size), 10) + unit.name
		}
	}
	return "0B"
}

// MarshalText writes what String does.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads what ParseBytes does.
func (b *Bytes) UnmarshalText(text []byte) error {
	size, err := ParseBytes(string(text))
	if err == nil {
		*b = size
	}
	return err
}

// ConfigType names the type in the documentation.
func (Bytes) ConfigType() string { return "size" }
