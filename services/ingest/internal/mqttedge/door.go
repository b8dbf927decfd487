package mqttedge

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
)

// Why a connection is turned away.
const (
	turnedConnections = "connections" // there are too many
	turnedAddress     = "address"     // there are too many from its address
	turnedHandshakes  = "handshakes"  // it had not sent its CONNECT, and made room for one that might
	turnedDevice      = "device"      // its device has too many
)

// door decides who comes in. One address can have only some of the connections, and those that have not said who they are
// only some of them: one more closes the one of them that has taken longest. Safe for concurrent use.
type door struct {
	connections, perAddress, handshakes, perDevice int // 0 for perAddress and perDevice is no limit

	mu      sync.Mutex
	open    int
	byAddr  map[netip.Addr]int
	devices map[string]int
	waiting list.List // of *conn that have not finished their CONNECT, the oldest first
}

func newDoor(c *Config) *door {
	return &door{
		connections: c.ConnectionsMax, perAddress: c.AddressConnectionsMax, handshakes: c.HandshakesMax, perDevice: c.DeviceConnectionsMax,
		byAddr: map[netip.Addr]int{}, devices: map[string]int{},
	}
}

// enter counts a new connection from an address, unless there are too many: then it says why not.
func (d *door) enter(addr netip.Addr) (why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.perAddress > 0 && d.byAddr[addr] >= d.perAddress:
		return turnedAddress
	case d.open >= d.connections:
		return turnedConnections
	}
	d.open++
	d.byAddr[addr]++
	return ""
}

// wait notes that c has yet to send its CONNECT. oldest is one that is to give way, or nil.
func (d *door) wait(c *conn) (oldest *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting.Len() >= d.handshakes {
		if first := d.waiting.Front(); first != nil {
			oldest, _ = d.waiting.Remove(first).(*conn)
			oldest.place = nil
		}
	}
	c.place = d.waiting.PushBack(c)
	return oldest
}

// known notes that c waits for its CONNECT no longer. Calling it twice does no harm.
func (d *door) known(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.place != nil {
		d.waiting.Remove(c.place)
		c.place = nil
	}
}

// leave takes back enter.
func (d *door) leave(addr netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open--
	release(d.byAddr, addr)
}

// enterDevice counts a connection of a device's key; false when it has too many.
func (d *door) enterDevice(device string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.perDevice > 0 && d.devices[device] >= d.perDevice {
		return false
	}
	d.devices[device]++
	return true
}

// leaveDevice takes back enterDevice.
func (d *door) leaveDevice(device string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	release(d.devices, device)
}

func release[K comparable](counts map[K]int, key K) {
	if counts[key]--; counts[key] <= 0 {
		delete(counts, key)
	}
}

func (d *door) connectionsOpen() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open
}

// addressOf is where a connection comes from, without its port.
func addressOf(a net.Addr) netip.Addr {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{} // no TCP: they share one count
	}
	return at.Addr().Unmap()
}
