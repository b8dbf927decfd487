package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/mqtt"
	"github.com/millrace/millrace/services/ingest"
)

// packets returns one of each kind that a client may send, right or wrong.
func packets(t *testing.T, v mqtt.Version) [][]byte {
	t.Helper()
	var all [][]byte
	add := func(b []byte, err error) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	add(mqtt.AppendConnect(nil, &mqtt.Connect{Version: v, CleanStart: true, ClientID: "c", Will: &mqtt.Will{Topic: "devices/w/channels/n"}}))
	for qos := range byte(3) {
		m := mqtt.Publish{QoS: qos, Topic: []byte("devices/d/channels/n"), Payload: []byte("1")}
		if qos > 0 {
			m.PacketID = 7
		}
		add(mqtt.AppendPublish(nil, v, &m))
	}
	add(mqtt.AppendSubscribe(nil, v, &mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "live/#"}}}))
	add(mqtt.AppendUnsubscribe(nil, v, &mqtt.Unsubscribe{PacketID: 2, Filters: []string{"live/#"}}))
	add(mqtt.AppendDisconnect(nil, v, &mqtt.Disconnect{}))
	all = append(all, mqtt.AppendPuback(nil, v, 1, 0), mqtt.AppendPubrec(nil, v, 1, 0), mqtt.AppendPubrel(nil, v, 1, 0),
		mqtt.AppendPubcomp(nil, v, 1, 0), mqtt.AppendPingreq(nil), mqtt.AppendPingresp(nil))
	return all
}

// spoil changes a few bytes, or how many there are.
func spoil(rng *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	for range 1 + rng.IntN(3) {
		at := rng.IntN(len(b))
		switch rng.IntN(4) {
		case 0:
			b[at] ^= 1 << rng.IntN(8)
		case 1:
			b[at] = []byte{0, 1, 0x7f, 0x80, 0xff}[rng.IntN(5)]
		case 2:
			b = slices.Insert(b, at, byte(rng.Uint32()))
		case 3:
			b = b[:max(at, 1)]
		}
	}
	return b
}

// A spoilt packet ends its own connection or is taken; the edge sends nothing but MQTT, serves the next one, and holds nothing back.
func TestMalformedPacketsEndTheirConnectionAlone(t *testing.T) {
	want := int64(5000)
	if testing.Short() || raceTimes > 1 {
		want = 1000
	}
	r := start(t, setup{bus: null{2}, cfg: func(c *ingest.Config) { c.Limits.PacketTimeout = 100 * time.Millisecond }})
	seed := rand.Uint64()
	var done atomic.Int64
	var group sync.WaitGroup
	for worker := range uint64(16) {
		rng := rand.New(rand.NewPCG(seed, worker))
		v := []mqtt.Version{mqtt.Version311, mqtt.Version5}[worker%2]
		all := packets(t, v)
		connect, err := mqtt.AppendConnect(nil, &mqtt.Connect{Version: v, CleanStart: true})
		if err != nil {
			t.Fatal(err)
		}
		group.Go(func() {
			for done.Add(1) <= want {
				sent := spoil(rng, all[rng.IntN(len(all))])
				if rng.IntN(8) > 0 {
					sent = append(bytes.Clone(connect), sent...)
				}
				if err := exchange(r.addrs["mqtt"], v, sent); err != nil {
					t.Errorf("seed %d: %x: %v", seed, sent, err)
					return
				}
			}
		})
	}
	group.Wait()
	eventually(t, "all connections are gone", func() bool { return r.metric("millrace_mqtt_connections") == 0 })
	c := r.dial(mqtt.ClientOptions{})
	if err := c.Publish(t.Context(), "devices/d/channels/n", []byte("1"), 1); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if r.metric("millrace_mqtt_faults_total") < float64(want)/4 {
		t.Errorf("%v of %d malformed packets are counted", r.metric("millrace_mqtt_faults_total"), want)
	}
}

// exchange sends bytes, and reads until the other side has closed.
func exchange(addr string, v mqtt.Version, sent []byte) error {
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = conn.Write(sent) // it may have closed already
	if half, ok := conn.(*net.TCPConn); ok {
		_ = half.CloseWrite()
	}
	reader := mqtt.NewReader(conn, 0)
	reader.SetVersion(v)
	for err == nil {
		_, err = reader.Next()
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return errors.New("the connection stays open")
	}
	if fault, ok := errors.AsType[*mqtt.Error](err); ok {
		return fault
	}
	return nil
}
