package telemetry

import "math"

// decimal is the number (-1)^negative * digits * 10^exponent, exactly as it was written, up to 19 digits.
type decimal struct {
	digits   uint64
	exponent int
	negative bool
}

// parseDecimal reads a JSON number, also with a plus sign before it. Digits after the nineteenth are cut off.
func parseDecimal(s string) (d decimal, ok bool) {
	if s != "" && (s[0] == '-' || s[0] == '+') {
		d.negative = s[0] == '-'
		s = s[1:]
	}
	seen, point, i := 0, -1, 0
	for ; i < len(s); i++ {
		c := s[i]
		if c == '.' && point < 0 {
			point = i
			continue
		}
		if c < '0' || c > '9' {
			break
		}
		seen++
		switch {
		case d.digits >= 1e18: // full; zeros in front do not count
			if point < 0 {
				d.exponent++
			}
		default:
			d.digits = d.digits*10 + uint64(c-'0')
			if point >= 0 {
				d.exponent--
			}
		}
	}
	if seen == 0 {
		return d, false
	}
	if i == len(s) {
		return d, true
	}
	return d, d.parseExponent(s[i:])
}

func (d *decimal) parseExponent(s string) bool {
	if s[0] != 'e' && s[0] != 'E' {
		return false
	}
	s = s[1:]
	sign := 1
	if s != "" && (s[0] == '-' || s[0] == '+') {
		if s[0] == '-' {
			sign = -1
		}
		s = s[1:]
	}
	if s == "" || len(s) > 4 || digitsEnd(s, 0) != len(s) {
		return false
	}
	n := 0
	for i := range len(s) {
		n = n*10 + int(s[i]-'0')
	}
	d.exponent += sign * n
	return true
}

// integerDigits returns the number of digits before the point, without zeros in front.
func (d decimal) integerDigits() int {
	n := d.exponent
	for x := d.digits; x > 0; x /= 10 {
		n++
	}
	return n
}

// scaled returns d times 10^power, cut off at the point, and the nearer end of int64 where it is beyond.
func (d decimal) scaled(power int) int64 {
	x := d.digits
	e := d.exponent + power
	for ; e > 0 && x != 0; e-- {
		if x > math.MaxInt64/10 {
			x = math.MaxInt64
			break
		}
		x *= 10
	}
	for ; e < 0 && x != 0; e++ {
		x /= 10
	}
	v := int64(min(x, math.MaxInt64))
	if d.negative {
		return -v
	}
	return v
}
