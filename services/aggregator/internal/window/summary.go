package window

import (
	"cmp"
	"math"
	"slices"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

// exactMax is how many values of a window are kept as they are, before they become a sketch.
const exactMax = 64

// point is one value in the order of (time, origin).
type point struct {
	time   telemetry.Time
	origin bus.Origin
	value  float64
}

func (p *point) before(q *point) bool {
	if p.time != q.time {
		return p.time < q.time
	}
	if c := cmp.Compare(p.origin.Partition, q.origin.Partition); c != 0 {
		return c < 0
	}
	if c := p.origin.Compare(q.origin.Position); c != 0 {
		return c < 0
	}
	return p.value < q.value // only without origins, so that no order of arrival matters
}

// summary is what is kept of the values of a window. Summaries of parts of a window merge into that of the whole: the same
// values give the same summary, whatever their order and their parts.
//
// The fields stand in the order in which a record needs them: what a record costs is mostly cache misses.
type summary struct {
	values []float64 // all of them, in no order, while sketch is nil
	sketch *sketch   // nil up to exactMax values; only with it do count, min, max and sum mean anything
	last   point

	count    uint64
	min, max float64
	sum      total

	first point
}

// memory is where summaries get their parts from, and leave them.
type memory struct {
	scale    *scale
	sketches []*sketch
}

func newMemory() (*memory, error) {
	s, err := newScale()
	if err != nil {
		return nil, err
	}
	return &memory{scale: s}, nil
}

func (m *memory) sketch() *sketch {
	if n := len(m.sketches); n > 0 {
		s := m.sketches[n-1]
		m.sketches = m.sketches[:n-1]
		return s
	}
	return newSketch()
}

// reset empties s and keeps its memory.
func (m *memory) reset(s *summary) {
	if s.sketch != nil {
		s.sketch.reset()
		m.sketches = append(m.sketches, s.sketch)
	}
	*s = summary{values: s.values[:0]}
}

func (s *summary) size() uint64 {
	if s.sketch != nil {
		return s.count
	}
	return uint64(len(s.values))
}

// add takes one value. No allocation, once the window has as much memory as it needs.
func (m *memory) add(s *summary, p *point) {
	switch {
	case s.size() == 0:
		s.first, s.last = *p, *p
	case s.last.before(p): // then it is not the first, which need not be looked at
		s.last = *p
	case p.before(&s.first):
		s.first = *p
	}
	if s.sketch == nil {
		if len(s.values) < exactMax {
			s.values = append(s.values, p.value)
			return
		}
		m.summarize(s)
	}
	m.count(s, p.value)
}

// border takes the first and the last point of what is being merged.
func (m *memory) border(s *summary, first, last *point) {
	empty := s.size() == 0
	if empty || first.before(&s.first) {
		s.first = *first
	}
	if empty || s.last.before(last) {
		s.last = *last
	}
}

// summarize turns the values of s into a sketch.
func (m *memory) summarize(s *summary) {
	s.sketch = m.sketch()
	s.count, s.sum = 0, total{}
	s.min, s.max = math.Inf(1), math.Inf(-1)
	slices.Sort(s.values) // so that not even the last bit of the sum depends on the order of arrival
	for _, v := range s.values {
		m.count(s, v)
	}
	s.values = s.values[:0]
}

func (m *memory) count(s *summary, v float64) {
	s.count++
	s.min, s.max = min(s.min, v), max(s.max, v)
	s.sum.add(v)
	s.sketch.add(m.scale.bin(v))
}

// merge adds what o holds to s.
func (m *memory) merge(s, o *summary) {
	if o.size() == 0 {
		return
	}
	m.border(s, &o.first, &o.last)
	if s.sketch == nil && o.sketch == nil && len(s.values)+len(o.values) <= exactMax {
		s.values = append(s.values, o.values...)
		return
	}
	if s.sketch == nil {
		m.summarize(s)
	}
	if o.sketch == nil {
		for _, v := range o.values {
			m.count(s, v)
		}
		return
	}
	s.count += o.count
	s.min, s.max = min(s.min, o.min), max(s.max, o.max)
	s.sum.merge(o.sum)
	s.sketch.merge(o.sketch)
}

// fill sets the numbers of a. The values of s may change their order.
func (m *memory) fill(a *telemetry.Aggregate, s *summary) {
	a.Count = s.size()
	a.First, a.FirstTime = s.first.value, s.first.time
	a.Last, a.LastTime = s.last.value, s.last.time
	switch {
	case a.Count == 0:
	case s.sketch == nil:
		slices.Sort(s.values)
		var sum total
		for _, v := range s.values {
			sum.add(v)
		}
		a.Min, a.Max, a.Sum = s.values[0], s.values[len(s.values)-1], sum.value()
		a.P50, a.P95, a.P99 = s.values[rank(50, a.Count)], s.values[rank(95, a.Count)], s.values[rank(99, a.Count)]
	default:
		a.Min, a.Max, a.Sum = s.min, s.max, s.sum.value()
		quantile := func(percent uint64) float64 {
			return min(max(s.sketch.at(m.scale, rank(percent, s.count)), s.min), s.max)
		}
		a.P50, a.P95, a.P99 = quantile(50), quantile(95), quantile(99)
	}
}

// rank returns the rank from 0 of a percentile of n values: ceil(percent/100 * n) - 1. Percents are whole, so that no
// rounding of a fraction moves it.
func rank(percent, n uint64) uint64 {
	return n/100*percent + (n%100*percent+99)/100 - 1
}

// total is a sum with about twice the digits of a float64, so that its rounded value does not depend on the order in which
// numbers were added.
type total struct{ high, low float64 }

func (t *total) add(v float64) { t.merge(total{high: v}) }

func (t *total) merge(o total) {
	s := t.high + o.high
	if math.IsInf(s, 0) { // past the range: from here on it is infinite, and never NaN because of the correction
		*t = total{high: s}
		return
	}
	back := s - t.high
	e := (t.high - (s - back)) + (o.high - back) + t.low + o.low
	t.high = s + e
	t.low = e - (t.high - s)
}

func (t *total) value() float64 { return t.high + t.low }
