package ingest_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/mqtt"
	"github.com/millrace/millrace/services/ingest"
)

// gate makes appends to ingested wait until it is opened.
func gate(r *rig) (open func()) {
	gate := make(chan struct{})
	r.log.SetFaults(mem.Faults{BeforeAppend: func(ctx context.Context, id bus.PartitionID, _ []bus.Record) error {
		if id.Topic != bus.Ingested {
			return nil
		}
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}})
	return func() { close(gate) }
}

func TestNothingIsAcknowledgedBeforeTheLogHasIt(t *testing.T) {
	for _, version := range []mqtt.Version{mqtt.Version311, mqtt.Version5} {
		r := start(t, setup{})
		open := gate(r)
		w := r.raw(version)
		w.connect(mqtt.Connect{ClientID: "c", CleanStart: true})
		w.publish(mqtt.Publish{QoS: 1, PacketID: 1}, "devices/d/channels/n", "1")
		w.publish(mqtt.Publish{QoS: 2, PacketID: 2}, "devices/d/channels/n", "2")
		// A client that does not wait for PUBREC must not get its PUBCOMP earlier than that.
		w.send(mqtt.AppendPubrel(nil, version, 2, 0), nil)
		posted := make(chan int, 1)
		go func() {
			res, err := client(t).Post(r.url("/v1/devices/h/messages"), "application/json", strings.NewReader(`{"n":1}`))
			if err != nil {
				posted <- 0
				return
			}
			_ = res.Body.Close()
			posted <- res.StatusCode
		}()
		w.send(mqtt.AppendPingreq(nil), nil) // the connection is served all the same
		if p := w.next(); p.Type != mqtt.TypePingresp {
			t.Fatalf("%v before the log has it", p.Type)
		}
		w.silent(50 * time.Millisecond)
		select {
		case status := <-posted:
			t.Fatalf("HTTP answered %d before the log has it", status)
		default:
		}
		open()
		w.ack(mqtt.TypePuback, 1, 0)
		w.ack(mqtt.TypePubrec, 2, 0)
		w.ack(mqtt.TypePubcomp, 2, 0)
		if status := <-posted; status != http.StatusAccepted {
			t.Errorf("HTTP %d, want 202", status)
		}
	}
}

func TestADoubleOfQoS2IsAppendedOnce(t *testing.T) {
	for _, version := range []mqtt.Version{mqtt.Version311, mqtt.Version5} {
		r := start(t, setup{})
		w := r.raw(version)
		m := mqtt.Connect{ClientID: "c"}
		if version == mqtt.Version5 {
			m.Properties.SessionExpiry = 60
		}
		w.connect(m)
		w.publish(mqtt.Publish{QoS: 2, PacketID: 7}, "devices/d/channels/n", "1")
		w.ack(mqtt.TypePubrec, 7, 0)
		w.publish(mqtt.Publish{QoS: 2, PacketID: 7, Dup: true}, "devices/d/channels/n", "1")
		w.ack(mqtt.TypePubrec, 7, 0)
		_ = w.conn.Close() // PUBREL is lost, and the message comes again on another connection

		w = r.raw(version)
		if a := w.connect(m); !a.SessionPresent {
			t.Fatal("the session is gone")
		}
		w.publish(mqtt.Publish{QoS: 2, PacketID: 7, Dup: true}, "devices/d/channels/n", "1")
		w.ack(mqtt.TypePubrec, 7, 0)
		w.send(mqtt.AppendPubrel(nil, version, 7, 0), nil)
		w.ack(mqtt.TypePubcomp, 7, 0)
		w.publish(mqtt.Publish{QoS: 2, PacketID: 7}, "devices/d/channels/n", "2") // the id is free again
		w.ack(mqtt.TypePubrec, 7, 0)
		if got := r.values(); !slices.Equal(got, []string{"d/n=1", "d/n=2"}) {
			t.Errorf("%q, want each once", got)
		}
	}
}

