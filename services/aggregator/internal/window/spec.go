package window

import (
	"fmt"
	"time"

	"github.com/millrace/millrace/pkg/telemetry"
)

// Kind is how windows lie on the axis of time. Its numbers are kept in snapshots.
type Kind uint8

// The kinds of window.
const (
	Tumbling Kind = iota + 1 // one after the other, aligned to 1970-01-01 UTC
	Hopping                  // of one length, one beginning every hop, aligned likewise
	Session                  // from a record to the last that follows its predecessor within less than a gap, and the gap
)

// Spec is one series of windows. It must be valid: lengths positive, Hop positive and not above Length.
type Spec struct {
	Kind   Kind
	Length time.Duration // not of a Session
	Hop    time.Duration // of Hopping windows only
	Gap    time.Duration // of a Session only
}

// String names the windows as the configuration does: "tumbling 1m0s", "hopping 1m0s every 10s", "session with gap 30s".
func (s Spec) String() string {
	switch s.Kind {
	case Hopping:
		return fmt.Sprintf("hopping %v every %v", s.Length, s.Hop)
	case Session:
		return fmt.Sprintf("session with gap %v", s.Gap)
	default:
		return fmt.Sprintf("tumbling %v", s.Length)
	}
}

// Config says how windows are kept. It must be valid; see the aggregator's Config for the meaning of its fields.
type Config struct {
	Specs         []Spec
	Lateness      time.Duration
	CorrectWithin time.Duration // 0: nothing is corrected
	RunningEvery  time.Duration // 0: running values are not published
	RunningMax    int           // most running values of one tick of a share; the others follow with the next
	DevicesMax    int           // of one share
	ChannelsMax   int           // of one device
	WindowsMax    int           // open, of one share
	// Changed, if set, is told by Restore how the configuration differs from that of the snapshot, a sentence for each difference.
	Changed func(what string)
}

// series is a Spec at work, in nanoseconds.
type series struct {
	Spec
	length, hop, gap telemetry.Time
	// storedThrough is the start of the last window of which the store may have a row although this task knows nothing of
	// it: such a window becomes a delta when it closes.
	storedThrough telemetry.Time
	// retired windows are of a spec that the configuration has no more: they take no records and close with the next tick.
	retired bool
}

func newSeries(s Spec) series {
	hop := s.Hop
	if s.Kind == Tumbling {
		hop = s.Length
	}
	return series{
		Spec: s, length: telemetry.Time(s.Length), hop: telemetry.Time(hop), gap: telemetry.Time(s.Gap),
		storedThrough: minTime,
	}
}

const minTime = telemetry.Time(-1 << 63)

// last returns the start of the last window that holds t; the others begin every hop before it, as long as they end after t.
func (s *series) last(t telemetry.Time) telemetry.Time {
	into := t % s.hop
	if into < 0 {
		into += s.hop
	}
	return t - into
}
