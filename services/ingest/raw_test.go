package ingest_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/mqtt"
)

// raw speaks MQTT packet by packet, so that a test decides what is sent when.
type raw struct {
	t       testing.TB
	conn    net.Conn
	reader  *mqtt.Reader
	version mqtt.Version
}

func (r *rig) raw(v mqtt.Version) *raw {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.addrs["mqtt"])
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	return &raw{t: r.t, conn: conn, reader: mqtt.NewReader(conn, 0), version: v}
}

func (w *raw) send(b []byte, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.conn.Write(b); err != nil {
		w.t.Fatal(err)
	}
}

// connect sends CONNECT and returns the answer.
func (w *raw) connect(m mqtt.Connect) mqtt.Connack {
	w.t.Helper()
	m.Version = w.version
	w.send(mqtt.AppendConnect(nil, &m))
	p := w.next()
	if p.Type != mqtt.TypeConnack {
		w.t.Fatalf("%v, want CONNACK", p.Type)
	}
	a, err := mqtt.ParseConnack(append([]byte(nil), p.Body...), w.version)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

func (w *raw) publish(m mqtt.Publish, topic, payload string) {
	w.t.Helper()
	m.Topic, m.Payload = []byte(topic), []byte(payload)
	w.send(mqtt.AppendPublish(nil, w.version, &m))
}

func (w *raw) next() mqtt.Packet {
	w.t.Helper()
	p, err := w.reader.Next()
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// ack expects an acknowledgement.
func (w *raw) ack(kind mqtt.Type, id uint16, reason mqtt.Reason) {
	w.t.Helper()
	p := w.next()
	var a mqtt.Ack
	if p.Type != kind {
		w.t.Fatalf("%v, want %v", p.Type, kind)
	}
	if err := mqtt.ParseAck(p.Type, p.Body, w.version, &a); err != nil {
		w.t.Fatal(err)
	}
	if a.PacketID != id || a.Reason != reason {
		w.t.Fatalf("%v %d %v, want %d %v", kind, a.PacketID, a.Reason, id, reason)
	}
}

// ended expects the end of the connection, in MQTT 5 with a DISCONNECT of this reason.
func (w *raw) ended(reason mqtt.Reason) {
	w.t.Helper()
	if w.version == mqtt.Version5 && reason != 0 {
		p := w.next()
		d, err := mqtt.ParseDisconnect(p.Body, w.version)
		if p.Type != mqtt.TypeDisconnect || err != nil || d.Reason != reason {
			w.t.Fatalf("%v %v %v, want DISCONNECT %v", p.Type, d.Reason, err, reason)
		}
	}
	w.closed()
}

// closed expects that the other side has closed.
func (w *raw) closed() {
	w.t.Helper()
	p, err := w.reader.Next()
	if timeout, ok := errors.AsType[net.Error](err); err == nil || ok && timeout.Timeout() {
		w.t.Fatalf("%v %v, want a closed connection", p.Type, err)
	}
}

// silent expects that nothing comes for a while.
func (w *raw) silent(d time.Duration) {
	w.t.Helper()
	_ = w.conn.SetReadDeadline(time.Now().Add(d))
	p, err := w.reader.Next()
	if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
		w.t.Fatalf("%v %v, want silence", p.Type, err)
	}
	_ = w.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
}