func TestQoS2SurvivesAConnectionThatIsLostBeforeTheLogHasIt(t *testing.T) {
	r := start(t, setup{})
	open := gate(r)
	w := r.raw(mqtt.Version5)
	m := mqtt.Connect{ClientID: "c"}
	m.Properties.SessionExpiry = 60
	w.connect(m)
	w.publish(mqtt.Publish{QoS: 2, PacketID: 7}, "devices/d/channels/n", "1")
	w.send(mqtt.AppendPingreq(nil), nil)
	w.next() // PINGRESP: the message was taken
	_ = w.conn.Close()
	again := r.raw(mqtt.Version5)
	time.AfterFunc(20*time.Millisecond, open)
	if a := again.connect(m); !a.SessionPresent {
		t.Fatal("the session is gone")
	}
	again.publish(mqtt.Publish{QoS: 2, PacketID: 7, Dup: true}, "devices/d/channels/n", "1")
	again.ack(mqtt.TypePubrec, 7, 0)
	if got := r.values(); !slices.Equal(got, []string{"d/n=1"}) {
		t.Errorf("%q, want it once", got)
	}
}

func TestAFullLogIsNeverAcknowledged(t *testing.T) {
	r := start(t, setup{})
	r.log.SetFaults(mem.Faults{BeforeAppend: func(_ context.Context, id bus.PartitionID, _ []bus.Record) error {
		if id.Topic == bus.Ingested {
			return bus.ErrFull
		}
		return nil
	}})
	w := r.raw(mqtt.Version5)
	w.connect(mqtt.Connect{ClientID: "c"})
	w.publish(mqtt.Publish{QoS: 1, PacketID: 1}, "devices/d/channels/n", "1")
	w.publish(mqtt.Publish{QoS: 1, PacketID: 2}, "devices/d/channels/n", "2")
	w.ended(mqtt.ReasonServerBusy)
	old := r.raw(mqtt.Version311)
	old.connect(mqtt.Connect{ClientID: "c3"})
	old.publish(mqtt.Publish{QoS: 1, PacketID: 1}, "devices/d/channels/n", "1")
	old.closed()
	res, err := client(t).Post(r.url("/v1/devices/d/messages"), "application/json", strings.NewReader(`{"n":1}`))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("HTTP %d, Retry-After %q, want 503 with it", res.StatusCode, res.Header.Get("Retry-After"))
	}
}

func TestStoppingAcknowledgesWhatIsUnderWayAndSaysGoodBye(t *testing.T) {
	r := start(t, setup{})
	open := gate(r)
	w := r.raw(mqtt.Version5)
	w.connect(mqtt.Connect{ClientID: "c"})
	w.publish(mqtt.Publish{QoS: 1, PacketID: 1}, "devices/d/channels/n", "1")
	w.send(mqtt.AppendPingreq(nil), nil)
	w.next()
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	time.AfterFunc(20*time.Millisecond, open)
	w.ack(mqtt.TypePuback, 1, 0)
	w.ended(mqtt.ReasonServerShuttingDown)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if got := r.values(); len(got) != 1 {
		t.Errorf("%q, want the message", got)
	}
	if _, err := mqtt.Dial(t.Context(), mqtt.ClientOptions{Addr: r.addrs["mqtt"]}); err == nil {
		t.Error("the listener is still open")
	}
}

func TestADrainThatTakesTooLongIsCutShort(t *testing.T) {
	r := start(t, setup{cfg: func(c *ingest.Config) { c.Drain = 50 * time.Millisecond }})
	gate(r)
	w := r.raw(mqtt.Version5)
	w.connect(mqtt.Connect{ClientID: "c"})
	w.publish(mqtt.Publish{QoS: 1, PacketID: 1}, "devices/d/channels/n", "1")
	w.send(mqtt.AppendPingreq(nil), nil)
	w.next()
	if err := r.stop(); err == nil {
		t.Error("Run returned nil with a message that is not on disk")
	} else if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	r.stop = func() error { return nil }
}

func TestMuchInFlightStopsReadingAndLosesNothing(t *testing.T) {
	r := start(t, setup{cfg: func(c *ingest.Config) { c.Limits.ConnectionInflight = 4 << 10 }})
	open := gate(r)
	c := r.dial(mqtt.ClientOptions{MaxInflight: 2000})
	for range 2000 {
		if err := c.PublishAsync("devices/d/channels/n", []byte(strings.Repeat("x", 100)), 1, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	open()
	if err := c.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := len(r.records(bus.Ingested)); got != 2000 {
		t.Errorf("%d records, want 2000", got)
	}
}
