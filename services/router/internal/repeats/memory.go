// Package repeats remembers the last message ids of each device, so that a device that sends a message again because it
// heard no answer is harmless. Memory is flat: 8 bytes an id, a bounded number of ids a device and of devices.
package repeats

import (
	"slices"

	"github.com/cespare/xxhash/v2"
)

// firstIDs is how much room a device gets at first; most of a large fleet's devices never need more before they are forgotten.
const firstIDs = 8

// Memory holds the last ids of many devices. One goroutine uses it.
//
// Devices and ids are 64-bit hashes. Two devices with the same hash would share their room, not their ids, since the hash of an
// id covers its device; two ids of one device would have to agree in 64 bits within its window for a message to be taken for a
// repeat that is none: about one in 10^17 messages.
type Memory struct {
	window     int
	devicesMax int
	slots      map[uint64]int32 // by device
	devices    []device
	hand       int
	last       int // that was asked for
	forgotten  uint64
}

type device struct {
	hash   uint64
	used   bool  // since the hand passed last
	next   int   // the oldest id, once the ring is full
	newest int64 // event time
	ids    []uint64
}

// New returns a memory of the last window ids of each of devicesMax devices; both at least 1. When one more device comes, one that
// was not heard of for long is forgotten (second chance, which is near to least recently used).
func New(window, devicesMax int) *Memory {
	return &Memory{window: max(window, 1), devicesMax: max(devicesMax, 1), slots: make(map[uint64]int32)}
}

// HashDevice returns the hash of a device, the first one of Hash.
func HashDevice(tenant, deviceID string) uint64 {
	var d xxhash.Digest
	return writeDevice(&d, tenant, deviceID)
}

// Hash returns the hashes of a device and of one of its ids.
func Hash(tenant, deviceID, messageID string) (dev, id uint64) {
	var d xxhash.Digest
	dev = writeDevice(&d, tenant, deviceID)
	_, _ = d.Write([]byte{0})
	_, _ = d.WriteString(messageID)
	return dev, d.Sum64()
}

func writeDevice(d *xxhash.Digest, tenant, deviceID string) uint64 {
	d.Reset()
	_, _ = d.WriteString(tenant)
	_, _ = d.Write([]byte{0})
	_, _ = d.WriteString(deviceID)
	return d.Sum64()
}

// Take reports whether the device's id is not among its last ones, and remembers it then.
func (m *Memory) Take(dev, id uint64) bool {
	d, known, _ := m.find(dev)
	d.used = known // so a flood of devices that speak once pushes out its like, not those that speak often
	if slices.Contains(d.ids, id) {
		return false
	}
	switch {
	case len(d.ids) == m.window:
		d.ids[d.next] = id
		d.next = (d.next + 1) % m.window
	case len(d.ids) == cap(d.ids):
		grown := make([]uint64, len(d.ids), min(2*len(d.ids), m.window))
		copy(grown, d.ids)
		d.ids = append(grown, id)
	default:
		d.ids = append(d.ids, id)
	}
	return true
}

// find returns a device, which is given room where it is not known. again says that it was asked for last, as by Take before Behind.
func (m *Memory) find(dev uint64) (d *device, known, again bool) {
	if m.last < len(m.devices) && m.devices[m.last].hash == dev {
		return &m.devices[m.last], true, true
	}
	slot, known := m.slots[dev]
	if !known {
		slot = m.settle(dev)
	}
	m.last = int(slot)
	return &m.devices[slot], known, false
}

// Behind returns by how much an event time (any unit) is before the newest one that was told of the device; 0 where it is not, and
// then it is the newest.
func (m *Memory) Behind(dev uint64, at int64) int64 {
	d, known, again := m.find(dev)
	if !again { // else Take has looked after it
		d.used = known
	}
	if at < d.newest {
		return d.newest - at
	}
	d.newest = at
	return 0
}

// Devices returns how many devices it remembers.
func (m *Memory) Devices() int { return len(m.devices) }

// Forgotten returns how many devices gave way to others.
func (m *Memory) Forgotten() uint64 { return m.forgotten }

// settle gives room to a device that has none.
func (m *Memory) settle(dev uint64) int32 {
	if len(m.devices) < m.devicesMax {
		m.devices = append(m.devices, device{hash: dev, ids: make([]uint64, 0, min(firstIDs, m.window))})
		slot := int32(len(m.devices) - 1) //nolint:gosec // bounded by devicesMax, which the configuration bounds
		m.slots[dev] = slot
		return slot
	}
	for m.devices[m.hand].used {
		m.devices[m.hand].used = false
		m.hand = (m.hand + 1) % len(m.devices)
	}
	slot := m.hand
	m.hand = (m.hand + 1) % len(m.devices)
	d := &m.devices[slot]
	delete(m.slots, d.hash)
	*d = device{hash: dev, ids: d.ids[:0]}
	m.slots[dev] = int32(slot) //nolint:gosec // see above
	m.forgotten++
	return int32(slot) //nolint:gosec // see above
}
