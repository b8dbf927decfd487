package store

import (
	"fmt"

	"github.com/millrace/millrace/pkg/bus"
)

// Fence compares spans with the progress that a store holds, which stored returns for each. done says that they were written before, so
// that there is nothing to do; ErrFenced that another owner has written in between. A partition that the store knows nothing of, and one
// that the commit does not move, go with either.
func Fence(spans []Span, stored func(bus.PartitionID) (progress bus.Progress, ok bool)) (done bool, err error) {
	if !fencing {
		return false, nil
	}
	before, after := false, false
	for _, s := range spans {
		have, known := stored(s.Partition)
		switch {
		case known && have.Through == s.Through.Through && s.After == s.Through.Through:
		case !known || have.Through == s.After:
			before = true
		case have.Through == s.Through.Through:
			after = true
		default:
			return false, fmt.Errorf("%v: stored through %v, the write follows %v: %w", s.Partition, have.Through, s.After, ErrFenced)
		}
	}
	if before && after {
		return false, fmt.Errorf("a part of the spans is stored, the rest is not: %w", ErrFenced)
	}
	return after, nil
}
