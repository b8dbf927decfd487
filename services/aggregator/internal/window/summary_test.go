package window

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/millrace/millrace/pkg/telemetry"
)

func sortByIngest(samples []sample) {
	slices.SortStableFunc(samples, func(a, b sample) int { return int(a.ingest - b.ingest) })
}

func newTestMemory(tb testing.TB) *memory {
	tb.Helper()
	m, err := newMemory()
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func TestQuantilesAreExactWhileFewAndWithinOnePercentBeyond(t *testing.T) {
	m := newTestMemory(t)
	rnd := rand.New(rand.NewPCG(1, 1))
	shapes := map[string]func() float64{
		"normal":            func() float64 { return 20 + rnd.NormFloat64() },
		"around zero":       func() float64 { return rnd.NormFloat64() * 1e-3 },
		"over many decades": func() float64 { return math.Exp(rnd.NormFloat64() * 5) },
		"negative":          func() float64 { return -1e6 * rnd.Float64() },
		"constant":          func() float64 { return 21.5 },
		"bits":              func() float64 { return float64(rnd.IntN(2)) },
		"at the limits": func() float64 {
			return []float64{math.MaxFloat64 / 1e9, 5e-324, -math.MaxFloat64 / 1e9, 0}[rnd.IntN(4)]
		},
	}
	for name, next := range shapes {
		for _, n := range []int{1, 2, 63, 64, 65, 100, 5000} {
			var s summary
			var values []float64
			for i := range n {
				p := point{time: telemetry.Time(i), value: next()}
				values = append(values, p.value)
				m.add(&s, &p)
			}
			var a telemetry.Aggregate
			m.fill(&a, &s)
			slices.Sort(values)
			for _, q := range []struct {
				share float64
				got   float64
			}{{0.50, a.P50}, {0.95, a.P95}, {0.99, a.P99}} {
				want := values[int(math.Ceil(q.share*float64(n)))-1]
				accuracy := 0.0
				if n > exactMax {
					accuracy = 0.0101 * math.Abs(want)
				}
				if math.Abs(q.got-want) > accuracy+1e-300 {
					t.Errorf("%s: quantile %v of %d values is %v, want %v", name, q.share, n, q.got, want)
				}
			}
			if a.Count != uint64(n) || a.Min != values[0] || a.Max != values[n-1] {
				t.Errorf("%s: %d values from %v to %v, want %d from %v to %v", name, a.Count, a.Min, a.Max, n, values[0], values[n-1])
			}
		}
	}
}

func TestASumDoesNotLoseWhatIsSmall(t *testing.T) {
	m := newTestMemory(t)
	var s summary
	for i, v := range []float64{1e16, 1, -1e16, 1} {
		m.add(&s, &point{time: telemetry.Time(i), value: v})
	}
	for i := range 1000 {
		m.add(&s, &point{time: telemetry.Time(i), value: 0.1})
	}
	var a telemetry.Aggregate
	if m.fill(&a, &s); a.Sum != 102 {
		t.Fatalf("sum %v, want 102", a.Sum)
	}
}

func TestPartsMergeIntoTheSameStateAsTheWhole(t *testing.T) {
	m := newTestMemory(t)
	rnd := rand.New(rand.NewPCG(5, 5))
	for _, n := range []int{1, 2, 10, 64, 65, 200, 3000} {
		for range 10 {
			var whole, merged summary
			parts := make([]summary, 1+rnd.IntN(5))
			for i := range n {
				p := point{time: telemetry.Time(rnd.IntN(20)), value: math.Round(rnd.NormFloat64()*100) / 10}
				p.origin.Seq = uint64(i + 1)
				m.add(&whole, &p)
				m.add(&parts[rnd.IntN(len(parts))], &p)
			}
			for i := range parts {
				if parts[i].size() == 0 {
					continue
				}
				var read summary
				if err := m.readState(&read, m.appendState(nil, &parts[i])); err != nil {
					t.Fatal(err)
				}
				m.merge(&merged, &read)
			}
			want, got := m.appendState(nil, &whole), m.appendState(nil, &merged)
			if !bytes.Equal(want, got) {
				t.Fatalf("%d values in %d parts:\n got %x\nwant %x", n, len(parts), got, want)
			}
		}
	}
}

func FuzzReadState(f *testing.F) {
	m := newTestMemory(f)
	for _, n := range []int{1, 10, 100} {
		var s summary
		for i := range n {
			m.add(&s, &point{time: telemetry.Time(i), value: float64(i - 5)})
		}
		f.Add(m.appendState(nil, &s))
	}
	f.Fuzz(func(t *testing.T, state []byte) {
		var s, other summary
		defer m.reset(&s)
		defer m.reset(&other)
		if m.readState(&s, state) != nil {
			return
		}
		if s.size() == 0 {
			t.Fatal("an empty state was read")
		}
		m.add(&other, &point{value: 1})
		m.merge(&other, &s)
		var a telemetry.Aggregate
		m.fill(&a, &other)
		if a.P50 < a.Min || a.P99 > a.Max {
			t.Fatalf("%+v", a)
		}
	})
}
