package window

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/DataDog/sketches-go/ddsketch/store"

	"github.com/millrace/millrace/pkg/telemetry"
)

// stateVersion begins the State of a row. State of another version is one that cannot be read: bump it only together with
// code that reads the old one.
const stateVersion = 1

// appendState appends s as the State of a row. The same values give the same bytes.
func (m *memory) appendState(dst []byte, s *summary) []byte {
	slices.Sort(s.values)
	return appendSummary(append(dst, stateVersion), s)
}

// readState reads the State of a row into s, which must be empty.
func (m *memory) readState(s *summary, state []byte) error {
	r := reader{b: state}
	if v := r.byte(); v != stateVersion && r.err == nil {
		r.fail("version %d, want %d", v, stateVersion)
	}
	m.readSummary(&r, s)
	r.end()
	return r.err
}

// appendSummary appends the form that states and snapshots share: the first and the last point, the number of values, then
// either the values or, after the number 0, the sketch.
func appendSummary(dst []byte, s *summary) []byte {
	dst = appendPoint(dst, &s.first)
	dst = appendPoint(dst, &s.last)
	if s.sketch == nil {
		dst = binary.AppendUvarint(dst, uint64(len(s.values)))
		for _, v := range s.values {
			dst = appendFloat(dst, v)
		}
		return dst
	}
	dst = append(dst, 0)
	for _, v := range [...]float64{s.min, s.max, s.sum.high, s.sum.low} {
		dst = appendFloat(dst, v)
	}
	dst = binary.AppendUvarint(dst, s.sketch.zeros)
	dst = appendBins(dst, &s.sketch.negative)
	return appendBins(dst, &s.sketch.positive)
}

func appendPoint(dst []byte, p *point) []byte {
	dst = appendTime(dst, p.time)
	dst = binary.AppendVarint(dst, int64(p.origin.Partition))
	dst = binary.AppendUvarint(dst, p.origin.Seq)
	dst = binary.AppendUvarint(dst, uint64(p.origin.Index))
	return appendFloat(dst, p.value)
}

// appendBins appends the number of bins that hold something, then of each its distance from the one before and its count.
func appendBins(dst []byte, bins *store.CollapsingLowestDenseStore) []byte {
	if bins.IsEmpty() {
		return append(dst, 0)
	}
	var n uint64
	bins.ForEach(func(int, float64) bool { n++; return false })
	dst = binary.AppendUvarint(dst, n)
	at := 0
	bins.ForEach(func(bin int, count float64) bool {
		dst = binary.AppendVarint(dst, int64(bin-at))
		dst = binary.AppendUvarint(dst, uint64(count))
		at = bin
		return false
	})
	return dst
}

func appendFloat(dst []byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
}

func appendTime(dst []byte, t telemetry.Time) []byte {
	return binary.LittleEndian.AppendUint64(dst, uint64(t)) //nolint:gosec // two's complement
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// readSummary reads what appendSummary wrote into s, which must be empty.
func (m *memory) readSummary(r *reader, s *summary) {
	first, last := r.point(), r.point()
	n := r.length(8)
	switch {
	case r.err != nil:
		return
	case last.before(&first):
		r.fail("the last value is before the first")
		return
	case n > exactMax:
		r.fail("%d values, want at most %d", n, exactMax)
		return
	case n == 0:
		m.readSketch(r, s)
	}
	for range n {
		s.values = append(s.values, r.finite())
	}
	s.first, s.last = first, last
}

func (m *memory) readSketch(r *reader, s *summary) {
	s.sketch = m.sketch()
	s.min, s.max = r.finite(), r.finite()
	s.sum = total{r.float(), r.float()} // which may have passed the range
	s.sketch.zeros = r.uvarint(countMax)
	s.count = s.sketch.zeros
	m.readBins(r, s, &s.sketch.negative)
	m.readBins(r, s, &s.sketch.positive)
	if r.err == nil && (s.count == 0 || s.min > s.max) {
		r.fail("a sketch of %d values from %v to %v", s.count, s.min, s.max)
	}
}

// countMax bounds each count, so that float64 adds them exactly.
const countMax = 1 << 50

func (m *memory) readBins(r *reader, s *summary, bins *store.CollapsingLowestDenseStore) {
	n := r.length(2)
	if n > sketchBinsMax {
		r.fail("%d bins, want at most %d", n, sketchBinsMax)
	}
	at := int64(0)
	for i := range n {
		step, count := r.varint(), r.uvarint(countMax)
		if r.err != nil {
			return
		}
		at += step
		if i > 0 && step <= 0 || at < int64(m.scale.leastBin) || at > int64(m.scale.mostBin) || count == 0 {
			r.fail("bin %d with %d values", at, count)
			return
		}
		bins.AddWithCount(int(at), float64(count))
		s.count += count
	}
}
