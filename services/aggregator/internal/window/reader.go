package window

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

// ErrState is wrapped by the errors of reading states and snapshots.
var ErrState = errors.New("not the bytes that this version writes")

// reader takes bytes apart. After the first fault, which is then in err, it returns zeros.
type reader struct {
	b   []byte
	at  int
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("byte %d: %s: %w", r.at, fmt.Sprintf(format, args...), ErrState)
	}
	r.at = len(r.b)
}

func (r *reader) end() {
	if r.err == nil && r.at < len(r.b) {
		r.fail("%d bytes left over", len(r.b)-r.at)
	}
}

func (r *reader) byte() byte {
	if r.at >= len(r.b) {
		r.fail("ends early")
		return 0
	}
	r.at++
	return r.b[r.at-1]
}

func (r *reader) uvarint(max uint64) uint64 {
	v, n := binary.Uvarint(r.b[r.at:])
	if n <= 0 || v > max {
		r.fail("a number up to %d is missing", max)
		return 0
	}
	r.at += n
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b[r.at:])
	if n <= 0 {
		r.fail("a number is missing")
		return 0
	}
	r.at += n
	return v
}

// length reads how many parts of at least size bytes follow; it is not above what could be there.
func (r *reader) length(size int) int {
	return int(r.uvarint(uint64((len(r.b) - r.at) / size))) //nolint:gosec // bounded by what is there
}

func (r *reader) fixed() uint64 {
	if len(r.b)-r.at < 8 {
		r.fail("ends early")
		return 0
	}
	r.at += 8
	return binary.LittleEndian.Uint64(r.b[r.at-8:])
}

func (r *reader) time() telemetry.Time { return telemetry.Time(r.fixed()) } //nolint:gosec // two's complement
func (r *reader) float() float64       { return math.Float64frombits(r.fixed()) }

func (r *reader) finite() float64 {
	v := r.float()
	if !finite(v) {
		r.fail("%v, want a finite number", v)
		return 0
	}
	return v
}

func (r *reader) text() string {
	n := r.length(1)
	if n > len(r.b)-r.at {
		r.fail("a text of %d bytes", n)
		return ""
	}
	r.at += n
	return string(r.b[r.at-n : r.at])
}

func (r *reader) point() point {
	p := point{time: r.time()}
	partition := r.varint()
	if partition < 0 || partition > math.MaxInt32 {
		r.fail("partition %d", partition)
	}
	p.origin.Partition = int32(partition) //nolint:gosec // checked
	p.origin.Position = bus.Position{Seq: r.uvarint(math.MaxUint64), Index: uint32(r.uvarint(math.MaxUint32))}
	p.value = r.finite()
	return p
}

func finite(v float64) bool { return v-v == 0 }
