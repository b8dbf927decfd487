package answer

import (
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/store"
)

// Text returns a value of a column of the given type as people read it: times in ISO 8601 with as many digits as they have
// and a Z (all are UTC), bytes as DuckDB writes them (\xAA), lists, structures and maps as JSON, null as "".
func Text(v any, columnType string) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case []byte:
		if columnType == "UUID" {
			return uuidText(v)
		}
		return bytesText(v)
	case time.Time:
		return timeText(v, columnType)
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case float32:
		return strconv.FormatFloat(float64(v), 'g', -1, 32)
	case *big.Int:
		return v.String()
	case Decimal:
		return string(v)
	case Interval:
		return intervalText(v)
	case []any, map[string]any, Map:
		return string(appendJSON(nil, v, columnType))
	}
	return fmt.Sprint(v)
}

func timeText(t time.Time, columnType string) string {
	t = t.UTC()
	switch columnType {
	case "DATE":
		return t.Format(time.DateOnly)
	case "TIME":
		return t.Format("15:04:05.999999")
	case "TIMETZ", "TIME WITH TIME ZONE":
		return t.Format("15:04:05.999999Z")
	}
	return t.Format(time.RFC3339Nano)
}

func uuidText(b []byte) string {
	if len(b) != 16 {
		return bytesText(b)
	}
	s := hex.EncodeToString(b)
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

func bytesText(b []byte) string {
	const digits = "0123456789ABCDEF"
	var s strings.Builder
	for _, c := range b {
		if c >= ' ' && c < 0x7f && c != '\\' && c != '\'' && c != '"' {
			s.WriteByte(c)
			continue
		}
		s.WriteString(`\x`)
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}

// intervalText writes an interval as DuckDB does: 14 months, 3 days and a time are "1 year 2 months 3 days 00:00:01.5".
func intervalText(i Interval) string {
	var parts []string
	add := func(n int32, unit string) {
		switch n {
		case 0:
		case 1, -1:
			parts = append(parts, fmt.Sprintf("%d %s", n, unit))
		default:
			parts = append(parts, fmt.Sprintf("%d %ss", n, unit))
		}
	}
	add(i.Months/12, "year")
	add(i.Months%12, "month")
	add(i.Days, "day")
	if i.Micros != 0 || len(parts) == 0 {
		sign, micros := "", i.Micros
		if micros < 0 {
			sign, micros = "-", -micros
		}
		text := fmt.Sprintf("%s%02d:%02d:%02d", sign, micros/3_600_000_000, micros/60_000_000%60, micros/1_000_000%60)
		if rest := micros % 1_000_000; rest != 0 {
			text += strings.TrimRight(fmt.Sprintf(".%06d", rest), "0")
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, " ")
}

// appendJSON appends a value as JSON: numbers as numbers, except NaN and the infinities, which are strings; what JSON has no
// form for as the string that Text gives.
func appendJSON(dst []byte, v any, columnType string) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...)
	case bool:
		return strconv.AppendBool(dst, v)
	case float64:
		return appendFloat(dst, v, 64)
	case float32:
		return appendFloat(dst, float64(v), 32)
	case int8, int16, int32, int64, int, uint8, uint16, uint32, uint64, uint, *big.Int, Decimal:
		return append(dst, Text(v, columnType)...)
	case []any:
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendJSON(dst, e, elementType(columnType))
		}
		return append(dst, ']')
	case map[string]any:
		return appendObject(dst, slices.Sorted(maps.Keys(v)), func(i string) any { return v[i] })
	case Map:
		return appendMap(dst, v)
	}
	return store.AppendJSONString(dst, Text(v, columnType))
}

// appendMap appends a map as an object; its keys as Text writes them.
func appendMap(dst []byte, m Map) []byte {
	dst = append(dst, '{')
	for i, key := range m.Keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendJSON(dst, Text(key, ""), ""), ':')
		dst = appendJSON(dst, m.Values[i], "")
	}
	return append(dst, '}')
}

func elementType(columnType string) string { return strings.TrimSuffix(columnType, "[]") }

func appendObject(dst []byte, keys []string, value func(key string) any) []byte {
	dst = append(dst, '{')
	for i, key := range keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendJSON(dst, key, "")
		dst = append(dst, ':')
		dst = appendJSON(dst, value(key), "")
	}
	return append(dst, '}')
}

func appendFloat(dst []byte, v float64, bits int) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(append(append(dst, '"'), strconv.FormatFloat(v, 'g', -1, bits)...), '"')
	}
	return strconv.AppendFloat(dst, v, 'g', -1, bits)
}
