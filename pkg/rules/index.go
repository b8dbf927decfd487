package rules

import (
	"slices"

	"github.com/millrace/millrace/pkg/telemetry"
)

// Index finds, among many guarded things, those whose guard a key fulfils. What is guarded by a channel, a device or a device
// type that the key does not have costs nothing: it is not even looked at. The zero Index is empty and ready for Add.
// Once filled it is safe for concurrent use.
type Index[T any] struct {
	items    []T
	always   []candidate // not bound to any name
	channels map[string][]candidate
	devices  map[string][]candidate
	types    map[string][]candidate
	kinds    [telemetry.KindSession + 1][]candidate
}

// candidate is an item behind one clause of its guard.
type candidate struct {
	item   int
	clause Clause
}

// Add puts item under its guard.
func (x *Index[T]) Add(guard Guard, item T) {
	at := len(x.items)
	x.items = append(x.items, item)
	if guard == nil {
		x.always = append(x.always, candidate{item: at})
		return
	}
	for _, c := range guard {
		e := candidate{item: at, clause: c}
		switch {
		case c.impossible():
		case c.Channels != nil:
			x.channels = put(x.channels, c.Channels, e)
		case c.Devices != nil:
			x.devices = put(x.devices, c.Devices, e)
		case c.DeviceTypes != nil:
			x.types = put(x.types, c.DeviceTypes, e)
		case c.Kinds != nil:
			for i, kind := range c.Kinds {
				if int(kind) < len(x.kinds) && !slices.Contains(c.Kinds[:i], kind) {
					x.kinds[kind] = append(x.kinds[kind], e)
				}
			}
		default:
			x.always = append(x.always, e)
		}
	}
}

func put(m map[string][]candidate, keys []string, e candidate) map[string][]candidate {
	if m == nil {
		m = make(map[string][]candidate)
	}
	for i, k := range keys {
		if !slices.Contains(keys[:i], k) {
			m[k] = append(m[k], e)
		}
	}
	return m
}

// Len returns how many items there are.
func (x *Index[T]) Len() int { return len(x.items) }

// All returns every item in the order of Add; it must not be changed.
func (x *Index[T]) All() []T { return x.items }

// Match appends to dst the items whose guard k fulfils, each once, in the order of Add.
func (x *Index[T]) Match(dst []T, k Key) []T {
	var few [32]int // stays on the stack; more candidates than that move to the heap
	hits := few[:0]
	hits = gather(hits, x.always, &k)
	if x.channels != nil {
		hits = gather(hits, x.channels[k.ChannelKey], &k)
	}
	if x.devices != nil {
		hits = gather(hits, x.devices[k.DeviceID], &k)
	}
	if x.types != nil {
		hits = gather(hits, x.types[k.DeviceType], &k)
	}
	if int(k.Kind) < len(x.kinds) {
		hits = gather(hits, x.kinds[k.Kind], &k)
	}
	if len(hits) > 1 {
		slices.Sort(hits)
		hits = slices.Compact(hits)
	}
	for _, item := range hits {
		dst = append(dst, x.items[item])
	}
	return dst
}

func gather(hits []int, candidates []candidate, k *Key) []int {
	for i := range candidates {
		if candidates[i].clause.matches(*k) {
			hits = append(hits, candidates[i].item)
		}
	}
	return hits
}
