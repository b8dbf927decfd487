package mqttedge

import (
	"net/netip"
	"testing"
)

func TestTheDoorKeepsPlacesForOtherAddresses(t *testing.T) {
	d := newDoor(&Config{ConnectionsMax: 10, AddressConnectionsMax: 4, HandshakesMax: 8, DeviceConnectionsMax: 2})
	flood, honest := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	for i := range 6 {
		if why := d.enter(flood); (why == "") != (i < 4) || i >= 4 && why != turnedAddress {
			t.Errorf("connection %d of one address: %q", i, why)
		}
	}
	if why := d.enter(honest); why != "" {
		t.Errorf("another address: %q", why)
	}
	for range 5 {
		d.leave(honest) // as if these were of others
		_ = d.enter(honest)
	}
	for i := range 6 {
		other := netip.AddrFrom4([4]byte{10, 0, 1, byte(i)})
		if why := d.enter(other); (why == "") != (i < 5) || i >= 5 && why != turnedConnections {
			t.Errorf("connection %d of all: %q", i+5, why)
		}
	}
	for range 4 {
		d.leave(flood)
	}
	if d.connectionsOpen() != 6 || d.byAddr[flood] != nil {
		t.Errorf("%d open, %v of who left", d.connectionsOpen(), d.byAddr[flood])
	}
}

func TestWhoIsSlowToConnectGivesWayToItsLikeFirst(t *testing.T) {
	d := newDoor(&Config{ConnectionsMax: 100, HandshakesMax: 8})
	flood := netip.MustParseAddr("10.0.0.1")
	honest := &conn{}
	_ = d.enter(netip.MustParseAddr("10.0.0.2"))
	if d.wait(honest, netip.MustParseAddr("10.0.0.2")) != nil {
		t.Error("the first made another give way")
	}
	conns := make([]*conn, 20)
	for i := range conns {
		conns[i] = &conn{}
		_ = d.enter(flood)
		oldest := d.wait(conns[i], flood)
		if i >= 3 && oldest != conns[i-3] { // a quarter, and the one that comes
			t.Errorf("connection %d: %p gives way, want the oldest of its address", i, oldest)
		}
	}
	d.known(honest)
	d.known(honest)
	if d.waiting.Len() != 3 {
		t.Errorf("%d wait, want 3", d.waiting.Len())
	}
	for i := range 20 { // many addresses: then the oldest of all
		addr := netip.AddrFrom4([4]byte{10, 0, 1, byte(i)})
		_ = d.enter(addr)
		d.wait(&conn{}, addr)
	}
	if d.waiting.Len() != 8 {
		t.Errorf("%d wait, want 8", d.waiting.Len())
	}
}

func TestADeviceHasSoManyConnections(t *testing.T) {
	d := newDoor(&Config{DeviceConnectionsMax: 2})
	for i, want := range []bool{true, true, false} {
		if d.enterDevice("a") != want {
			t.Errorf("connection %d of a device: taken %v, want %v", i+1, !want, want)
		}
	}
	if !d.enterDevice("b") {
		t.Error("another device is turned away")
	}
	d.leaveDevice("a")
	if !d.enterDevice("a") {
		t.Error("a place that was left is not given again")
	}
}
