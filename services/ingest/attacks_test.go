package ingest_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/millrace/millrace/pkg/mqtt"
)

func connects(outcome string) string {
	return fmt.Sprintf("millrace_mqtt_connects_total{outcome=%q}", outcome)
}

func ended(reason string) string {
	return fmt.Sprintf("millrace_mqtt_connections_ended_total{reason=%q}", reason)
}

func faults(packet, reason string) string {
	return fmt.Sprintf("millrace_mqtt_faults_total{packet=%q,reason=%q}", packet, reason)
}

func turnedAway(reason string) string {
	return fmt.Sprintf("millrace_mqtt_connections_turned_away_total{reason=%q}", reason)
}

func answered(status int) string {
	return fmt.Sprintf("millrace_ingest_http_answers_total{status=\"%d\"}", status)
}

const noRequest = `millrace_http_connections_failed_total{reason="no_request"}`

// connected returns a CONNECT with sent behind it. The client id is empty: each connection is a client of its own.
func connected(t *testing.T, v mqtt.Version, sent ...byte) []byte {
	t.Helper()
	b, err := mqtt.AppendConnect(nil, &mqtt.Connect{Version: v, CleanStart: true})
	if err != nil {
		t.Fatal(err)
	}
	return append(b, sent...)
}

func mqttAttacks(t *testing.T) []attack {
	t.Helper()
	connect := connected(t, mqtt.Version5)
	hello := append([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, make([]byte, 506)...)
	alias, err := mqtt.AppendPublish(nil, mqtt.Version5, &mqtt.Publish{
		Topic: []byte("devices/a/channels/b"), Properties: mqtt.Properties{TopicAlias: 33},
	})
	if err != nil {
		t.Fatal(err)
	}
	will := func(n int) []byte {
		b, err := mqtt.AppendConnect(nil, &mqtt.Connect{
			Version: mqtt.Version5, CleanStart: true, Will: &mqtt.Will{Topic: "devices/a/channels/b", Payload: make([]byte, n)},
		})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	return []attack{
		{name: "half a CONNECT", port: "mqtt", conns: 10, send: connect[:8], counts: connects("no_connect_in_time")},
		{name: "a CONNECT byte by byte", port: "mqtt", conns: 5, drip: connected(t, mqtt.Version5, make([]byte, 60)...)[:5], counts: connects("no_connect_in_time")},
		{name: "a CONNECT that is too large", port: "mqtt", conns: 5, send: []byte{0x10, 0xff, 0xff, 0x7f}, counts: connects("connect_too_large")},
		{name: "another packet first", port: "mqtt", conns: 5, send: []byte{0xc0, 0}, counts: connects("no_mqtt")},
		{name: "HTTP where MQTT is spoken", port: "mqtt", conns: 5, send: []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), counts: connects("no_mqtt")},
		{name: "TLS where MQTT is spoken", port: "mqtt", conns: 5, send: hello, counts: connects("no_mqtt")},
		{name: "MQTT where TLS is spoken", port: "mqtts", conns: 5, send: connect, counts: connects("tls_failed")},
		{name: "garbage where TLS is spoken", port: "mqtts", conns: 5, send: bytes.Repeat([]byte{0x5a}, 5000), counts: connects("tls_failed")},
		{name: "half a TLS hello", port: "mqtts", conns: 5, send: hello[:40], counts: connects("no_connect_in_time")},
		{name: "a malformed CONNECT", port: "mqtt", conns: 5, send: append([]byte{0x10, 12, 0, 4}, "MQTT\x05\x03\x00\x0a\x00\x00"...), counts: faults("CONNECT", "0x81")},
		{name: "a will that is too large", port: "mqtt", conns: 5, send: will(60_000), counts: connects("refused")},
		{name: "a PUBLISH byte by byte", port: "mqtt", conns: 5, send: append(bytes.Clone(connect), 0x30, 100), drip: make([]byte, 90), counts: ended("packet_not_completed_in_time")},
		{name: "a PUBLISH that is too large", port: "mqtt", conns: 5, send: connected(t, mqtt.Version5, 0x30, 0xff, 0xff, 0xff, 0x7f), counts: faults("PUBLISH", "0x95")},
		{name: "a length without end", port: "mqtt", conns: 5, send: connected(t, mqtt.Version311, 0x30, 0x80, 0x80, 0x80, 0x80), counts: faults("PUBLISH", "0x81")},
		{name: "more topic aliases than announced", port: "mqtt", conns: 5, send: append(bytes.Clone(connect), alias...), counts: faults("PUBLISH", "0x94")},
		{name: "CONNECT twice", port: "mqtt", conns: 5, send: append(bytes.Clone(connect), connect...), counts: faults("CONNECT", "0x82")},
		{name: "subscriptions without end", port: "mqtt", conns: 5, send: append(append(bytes.Clone(connect), manyFilters(t)...), 0xe0, 0), counts: `millrace_mqtt_subscriptions_refused_total`},
	}
}

// manyFilters is one SUBSCRIBE of 1,000 filters.
func manyFilters(t *testing.T) []byte {
	t.Helper()
	s := mqtt.Subscribe{PacketID: 1}
	for i := range 1000 {
		s.Subscriptions = append(s.Subscriptions, mqtt.Subscription{Filter: fmt.Sprintf("live/%d", i)})
	}
	b, err := mqtt.AppendSubscribe(nil, mqtt.Version5, &s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// request is one with this body, and headers that each end in a line break.
func request(body, headers string) []byte {
	return []byte("POST /v1/devices/hostile/messages HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + headers +
		fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body)) + body)
}

func httpAttacks(t *testing.T) []attack {
	t.Helper()
	deep := strings.Repeat("[", 100_000)
	zeros := bomb(t, "gzip", 64<<20)
	return []attack{
		{name: "half a header", port: "http", conns: 5, send: []byte("POST /v1/messages HTTP/1.1\r\nHost: a\r\nX-A: "), counts: noRequest, within: 8 * time.Second},
		{name: "a header byte by byte", port: "http", conns: 5, drip: []byte(strings.Repeat("X-A: b\r\n", 200)), counts: noRequest, within: 8 * time.Second},
		{name: "half a body", port: "http", conns: 20, send: []byte("POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{"), want: "408", counts: answered(408)},
		{name: "a body byte by byte", port: "http", conns: 5, send: []byte("POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"), drip: make([]byte, 900), want: "408", counts: answered(408)},
		{name: "headers that are too large", port: "http", conns: 5, send: []byte("GET / HTTP/1.1\r\nHost: a\r\nX-A: " + strings.Repeat("x", 40<<10) + "\r\n\r\n"), want: "431", counts: noRequest},
		{name: "what is no HTTP", port: "http", conns: 5, send: bytes.Repeat([]byte{0xff, '\n'}, 100), want: "400", counts: noRequest},
		{name: "TLS where HTTP is spoken", port: "http", conns: 5, send: append([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, make([]byte, 600)...), counts: noRequest},
		{name: "a body that is too large", port: "http", conns: 5, send: []byte("POST /v1/messages HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 99999999999\r\n\r\n"), want: "413", counts: answered(413)},
		{name: "a bomb of deflate", port: "http", conns: 5, send: request(bomb(t, "deflate", 64<<20), "Content-Encoding: deflate\r\n"), want: "415", counts: answered(415)},
		{name: "a bomb in a bomb", port: "http", conns: 5, send: request(packed(t, "gzip", zeros), "Content-Encoding: gzip, gzip\r\n"), want: "415", counts: answered(415)},
		{name: "JSON too deep", port: "http", conns: 5, send: request(deep, ""), want: "400", counts: `millrace_ingest_rejected_total{protocol="http",reason="malformed"}`},
		{name: "JSON in JSON too deep", port: "http", conns: 5, send: request(`{"a":`+strings.Repeat(`{"a":`, 50_000), ""), want: "400", counts: answered(400)},
	}
}

// floods are those that fill what there is; they come when the others are done. Who finds no memory is answered 503.
func floods(t *testing.T) []attack {
	t.Helper()
	half := append([]byte{0x30, 0x80, 0x80, 0x0f}, make([]byte, 200_000)...) // of a PUBLISH of 245,760 bytes
	zeros := bomb(t, "gzip", 64<<20)
	return []attack{
		{name: "half a PUBLISH", port: "mqtt", conns: 200, send: connected(t, mqtt.Version5, half...), counts: ended("no_memory_for_a_large_packet")},
		{name: "a chunked body that is too large", port: "http", conns: 3, send: chunked(5 << 20), want: " 413 | 503 | 408 ", counts: answered(413)},
		{name: "a bomb of gzip", port: "http", conns: 8, send: request(zeros, "Content-Encoding: gzip\r\n"), want: " 413 | 503 | 408 ", counts: answered(413)},
		{name: "a bomb of zstd", port: "http", conns: 3, send: request(bomb(t, "zstd", 64<<20), "Content-Encoding: zstd\r\n"), want: " 413 | 503 | 408 ", counts: answered(413)},
		{name: "a bomb in what is no bomb", port: "http", conns: 3, send: request(packed(t, "gzip", zeros), "Content-Encoding: gzip\r\n"), want: "400|503|408", counts: answered(400)},
		{name: "a body that breaks off while it is unpacked", port: "http", conns: 5, send: request(zeros[:1000], "Content-Encoding: gzip\r\n"), want: "HTTP/1.1 4|503"},
		{name: "records without end", port: "http", conns: 3, send: request(strings.Repeat("[]\n", 1<<20), ""), want: "400|503|408", counts: answered(400)},
		{name: "connections that say nothing", port: "mqtt", conns: 390, counts: turnedAway("handshakes")},
		{name: "connections to HTTP that say nothing", port: "http", conns: 300, send: []byte("P"), counts: noRequest, within: 8 * time.Second},
	}
}

// crowds are good connections of which one address has too many.
func crowds(t *testing.T) []attack {
	t.Helper()
	return []attack{
		{name: "connections from one address", port: "mqtt", conns: 600, send: connected(t, mqtt.Version311), hold: true, counts: turnedAway("address")},
	}
}

func chunked(n int) []byte {
	var b bytes.Buffer
	b.WriteString("POST /v1/messages HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
	chunk := strings.Repeat(" ", 1<<20)
	for range n >> 20 {
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(chunk), chunk)
	}
	b.WriteString("0\r\n\r\n")
	return b.Bytes()
}

// bomb packs n zeros.
func bomb(t *testing.T, encoding string, n int) string {
	t.Helper()
	var b strings.Builder
	var z io.WriteCloser
	switch encoding {
	case "gzip":
		z = gzip.NewWriter(&b)
	case "deflate":
		w, err := flate.NewWriter(&b, flate.DefaultCompression)
		if err != nil {
			t.Fatal(err)
		}
		z = w
	default:
		w, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		z = w
	}
	block := make([]byte, 1<<20)
	for range n >> 20 {
		if _, err := z.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
