package engine

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/rules"
	"github.com/millrace/millrace/pkg/telemetry"
)

// Source is what a rule looks at.
type Source uint8

// The sources.
const (
	Messages   Source = iota // channel messages, topic telemetry
	Aggregates               // windows, topic aggregates
	Critical                 // critical log lines, topic critical
)

// Rule is one rule. Conditions are made by Compile; a nil one is absent. It must not be changed once an engine has it.
type Rule struct {
	Name     string // unique within an engine
	Severity string // info, warning, error or critical
	Summary  string // a sentence with {device}, {channel}, {value}, {old} and {rule} in it; "" is none
	On       Source
	Device   string // glob; "" is every device
	Channel  string // glob; "" is every channel

	Condition *Condition
	Clear     *Condition // nil: the condition no longer holds

	For      time.Duration // how long the condition must hold before the alarm is raised
	ClearFor time.Duration // how long the clear condition must hold; of critical and on-change rules how long all must be quiet
	OnChange bool          // raise once for each change of a channel's text
	Silent   time.Duration // > 0: a dead-man rule; per channel where Channel is given, else per device
	Rate     *Rate         // not nil: a rule on the rate of change
	Window   time.Duration // Aggregates: the length of the windows it looks at
	Running  bool          // Aggregates: windows still open may raise too
}

// Rate raises where a value differs by more than Above, or less than Below, from the oldest value that is not older than Per.
type Rate struct {
	Per          time.Duration
	Above, Below *float64
}

// beyond says whether a change is one to raise an alarm for.
func (r *Rate) beyond(change float64) bool {
	return r.Above != nil && change > *r.Above || r.Below != nil && change < *r.Below
}

// perDevice says whether the rule has one track for a device, and not one for each of its channels.
func (r *Rule) perDevice() bool { return r.On == Critical || r.Silent > 0 && r.Channel == "" }

// event says whether the rule raises because something happened, and not because something holds.
func (r *Rule) event() bool { return r.On == Critical || r.OnChange }

// endsByAck says whether an acknowledgement ends the alarm, since nothing else ever would.
func (r *Rule) endsByAck() bool {
	return r.ClearFor == 0 && (r.On == Critical || r.OnChange && r.Condition == nil && r.Clear == nil)
}

// wants says whether the rule's globs take a device's channel.
func (r *Rule) wants(k rules.Key) bool {
	return r.wantsDevice(k.DeviceID) && (r.Channel == "" || MatchGlob(r.Channel, k.ChannelKey))
}

// wantsDevice says whether the rule's glob takes a device.
func (r *Rule) wantsDevice(id string) bool { return r.Device == "" || MatchGlob(r.Device, id) }

// guard is what a record must fulfil for the rule to look at it. The clear condition is not asked: it is about the same
// device and channel.
func (r *Rule) guard() rules.Guard {
	var guard rules.Guard
	if r.Device != "" && !hasWildcard(r.Device) {
		guard = guard.And(rules.Guard{{Devices: []string{r.Device}}})
	}
	if r.Channel != "" && !hasWildcard(r.Channel) {
		guard = guard.And(rules.Guard{{Channels: []string{r.Channel}}})
	}
	if r.Condition != nil {
		guard = guard.And(r.Condition.guard())
	}
	return guard
}

// fingerprint changes with whatever makes a rule another one: a track's state means nothing to another rule.
func (r *Rule) fingerprint() uint64 {
	var b []byte
	for _, text := range []string{r.Name, r.Severity, r.Device, r.Channel, r.Condition.String(), r.Clear.String()} {
		b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
	}
	for _, d := range []time.Duration{r.For, r.ClearFor, r.Silent, r.Window} {
		b = binary.AppendVarint(b, int64(d))
	}
	b = append(b, byte(r.On))
	b = fmt.Appendf(b, "%t %t", r.OnChange, r.Running)
	if r.Rate != nil {
		b = fmt.Appendf(b, " %d", r.Rate.Per)
		for _, limit := range []*float64{r.Rate.Above, r.Rate.Below} {
			if limit != nil {
				b = fmt.Appendf(b, " %g", *limit)
			} else {
				b = append(b, " -"...)
			}
		}
	}
	return xxhash.Sum64(b)
}

// Condition is a condition over whatever a rule looks at. A nil one is absent.
type Condition struct {
	message   *rules.MessageCondition
	change    *rules.ChangeCondition
	aggregate *rules.AggregateCondition
	figure    string // Aggregates: the first of the window's figures that it names
}

var figures = regexp.MustCompile(`\b(count|min|max|sum|avg|first|last|p50|p95|p99)\b`)

// Compile reads a condition of a rule on source; "" is nil. Conditions of on-change rules may use old and new. Its errors name
// line and column.
func Compile(source Source, onChange bool, expr string) (*Condition, error) {
	if strings.TrimSpace(expr) == "" {
		return nil, nil //nolint:nilnil // an absent condition is nil everywhere
	}
	c := new(Condition)
	var err error
	switch {
	case source == Aggregates:
		c.aggregate, err = rules.CompileAggregate(expr)
		c.figure = figures.FindString(expr)
	case onChange:
		c.change, err = rules.CompileChange(expr)
	default:
		c.message, err = rules.CompileMessage(expr)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// String returns the condition as it was written, "" of a nil one.
func (c *Condition) String() string {
	switch {
	case c == nil:
		return ""
	case c.message != nil:
		return c.message.String()
	case c.change != nil:
		return c.change.String()
	default:
		return c.aggregate.String()
	}
}

// References returns the names of reference data that the condition uses; alerting has none.
func (c *Condition) References() []string {
	switch {
	case c == nil:
		return nil
	case c.message != nil:
		return c.message.References()
	case c.change != nil:
		return c.change.References()
	default:
		return nil
	}
}

func (c *Condition) guard() rules.Guard {
	switch {
	case c.message != nil:
		return c.message.Guard()
	case c.change != nil:
		return c.change.Guard()
	default:
		return c.aggregate.Guard()
	}
}

// inputs is what conditions are asked of.
type inputs struct {
	change    rules.Change // its Message is that of message conditions
	aggregate rules.Aggregate
}

func (c *Condition) holds(in *inputs) (bool, error) {
	switch {
	case c.message != nil:
		return c.message.Matches(&in.change.Message)
	case c.change != nil:
		return c.change.Matches(&in.change)
	default:
		return c.aggregate.Matches(&in.aggregate)
	}
}

func hasWildcard(glob string) bool { return strings.ContainsAny(glob, "*?") }

// MatchGlob matches text against a glob in which * is any run of bytes and ? is any one byte.
func MatchGlob(glob, text string) bool {
	star, retry := -1, 0
	g, t := 0, 0
	for t < len(text) {
		switch {
		case g < len(glob) && glob[g] == '*':
			star, retry = g, t
			g++
		case g < len(glob) && (glob[g] == '?' || glob[g] == text[t]):
			g++
			t++
		case star >= 0:
			retry++
			g, t = star+1, retry
		default:
			return false
		}
	}
	return strings.Trim(glob[g:], "*") == ""
}

// key names a track.
type key struct {
	rule                    int // index into Engine.rules
	tenant, device, channel string
}

// signal is what a record says to a track.
type signal struct {
	at           telemetry.Time // in the rule's clock
	seen         telemetry.Time // in ours: ingest time, or when the log took it
	raise, clear bool
	value        string // aliases the record
	origin       bus.Origin
}
