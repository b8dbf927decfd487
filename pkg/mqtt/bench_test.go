package mqtt_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/millrace/millrace/pkg/mqtt"
)

// endless gives the same bytes again and again.
type endless struct {
	b  []byte
	at int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.b[e.at:])
	e.at = (e.at + n) % len(e.b)
	return n, nil
}

func benchmarkRead(b *testing.B, v mqtt.Version, p *mqtt.Publish) {
	b.Helper()
	wire, err := mqtt.AppendPublish(nil, v, p)
	if err != nil {
		b.Fatal(err)
	}
	r := mqtt.NewReader(io.Reader(&endless{b: bytes.Repeat(wire, 100)}), 64<<10)
	r.SetVersion(v)
	var m mqtt.Publish
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	for b.Loop() {
		p, err := r.Next()
		if err == nil {
			err = mqtt.ParsePublish(p.Flags, p.Body, v, &m)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

func message() *mqtt.Publish {
	return &mqtt.Publish{
		QoS: 1, PacketID: 10, Topic: []byte("devices/dev-000123/messages/events/"), Payload: bytes.Repeat([]byte("x"), 200),
	}
}

func BenchmarkReadPublish311(b *testing.B) { benchmarkRead(b, v3, message()) }

func BenchmarkReadPublish5(b *testing.B) { benchmarkRead(b, v5, message()) }

func BenchmarkReadPublish5WithProperties(b *testing.B) {
	m := message()
	m.Properties.User = m.Properties.User.With("messageId", "0123456789").With("DeviceType", "RaspberryPiGateway_v1")
	m.Properties.ContentType = []byte("application/json")
	benchmarkRead(b, v5, m)
}

func BenchmarkAppendPuback(b *testing.B) {
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out = mqtt.AppendPuback(out[:0], v5, 10, mqtt.ReasonSuccess)
	}
}

func BenchmarkAppendPublish(b *testing.B) {
	var out []byte
	m := message()
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if out, err = mqtt.AppendPublish(out[:0], v5, m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParsePuback(b *testing.B) {
	body := []byte{0, 10}
	var a mqtt.Ack
	b.ReportAllocs()
	for b.Loop() {
		if err := mqtt.ParseAck(mqtt.TypePuback, body, v5, &a); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	topic := []byte("live/telemetry/dev-000123/temperature")
	b.ReportAllocs()
	for b.Loop() {
		if !mqtt.Match("live/telemetry/+/temperature", topic) {
			b.Fatal("no match")
		}
	}
}
