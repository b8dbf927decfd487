package telemetry

import (
	"errors"
	"strings"
	"time"
)

// The range of device times, years 1678 to 2261. A clock beyond it (.NET's DateTime.MinValue is the year 1) is set to the
// nearer end: it is not believed anyhow.
const (
	timeMin = Time(-9_214_560_000_000_000_000) // 1678-01-01
	timeMax = Time(9_214_646_400_000_000_000)  // 2262-01-01
)

// errTime says which forms of a time are read.
var errTime = errors.New("want ISO 8601 such as 2017-04-12T17:05:20.4808507Z, or an epoch in s, ms, µs or ns")

// ParseTime reads a time as devices write it:
//
//   - ISO 8601: date and time of day, apart by T or a blank, seconds optional, up to 9 fraction digits (further ones are
//     ignored), with an offset, Z, or none, which is zone (nil is UTC);
//   - an epoch of any size, with fraction and exponent, in the unit that its number of digits before the point suggests: up
//     to 11 seconds, up to 14 milliseconds, up to 17 microseconds, up to 19 nanoseconds.
//
// Both are exact to the nanosecond. A time outside of the years 1678 to 2261 becomes the nearer end of that range, and
// 1970-01-01 itself the nanosecond after it, since 0 means "not known".
func ParseTime(text string, zone *time.Location) (Time, error) {
	text = strings.TrimSpace(text)
	var t Time
	var ok bool
	if len(text) > 4 && text[4] == '-' {
		t, ok = parseISO(text, zone)
	} else {
		t, ok = parseEpoch(text)
	}
	if !ok {
		return 0, errTime
	}
	return known(t), nil
}

func known(t Time) Time {
	if t == 0 {
		return 1
	}
	return t
}

// isoTime is the parts of an ISO 8601 time.
type isoTime struct {
	year, month, day, hour, minute, second, nanos int
	offset                                        int // seconds east of UTC
	local                                         bool
}

func parseISO(s string, zone *time.Location) (Time, bool) {
	if len(s) < len("2017-04-12T17:05") || s[7] != '-' || s[13] != ':' {
		return 0, false
	}
	if sep := s[10]; sep != 'T' && sep != ' ' && sep != 't' {
		return 0, false
	}
	century, yy := two(s, 0), two(s, 2)
	d := isoTime{year: century*100 + yy, month: two(s, 5), day: two(s, 8), hour: two(s, 11), minute: two(s, 14)}
	if century|yy|d.month|d.day|d.hour|d.minute < 0 {
		return 0, false
	}
	rest, ok := d.parseSeconds(s[16:])
	if !ok || !d.parseOffset(rest) || !d.valid() {
		return 0, false
	}
	switch {
	case d.year < 1678:
		return timeMin, true
	case d.year > 2261:
		return timeMax, true
	case d.local && zone != nil && zone != time.UTC:
		return At(time.Date(d.year, time.Month(d.month), d.day, d.hour, d.minute, d.second, d.nanos, zone)), true
	}
	seconds := daysSinceEpoch(d.year, d.month, d.day)*86400 + d.hour*3600 + d.minute*60 + d.second - d.offset
	return min(max(Time(seconds)*1e9+Time(d.nanos), timeMin), timeMax), true
}

// two returns the number that the two digits at s[at] are, negative if they are none. s is long enough.
func two(s string, at int) int {
	a, b := s[at]-'0', s[at+1]-'0'
	if a > 9 || b > 9 {
		return -1
	}
	return int(a)*10 + int(b)
}

func (d *isoTime) parseSeconds(s string) (rest string, ok bool) {
	if s == "" || s[0] != ':' {
		return s, true
	}
	if len(s) < 3 {
		return s, false
	}
	if d.second = two(s, 1); d.second < 0 {
		return s, false
	}
	s = s[3:]
	if s == "" || s[0] != '.' && s[0] != ',' {
		return s, true
	}
	end := digitsEnd(s, 1)
	if end == 1 {
		return s, false
	}
	for i := 1; i <= 9; i++ {
		d.nanos *= 10
		if i < end {
			d.nanos += int(s[i] - '0')
		}
	}
	return s[end:], true
}

func (d *isoTime) parseOffset(s string) bool {
	if s == "" {
		d.local = true
		return true
	}
	if s == "Z" || s == "z" {
		return true
	}
	if s[0] == ' ' { // as in "2017-04-12 17:05:20 +0200"
		s = s[1:]
	}
	if len(s) < 3 || s[0] != '+' && s[0] != '-' {
		return false
	}
	hours, minutes := two(s, 1), 0
	switch rest := s[3:]; {
	case rest == "":
	case len(rest) == 2:
		minutes = two(rest, 0)
	case len(rest) == 3 && rest[0] == ':':
		minutes = two(rest, 1)
	default:
		return false
	}
	if hours < 0 || hours > 18 || minutes < 0 || minutes > 59 {
		return false
	}
	d.offset = hours*3600 + minutes*60
	if s[0] == '-' {
		d.offset = -d.offset
	}
	return true
}

// valid checks the ranges. A leap second (60) is the first second of the next minute.
func (d *isoTime) valid() bool {
	return d.month >= 1 && d.month <= 12 && d.day >= 1 && d.day <= daysIn(d.year, d.month) &&
		d.hour <= 23 && d.minute <= 59 && d.second <= 60
}

func daysIn(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// daysSinceEpoch counts from 1970-01-01 in the proleptic Gregorian calendar, for years from 1 on; a year begins in March
// here, so that the leap day is its last (Howard Hinnant, "chrono-compatible low-level date algorithms", days_from_civil).
func daysSinceEpoch(year, month, day int) int {
	if month <= 2 {
		year--
		month += 12
	}
	era := year / 400
	yearOfEra := year - era*400
	dayOfYear := (153*(month-3)+2)/5 + day - 1
	return era*146097 + yearOfEra*365 + yearOfEra/4 - yearOfEra/100 + dayOfYear - 719468
}

func parseEpoch(s string) (Time, bool) {
	d, ok := parseDecimal(s)
	if !ok {
		return 0, false
	}
	var unit int // as a power of ten nanoseconds
	switch n := d.integerDigits(); {
	case n <= 11:
		unit = 9
	case n <= 14:
		unit = 6
	case n <= 17:
		unit = 3
	case n > 19:
		return 0, false
	}
	return min(max(Time(d.scaled(unit)), timeMin), timeMax), true
}
