package move

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/telemetry"
)

// digest tells sets of rows apart, whatever the order in which they come.
type digest struct {
	rows uint64
	sum  uint64 // of the rows' hashes, modulo 2^64
}

func (d *digest) add(hash uint64) { d.rows++; d.sum += hash }

// column is one column that is compared.
type column struct {
	name   string
	origin bool // origin_partition, which moving changes
}

func columnsOf(names ...string) []column {
	all := make([]column, len(names))
	for i, n := range names {
		all[i] = column{name: n, origin: n == "origin_partition"}
	}
	return all
}

func names(columns []column) []string {
	all := make([]string, len(columns))
	for i, c := range columns {
		all[i] = c.name
	}
	return all
}

// appendValue appends a value in a form that is the same for each engine: an integer and a float of the same value are one, times are
// nanoseconds, and what one engine cannot keep in a text (bytes that are no UTF-8, the character NUL) looks as that engine shows it.
func appendValue(dst []byte, v any, c column) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, 0)
	case string:
		v = strings.ReplaceAll(strings.ToValidUTF8(v, "\uFFFD"), "\x00", "\u2400")
		v = strings.ReplaceAll(v, `\u0000`, `\u2400`)
		dst = strconv.AppendInt(append(dst, 't'), int64(len(v)), 10)
		return append(append(dst, ':'), v...)
	case []byte:
		return appendValue(dst, string(v), c)
	case bool:
		return strconv.AppendBool(append(dst, 'b'), v)
	case time.Time:
		return strconv.AppendInt(append(dst, '@'), v.UnixNano(), 10)
	case telemetry.Time:
		return strconv.AppendInt(append(dst, '@'), int64(v), 10)
	case float32:
		return appendNumber(dst, float64(v))
	case float64:
		return appendNumber(dst, v)
	}
	if n, ok := integer(v); ok {
		if c.origin && n >= 0 {
			n = -1 - n
		}
		return strconv.AppendInt(append(dst, 'n'), n, 10)
	}
	return fmt.Append(append(dst, '?'), v)
}

func appendNumber(dst []byte, v float64) []byte {
	const exact = 1 << 53
	if whole := int64(v); v > -exact && v < exact && float64(whole) == v {
		return strconv.AppendInt(append(dst, 'n'), whole, 10)
	}
	return strconv.AppendFloat(append(dst, 'n'), v, 'g', -1, 64)
}

// integer returns any integer as one type; beyond the range of int64 it is none.
func integer(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case int32:
		return int64(v), true
	case int16:
		return int64(v), true
	case int8:
		return int64(v), true
	case int:
		return int64(v), true
	case uint32:
		return int64(v), true
	case uint16:
		return int64(v), true
	case uint8:
		return int64(v), true
	case uint64:
		return int64(v), v < 1<<63 //nolint:gosec // told apart
	}
	return 0, false
}

// hashOf returns the hash of a row; scratch is used again.
func hashOf(row []any, columns []column, scratch []byte) (uint64, []byte) {
	scratch = scratch[:0]
	for i := range columns {
		scratch = append(appendValue(scratch, row[i], columns[i]), '|')
	}
	h := fnv.New64a()
	_, _ = h.Write(scratch) // it never fails
	return mix(h.Sum64()), scratch
}

// mix spreads the bits of a hash, so that sums of hashes of like rows do not meet (the finisher of SplitMix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
