package telemetry

import "strings"

// Aggregate is one event-time window of one numeric channel: what the topic aggregates carries and the table holds.
type Aggregate struct {
	Tenant, DeviceID, DeviceType, ChannelKey string

	WindowStart  Time
	WindowLength int64 // nanoseconds
	Count        uint64
	Min          float64
	Max          float64
	Sum          float64
	First        float64 // the value with the lowest (event time, origin)
	Last         float64 // the value with the highest
	P50          float64
	P95          float64
	P99          float64
	Revision     uint32 // 1 when the window first closed, one more for each correction; 0 while open
	Final        bool   // false while the window is open and its values are running
	FirstTime    Time
	LastTime     Time
}

// Avg returns the mean, 0 of an empty window.
func (a *Aggregate) Avg() float64 {
	if a.Count == 0 {
		return 0
	}
	return a.Sum / float64(a.Count)
}

// Clone returns a copy of a that shares no memory with it.
func (a *Aggregate) Clone() Aggregate {
	c := *a
	c.Tenant, c.DeviceID = strings.Clone(a.Tenant), strings.Clone(a.DeviceID)
	c.DeviceType, c.ChannelKey = strings.Clone(a.DeviceType), strings.Clone(a.ChannelKey)
	return c
}
