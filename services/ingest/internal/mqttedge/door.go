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

// handshakesQuarter is the part of the unfinished CONNECTs that one address may have.
const handshakesQuarter = 4

// door decides who comes in. One address can have only some of the connections, and those that have not said who they are
// only some of them: one more closes the one of them that has taken longest, of its own address where that has more than a
// quarter of them. So a flood from one address pushes out its like. Safe for concurrent use.
type door struct {
	connections, perAddress, handshakes, perDevice int // 0 for perAddress and perDevice is no limit

	mu      sync.Mutex
	open    int
	byAddr  map[netip.Addr]*address
	devices map[string]int
	waiting list.List // of *conn that have not finished their CONNECT, the oldest first
}

// address is what there is from one address.
type address struct {
	open    int
	waiting list.List // as door.waiting
}

// place is where a connection waits. Guarded by door.mu.
type place struct {
	of          *address
	all, ofAddr *list.Element
}

func newDoor(c *Config) *door {
	return &door{
		connections: c.ConnectionsMax, perAddress: c.AddressConnectionsMax, handshakes: c.HandshakesMax, perDevice: c.DeviceConnectionsMax,
		byAddr: map[netip.Addr]*address{}, devices: map[string]int{},
	}
}

// enter counts a new connection from an address, unless there are too many: then it says why not.
func (d *door) enter(addr netip.Addr) (why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.perAddress > 0 && d.byAddr[addr] != nil && d.byAddr[addr].open >= d.perAddress:
		return turnedAddress
	case d.open >= d.connections:
		return turnedConnections
	}
	d.open++
	if d.byAddr[addr] == nil {
		d.byAddr[addr] = &address{}
	}
	d.byAddr[addr].open++
	return ""
}

// wait notes that c, which came in from addr, has yet to send its CONNECT. oldest is one that is to give way, or nil.
func (d *door) wait(c *conn, addr netip.Addr) (oldest *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	of := d.byAddr[addr]
	var first *list.Element
	switch {
	case of.waiting.Len() > d.handshakes/handshakesQuarter:
		first = of.waiting.Front()
	case d.waiting.Len() >= d.handshakes:
		first = d.waiting.Front()
	}
	if first != nil {
		oldest, _ = first.Value.(*conn)
		d.takeOff(oldest)
	}
	c.place = place{of: of, all: d.waiting.PushBack(c), ofAddr: of.waiting.PushBack(c)}
	return oldest
}

// known notes that c waits for its CONNECT no longer. Calling it twice does no harm.
func (d *door) known(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.takeOff(c)
}

func (d *door) takeOff(c *conn) {
	if c.place.of != nil {
		c.place.of.waiting.Remove(c.place.ofAddr)
		d.waiting.Remove(c.place.all)
		c.place = place{}
	}
}

// leave takes back enter.
func (d *door) leave(addr netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open--
	if d.byAddr[addr].open--; d.byAddr[addr].open == 0 {
		delete(d.byAddr, addr)
	}
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
	if d.devices[device]--; d.devices[device] == 0 {
		delete(d.devices, device)
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
