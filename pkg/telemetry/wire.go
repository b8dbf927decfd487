package telemetry

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"
)

// The wire types of protobuf (https://protobuf.dev/programming-guides/encoding/).
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireGroup   = 3
	wireFixed32 = 5
)

// ErrWire is what every parse function of this package wraps when the bytes are no protobuf of the schema.
var ErrWire = errors.New("malformed protobuf")

// wireReader walks over the fields of one protobuf message. After next the field is in tag, and its value in num (numbers
// of any size, as they lie on the wire) or data (length-delimited, aliasing the input). A known field number with a wire
// type that the schema does not give it is an unknown field, as in every other implementation.
type wireReader struct {
	b    []byte
	at   int
	tag  uint64 // field number << 3 | wire type
	num  uint64
	data []byte
	err  error
}

// next reads one field; it returns false at the end and at the first fault, which is then in err.
func (r *wireReader) next() bool {
	b, at := r.b, r.at
	if at >= len(b) {
		return false
	}
	// Tags and lengths are one byte, or two, nearly always: spelt out here, since the calls cost a third of the reading.
	switch {
	case b[at] < 0x80:
		r.tag = uint64(b[at])
		r.at = at + 1
	case at+1 < len(b) && b[at+1] < 0x80:
		r.tag = uint64(b[at]&0x7f) | uint64(b[at+1])<<7
		r.at = at + 2
	case !r.varint(&r.tag):
		return false
	}
	if r.tag&7 == wireBytes && r.tag > 7 && r.at < len(b) {
		if n := int(b[r.at]); n < 0x80 && n < len(b)-r.at {
			from := r.at + 1
			r.at = from + n
			r.data = b[from:r.at:r.at]
			return r.tag>>3 <= uint64(protowire.MaxValidNumber) || r.fail("field number %d", r.tag>>3)
		}
	}
	if number := r.tag >> 3; number == 0 || number > uint64(protowire.MaxValidNumber) {
		return r.fail("field number %d", number)
	}
	switch r.tag & 7 {
	case wireVarint:
		return r.varint(&r.num)
	case wireBytes:
		return r.bytes()
	case wireFixed64:
		if len(r.b)-r.at < 8 {
			return r.fail("ends within a 64-bit field")
		}
		r.num = binary.LittleEndian.Uint64(r.b[r.at:])
		r.at += 8
		return true
	case wireFixed32:
		if len(r.b)-r.at < 4 {
			return r.fail("ends within a 32-bit field")
		}
		r.num = uint64(binary.LittleEndian.Uint32(r.b[r.at:]))
		r.at += 4
		return true
	default:
		return r.skipGroup()
	}
}

func (r *wireReader) varint(v *uint64) bool {
	if r.at < len(r.b) && r.b[r.at] < 0x80 { // nearly always
		*v = uint64(r.b[r.at])
		r.at++
		return true
	}
	x, n := binary.Uvarint(r.b[r.at:])
	if n <= 0 {
		return r.fail("ends within a number, or the number has more than 64 bits")
	}
	*v = x
	r.at += n
	return true
}

func (r *wireReader) bytes() bool {
	var n uint64
	if !r.varint(&n) {
		return false
	}
	if n > uint64(len(r.b)-r.at) { //nolint:gosec // G115: at is at most len(b).
		return r.fail("a field of %d bytes, %d are left", n, len(r.b)-r.at)
	}
	end := r.at + int(n)
	r.data = r.b[r.at:end:end]
	r.at = end
	return true
}

// skipGroup passes over a group, which no schema of ours has, or reports a wire type that does not exist.
func (r *wireReader) skipGroup() bool {
	if r.tag&7 != wireGroup {
		return r.fail("wire type %d", r.tag&7)
	}
	number := protowire.Number(r.tag >> 3) //nolint:gosec // G115: next has checked the range.
	n := protowire.ConsumeFieldValue(number, protowire.StartGroupType, r.b[r.at:])
	if n < 0 {
		return r.fail("a group that does not end")
	}
	r.at += n
	return true
}

func (r *wireReader) fail(format string, args ...any) bool {
	r.err = fmt.Errorf("byte %d: %s: %w", r.at, fmt.Sprintf(format, args...), ErrWire)
	return false
}

func (r *wireReader) text() string   { return alias(r.data) }
func (r *wireReader) time() Time     { return Time(r.num) } //nolint:gosec // G115: sfixed64 is two's complement.
func (r *wireReader) float() float64 { return math.Float64frombits(r.num) }
func (r *wireReader) uint32() uint32 { return uint32(r.num) }        //nolint:gosec // G115: protobuf truncates.
func (r *wireReader) int32() int32   { return int32(uint32(r.num)) } //nolint:gosec // G115: protobuf truncates.
func (r *wireReader) int64() int64   { return int64(r.num) }         //nolint:gosec // G115: two's complement.
func (r *wireReader) kind() Kind     { return Kind(r.enum(uint64(KindSession))) }
func (r *wireReader) sev() Severity  { return Severity(r.enum(uint64(SeverityCritical))) }

func (r *wireReader) enum(most uint64) uint8 {
	if r.num > most { // of a newer schema: what we do not know is the zero value
		return 0
	}
	return uint8(r.num) //nolint:gosec // G115: the largest kind is small.
}

// alias returns b as a string without copying it: the string changes when b does.
func alias(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b)) //nolint:gosec // G103: the owner of b is told in every exported comment.
}

// The append functions leave out a zero value, as proto3 does. A tag below 128 is one byte and one below 16384 is two;
// that they are constants lets the compiler drop the other case.

func appendTag(dst []byte, tag uint64) []byte {
	if tag < 0x80 {
		return append(dst, byte(tag))
	}
	return append(dst, byte(tag)|0x80, byte(tag>>7)) //nolint:gosec // G115: the low seven bits are meant.
}

func appendText(dst []byte, tag uint64, s string) []byte {
	if len(s) == 0 {
		return dst
	}
	dst = binary.AppendUvarint(appendTag(dst, tag), uint64(len(s)))
	return append(dst, s...)
}

func appendBytes(dst []byte, tag uint64, b []byte) []byte {
	if len(b) == 0 {
		return dst
	}
	dst = binary.AppendUvarint(appendTag(dst, tag), uint64(len(b)))
	return append(dst, b...)
}

func appendVarint(dst []byte, tag, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return binary.AppendUvarint(appendTag(dst, tag), v)
}

func appendFixed(dst []byte, tag, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return binary.LittleEndian.AppendUint64(appendTag(dst, tag), v)
}

func appendTime(dst []byte, tag uint64, t Time) []byte {
	return appendFixed(dst, tag, uint64(t)) //nolint:gosec // G115: sfixed64 is two's complement.
}

func appendFloat(dst []byte, tag uint64, v float64) []byte {
	return appendFixed(dst, tag, math.Float64bits(v))
}
