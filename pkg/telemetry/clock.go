package telemetry

import "time"

// ClockRule says how a message's event time was found.
type ClockRule uint8

// What Clock.Stamp decides.
const (
	ClockBelieved ClockRule = iota // the device's time is the event time
	ClockSilent                    // the device said none: event time is ingest time
	ClockAhead                     // the device's clock is too far ahead: event time is ingest time
	ClockUnset                     // the device's clock was never set: event time is ingest time
)

// Defaults of Clock.
const (
	DefaultMaxSkew = 5 * time.Minute
	DefaultMinTime = Time(978_307_200_000_000_000) // 2001-01-01
)

// Clock decides whether a device's clock can be believed. The zero value has the defaults.
type Clock struct {
	MaxSkew time.Duration // how far a device may be ahead of us; 0 is DefaultMaxSkew
	MinTime Time          // before this a clock was never set; 0 is DefaultMinTime
}

// Stamp settles EventTime. It expects there what the device said, or 0, and IngestTime set. A time that cannot be believed
// moves to DeviceTime and IngestTime takes its place. The caller counts the rule that struck.
func (c Clock) Stamp(m *Message) ClockRule {
	skew, oldest := c.MaxSkew, c.MinTime
	if skew == 0 {
		skew = DefaultMaxSkew
	}
	if oldest == 0 {
		oldest = DefaultMinTime
	}
	switch t := m.EventTime; {
	case t == 0:
		m.EventTime = m.IngestTime
		return ClockSilent
	case t > m.IngestTime.Add(skew):
		m.DeviceTime, m.EventTime = t, m.IngestTime
		return ClockAhead
	case t < oldest:
		m.DeviceTime, m.EventTime = t, m.IngestTime
		return ClockUnset
	}
	return ClockBelieved
}
