package window

import (
	"fmt"

	"github.com/DataDog/sketches-go/ddsketch/mapping"
	"github.com/DataDog/sketches-go/ddsketch/store"
)

const (
	relativeAccuracy = 0.01
	// sketchBinsMax bounds a sketch's memory (8 bytes a bin, positive and negative ones apart). It spans a factor of 1e17
	// between the largest and the smallest magnitude; what is smaller is counted as the smallest.
	sketchBinsMax = 2048
)

// scale is DDSketch's mapping of values to bins.
type scale struct {
	*mapping.CubicallyInterpolatedMapping
	least, most       float64 // magnitudes that have a bin of their own
	leastBin, mostBin int
}

func newScale() (*scale, error) {
	m, err := mapping.NewCubicallyInterpolatedMapping(relativeAccuracy)
	if err != nil {
		return nil, fmt.Errorf("make the scale of sketches: %w", err)
	}
	s := &scale{CubicallyInterpolatedMapping: m, least: m.MinIndexableValue(), most: m.MaxIndexableValue()}
	s.leastBin, s.mostBin = m.Index(s.least), m.Index(s.most)
	return s, nil
}

// bin returns the bin of v, and in which of a sketch's halves it is: -1, 0 (v counts as zero) or 1.
func (s *scale) bin(v float64) (bin, sign int) {
	sign = 1
	if v < 0 {
		sign, v = -1, -v
	}
	switch {
	case v < s.least:
		return 0, 0
	case v >= s.most:
		return s.mostBin, sign
	}
	return s.Index(v), sign
}

// sketch is a DDSketch: its stores of bins, without a mapping of its own. The same values give the same sketch in any order.
type sketch struct {
	positive, negative store.CollapsingLowestDenseStore
	zeros              uint64
}

func newSketch() *sketch {
	return &sketch{
		positive: *store.NewCollapsingLowestDenseStore(sketchBinsMax),
		negative: *store.NewCollapsingLowestDenseStore(sketchBinsMax),
	}
}

func (s *sketch) reset() {
	s.positive.Clear()
	s.negative.Clear()
	s.zeros = 0
}

func (s *sketch) add(bin, sign int) {
	switch sign {
	case 1:
		s.positive.Add(bin)
	case -1:
		s.negative.Add(bin)
	default:
		s.zeros++
	}
}

func (s *sketch) merge(o *sketch) {
	s.positive.MergeWith(&o.positive)
	s.negative.MergeWith(&o.negative)
	s.zeros += o.zeros
}

// at returns about the value with the given rank, from 0.
func (s *sketch) at(sc *scale, rank uint64) float64 {
	negative := uint64(s.negative.TotalCount())
	switch {
	case rank < negative:
		return -sc.Value(s.negative.KeyAtRank(float64(negative - 1 - rank)))
	case rank < negative+s.zeros:
		return 0
	}
	return sc.Value(s.positive.KeyAtRank(float64(rank - negative - s.zeros)))
}
