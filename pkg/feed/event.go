package feed

import (
	"errors"
	"fmt"
	"slices"

	"github.com/millrace/millrace/pkg/bus"
)

// The streams. Each is one topic of the bus.
const (
	State      = "state"      // every message of the topic telemetry: what moves device_state
	Aggregates = "aggregates" // windows, also the running values of open ones
	Alarms     = "alarms"     // changes of alarms
	Logs       = "logs"       // lines of devices' logs
)

// Streams returns all streams, in the order in which tokens number them: new ones come last.
func Streams() []string { return []string{State, Aggregates, Alarms, Logs} }

// Topics returns the topics that the streams are, in the order of Streams.
func Topics() []string { return []string{bus.Telemetry, bus.Aggregates, bus.Alarms, bus.Logs} }

// Event is one thing that happened, ready to be sent. It is shared by all subscribers and must not be changed.
type Event struct {
	Stream  string
	Device  string
	Channel string // "" for logs
	// ID is the token with which a subscriber goes on after this event; text without white space, of about 100 bytes.
	ID string
	// Data is a JSON object in one line, see schemas/openapi.yaml.
	Data []byte
}

// size is what an event counts in a queue, in bytes.
func (e *Event) size() int {
	const overhead = 96
	return overhead + len(e.Data) + len(e.ID) + len(e.Device) + len(e.Channel)
}

// Filter says which events a subscriber wants. The zero Filter is all of them. In Device and Channel an asterisk stands for
// any text and a question mark for any one character; all else stands for itself. "" is everything.
type Filter struct {
	Tenant  string
	Streams []string
	Device  string
	Channel string
	Shares  []int // partitions of the log, of every topic; nil is all of them
}

// ErrFilter is returned by Subscribe for a stream that there is not.
var ErrFilter = errors.New("unknown stream")

func (f *Filter) validate() error {
	for _, s := range f.Streams {
		if !slices.Contains(Streams(), s) {
			return fmt.Errorf("%w %q, want %v", ErrFilter, s, Streams())
		}
	}
	return nil
}

// wants reports whether the filter lets any event of a stream through.
func (f *Filter) wants(stream string) bool {
	return len(f.Streams) == 0 || slices.Contains(f.Streams, stream)
}

// wantsShare reports whether the filter lets any event of a partition through.
func (f *Filter) wantsShare(number int) bool {
	return f.Shares == nil || slices.Contains(f.Shares, number)
}

// match reports whether an event of a wanted stream passes.
func (f *Filter) match(tenant, device, channel string) bool {
	return (f.Tenant == "" || f.Tenant == tenant) &&
		(f.Device == "" || Glob(f.Device, device)) &&
		(f.Channel == "" || Glob(f.Channel, channel))
}

// Glob reports whether text matches pattern, in which * stands for any run of bytes, also an empty one, and ? for any one
// character. It takes at most len(pattern)*len(text) steps.
func Glob(pattern, text string) bool {
	p, t := 0, 0
	star, mark := -1, 0 // the last asterisk, and where in text what follows it was last tried
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, t
			p++
		case p < len(pattern) && pattern[p] == '?':
			p++
			t += runeLen(text[t:])
		case p < len(pattern) && pattern[p] == text[t]:
			p++
			t++
		case star >= 0:
			mark++
			p, t = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// runeLen returns the length of the first character of s, which is not empty.
func runeLen(s string) int {
	n := 1
	for n < len(s) && s[n]&0xC0 == 0x80 {
		n++
	}
	return n
}
