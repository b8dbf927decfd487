package check

import (
	"fmt"

	"github.com/millrace/millrace/test/torture/ledger"
)

// Verdict is what came of holding one store against the ledger.
type Verdict struct {
	Store      string
	Expected   int // what must be there
	Found      int // of it
	Lost       int // acknowledged, and not there
	Doubled    int // there more often than it may be
	Unexpected int // never sent, or not what was sent
	Unknown    int // no answer ever came, and it is there
	Rows       int // in all; dead letters of a message that was sent again come more than once
	Stories    []string
}

// storiesMax is how many breaches are told in detail; all are counted.
const storiesMax = 10

// Clean reports whether nothing is lost, doubled or unexpected.
func (v *Verdict) Clean() bool { return v.Lost == 0 && v.Doubled == 0 && v.Unexpected == 0 }

func (v *Verdict) tell(format string, args ...any) {
	if len(v.Stories) < storiesMax {
		v.Stories = append(v.Stories, fmt.Sprintf(format, args...))
	}
}

// messages holds what a store has of one device, counted by number, against the ledger. want selects the messages that belong there.
func (v *Verdict) messages(l *ledger.Ledger, d int, want func(n int) bool, has map[int]int) {
	device := l.Plan.Device(d)
	for n := range l.Plan.Each {
		if !want(n) {
			continue
		}
		s, got := l.State(d, n), has[n]
		v.Rows += got
		delete(has, n)
		often := 1
		if l.Plan.Kind(n) == ledger.Broken {
			often = s.Sent // each time it was sent is a dead letter of its own
		}
		switch {
		case s.Answered:
			v.Expected++
			if got > 0 {
				v.Found++
				break
			}
			v.Lost++
			v.tell("%s: %s: message %d was acknowledged (sent %d times) and is not there", v.Store, device, n, s.Sent)
		case got > 0 && s.Sent > 0:
			v.Unknown++
		case got > 0:
			v.Unexpected++
			v.tell("%s: %s: message %d was never sent and is there %d times", v.Store, device, n, got)
			continue
		}
		if got > often {
			v.Doubled += got - often
			v.tell("%s: %s: message %d was sent %d times and is there %d times", v.Store, device, n, s.Sent, got)
		}
	}
	for n, got := range has {
		v.Unexpected += got
		v.Rows += got
		v.tell("%s: %s: %d, which is no such message, is there %d times", v.Store, device, n, got)
	}
}
