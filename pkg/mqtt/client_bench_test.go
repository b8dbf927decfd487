package mqtt_test

import (
	"bytes"
	"testing"

	"github.com/millrace/millrace/pkg/mqtt"
)

// One connection, against a peer that does nothing but acknowledge.
func BenchmarkClientQoS1(b *testing.B) {
	s := (&peer{sink: true}).start(b, nil)
	c := dial(b, mqtt.ClientOptions{Addr: s.addr, MaxInflight: 5000, Version: mqtt.Version311})
	payload := bytes.Repeat([]byte("x"), 200)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.PublishAsync("devices/dev-000123/messages/events/", payload, 1, nil, nil); err != nil {
			b.Fatal(err)
		}
	}
	if err := c.Drain(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
}
