package engine

import (
	"time"

	"github.com/millrace/millrace/pkg/telemetry"
)

// samplesMax is how many values of the last span are kept for a rate.
const samplesMax = 16

type sample struct {
	at    telemetry.Time
	value float64
}

// samples are values of the last span, oldest first, no closer to each other than a sixteenth of it.
type samples []sample

// change takes a value and returns by how much it differs from the oldest one that is not older than per; ok is false
// where there is none. Times do not fall.
func (s *samples) change(at telemetry.Time, value float64, per time.Duration) (change float64, ok bool) {
	old := 0
	for old < len(*s) && (*s)[old].at < at.Add(-per) {
		old++
	}
	*s = append((*s)[:0], (*s)[old:]...)
	n := len(*s)
	if n > 0 {
		change, ok = value-(*s)[0].value, true
	}
	if n == 0 || n < samplesMax && at.Sub((*s)[n-1].at) >= per/samplesMax {
		*s = append(*s, sample{at, value})
	}
	return change, ok
}
