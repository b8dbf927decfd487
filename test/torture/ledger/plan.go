// Package ledger simulates devices that number their messages and writes down which of them were acknowledged. What got no answer is
// sent again byte for byte, as real devices do; a few devices give it up instead, and of these nobody knows.
//
// Start with Plan, which says what each message is, then Ledger, which knows what became of each, then Fleet, which sends.
package ledger

import (
	"fmt"
	"strconv"
	"time"
)

// Kind is what a message is, and so where it must come out.
type Kind uint8

// The kinds. A plan decides by the message's number.
const (
	Channel Kind = iota // a number on the channel "n": history, state, windows, alarms
	Log                 // a line of the device's log
	Broken              // JSON that is cut off: a dead letter
)

// String returns the kind's name.
func (k Kind) String() string {
	switch k {
	case Channel:
		return "channel"
	case Log:
		return "log"
	case Broken:
		return "broken"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// What a plan does now and then, by the message's number.
const (
	logEvery      = 20
	criticalEvery = 1000
	brokenEvery   = 200
	repeatEvery   = 100 // sent twice on purpose
	repeatAfter   = 2   // so many of the device's messages later
	displaceEvery = 50  // a device's clock is a little behind what it said before
	displaceSteps = 7
	lateEvery     = 500 // long behind: its window has closed, and is corrected
	lateSteps     = 1500
)

// Plan says what every device sends. All of it follows from the number of the device and of the message. Safe for concurrent use.
type Plan struct {
	Name    string // begins every device's id; letters and digits
	Devices int
	Each    int           // messages of each device
	Begin   time.Time     // the event time of message 0
	Step    time.Duration // between two messages, by the device's clock
	Groups  int           // of devices that share a connection; every second one speaks HTTP
}

// Kind returns what message n is.
func (p Plan) Kind(n int) Kind {
	switch {
	case n%brokenEvery == 13:
		return Broken
	case n%logEvery == 7:
		return Log
	}
	return Channel
}

// Critical reports whether message n is a critical line.
func (p Plan) Critical(n int) bool { return n%criticalEvery == 7 }

// Displaced reports whether the event time of message n lies before that of the message before it.
func (p Plan) Displaced(n int) bool { return n%displaceEvery == 21 || n%lateEvery == 402 }

// Repeated returns the message that is sent once more beside message n; ok is false where none is.
func (p Plan) Repeated(n int) (m int, ok bool) {
	m = n - repeatAfter
	return m, m >= 0 && m%repeatEvery == 31
}

// Time returns the event time of message n. No two messages of a device have the same.
func (p Plan) Time(n int) time.Time {
	at := p.Begin.Add(time.Duration(n) * p.Step)
	switch {
	case n%lateEvery == 402:
		return at.Add(-lateSteps*p.Step - p.Step/4)
	case n%displaceEvery == 21:
		return at.Add(-displaceSteps*p.Step - p.Step/2)
	}
	return at
}

// Number returns the message that was sent in order about the event time at.
func (p Plan) Number(at time.Time) int { return int(at.Sub(p.Begin) / p.Step) }

// Device returns the id of device d.
func (p Plan) Device(d int) string { return p.Name + "-" + strconv.Itoa(d) }

// GivesUp reports whether device d does not send again what got no answer.
func (p Plan) GivesUp(d int) bool { return d%11 == 9 }

// Append appends message n of device d: the same bytes whenever it is asked.
func (p Plan) Append(dst []byte, d, n int) []byte {
	dst = append(dst, `{"DeviceId":"`...)
	dst = append(append(dst, p.Name...), '-')
	dst = strconv.AppendInt(dst, int64(d), 10)
	switch p.Kind(n) {
	case Log:
		severity := "Info"
		if p.Critical(n) {
			severity = "Critical"
		}
		dst = append(append(dst, `","MessageType":"Log","Severity":"`...), severity...)
		dst = strconv.AppendInt(append(dst, `","Message":"`...), int64(n), 10)
		return append(p.Time(n).AppendFormat(append(dst, `","LocalTimestamp":"`...), time.RFC3339Nano), `"}`...)
	case Broken:
		return append(strconv.AppendInt(append(dst, `","n":`...), int64(n), 10), `,"timestamp":`...)
	case Channel:
	}
	dst = strconv.AppendInt(append(dst, `","n":`...), int64(n), 10)
	return append(p.Time(n).AppendFormat(append(dst, `,"timestamp":"`...), time.RFC3339Nano), `"}`...)
}

// Letter finds out which message a dead letter holds.
func (p Plan) Letter(payload string) (d, n int, ok bool) {
	if _, err := fmt.Sscanf(payload, `{"DeviceId":"`+p.Name+`-%d","n":%d,"timestamp":`, &d, &n); err != nil {
		return 0, 0, false
	}
	return d, n, d < p.Devices && n < p.Each
}
