package rules

import (
	"slices"

	"github.com/millrace/millrace/pkg/telemetry"
)

// clausesMax bounds the clauses of a guard. A guard that would have more is widened, which is always safe.
const clausesMax = 64

// Key is the part of a message that guards look at. For an aggregate, Kind is KindChannel.
type Key struct {
	Kind                             telemetry.Kind
	DeviceID, DeviceType, ChannelKey string
}

// KeyOf returns the key of m.
func KeyOf(m *telemetry.Message) Key {
	return Key{Kind: m.Kind, DeviceID: m.DeviceID, DeviceType: m.DeviceType, ChannelKey: m.ChannelKey}
}

// Clause demands that each field that is not nil contains the key's. A field that is empty and not nil is never fulfilled.
type Clause struct {
	Kinds       []telemetry.Kind
	Devices     []string
	DeviceTypes []string
	Channels    []string
}

// Guard is fulfilled where any of its clauses is. A nil guard is always fulfilled, an empty one that is not nil never.
type Guard []Clause

// Matches reports whether k fulfils g.
func (g Guard) Matches(k Key) bool {
	if g == nil {
		return true
	}
	for i := range g {
		if g[i].matches(k) {
			return true
		}
	}
	return false
}

func (c *Clause) matches(k Key) bool {
	return (c.Kinds == nil || slices.Contains(c.Kinds, k.Kind)) &&
		(c.Channels == nil || slices.Contains(c.Channels, k.ChannelKey)) &&
		(c.Devices == nil || slices.Contains(c.Devices, k.DeviceID)) &&
		(c.DeviceTypes == nil || slices.Contains(c.DeviceTypes, k.DeviceType))
}

// And returns a guard that is fulfilled at least where both are.
func (g Guard) And(h Guard) Guard {
	both, _ := g.and(h)
	return both
}

// and also reports whether the result is fulfilled only where both are.
func (g Guard) and(h Guard) (Guard, bool) {
	switch {
	case g == nil:
		return h, true
	case h == nil:
		return g, true
	case len(g)*len(h) > clausesMax && len(g) < len(h):
		return g, false
	case len(g)*len(h) > clausesMax:
		return h, false
	}
	both := make(Guard, 0, len(g)*len(h))
	for _, a := range g {
		for _, b := range h {
			c := Clause{
				Kinds:       intersect(a.Kinds, b.Kinds),
				Devices:     intersect(a.Devices, b.Devices),
				DeviceTypes: intersect(a.DeviceTypes, b.DeviceTypes),
				Channels:    intersect(a.Channels, b.Channels),
			}
			if !c.impossible() {
				both = append(both, c)
			}
		}
	}
	return both, true
}

// Or returns a guard that is fulfilled at least where one of them is.
func (g Guard) Or(h Guard) Guard {
	either, _ := g.or(h)
	return either
}

// or also reports whether the result is fulfilled only where one of them is.
func (g Guard) or(h Guard) (Guard, bool) {
	if g == nil || h == nil {
		return nil, true
	}
	if len(g)+len(h) > clausesMax {
		return nil, false
	}
	return slices.Concat(Guard{}, g, h), true
}

func (c *Clause) impossible() bool {
	return c.Kinds != nil && len(c.Kinds) == 0 || c.Devices != nil && len(c.Devices) == 0 ||
		c.DeviceTypes != nil && len(c.DeviceTypes) == 0 || c.Channels != nil && len(c.Channels) == 0
}

// intersect treats nil as everything. Its result is nil only where both are.
func intersect[E comparable](a, b []E) []E {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	both := make([]E, 0, min(len(a), len(b)))
	for _, e := range a {
		if slices.Contains(b, e) {
			both = append(both, e)
		}
	}
	return both
}
