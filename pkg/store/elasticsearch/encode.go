package elasticsearch

import (
	"math"
	"strconv"
	"unicode/utf8"
	"unsafe"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// A document is one line of JSON with dotted names, which Elasticsearch reads as objects. The add functions append one member
// with a comma behind it; closeDocument takes the last comma away.

func addName(dst []byte, name string) []byte {
	dst = append(dst, '"')
	dst = append(dst, name...)
	return append(dst, '"', ':')
}

func addText(dst []byte, name, value string) []byte {
	return append(appendText(addName(dst, name), value), ',')
}

func addWhole(dst []byte, name string, value int64) []byte {
	return append(strconv.AppendInt(addName(dst, name), value, 10), ',')
}

func addNumber(dst []byte, name string, value float64) []byte {
	return append(strconv.AppendFloat(addName(dst, name), value, 'g', -1, 64), ',')
}

func addTruth(dst []byte, name string, value bool) []byte {
	return append(strconv.AppendBool(addName(dst, name), value), ',')
}

// addTime adds nothing for a time that is not known.
func addTime(dst []byte, name string, t telemetry.Time) []byte {
	if t == 0 {
		return dst
	}
	return append(appendTime(addName(dst, name), t), ',')
}

func closeDocument(dst []byte) []byte {
	if dst[len(dst)-1] == ',' {
		dst = dst[:len(dst)-1]
	}
	return append(dst, '}', '\n')
}

const timeForm = "2006-01-02T15:04:05.999999999Z"

func appendTime(dst []byte, t telemetry.Time) []byte {
	dst = append(dst, '"')
	dst = t.Std().AppendFormat(dst, timeForm)
	return append(dst, '"')
}

// appendText appends s as a JSON string; runs that need no escape are copied whole.
func appendText(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return store.AppendJSONString(dst, s)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

func finite(v float64) bool { return !math.IsInf(v, 0) && !math.IsNaN(v) }

// appendTextBytes is appendText of bytes that nobody changes meanwhile.
func appendTextBytes(dst, b []byte) []byte {
	if len(b) == 0 {
		return append(dst, '"', '"')
	}
	return appendText(dst, unsafe.String(unsafe.SliceData(b), len(b))) //nolint:gosec // it ends with this call
}
