package ingest_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/mqtt"
	"github.com/millrace/millrace/services/ingest"
)

// FuzzPackets sends any bytes behind a good CONNECT: the edge answers or closes, and serves the next one.
func FuzzPackets(f *testing.F) {
	publish := func(m mqtt.Publish, v mqtt.Version, topic, payload string) []byte {
		m.Topic, m.Payload = []byte(topic), []byte(payload)
		b, err := mqtt.AppendPublish(nil, v, &m)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	for _, v := range []mqtt.Version{mqtt.Version311, mqtt.Version5} {
		five := v == mqtt.Version5
		f.Add(five, publish(mqtt.Publish{QoS: 1, PacketID: 1}, v, "devices/d/channels/n", "1"))
		f.Add(five, publish(mqtt.Publish{QoS: 2, PacketID: 1}, v, "devices/d/messages/events/a=b", `{"x":1}`))
		f.Add(five, mqtt.AppendPubrel(publish(mqtt.Publish{QoS: 2, PacketID: 1}, v, "devices/d/channels/n", "1"), v, 1, 0))
		sub, err := mqtt.AppendSubscribe(nil, v, &mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "live/#"}}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(five, sub)
		f.Add(five, []byte{0xe0, 0})
		f.Add(five, []byte{0x32, 0xff, 0xff, 0xff, 0x7f})
		f.Add(five, mqtt.AppendPuback(mqtt.AppendPingreq(nil), v, 9, 0))
	}
	r := start(f, setup{bus: null{2}, cfg: func(c *ingest.Config) { c.Limits.PacketTimeout = 50 * time.Millisecond }})
	f.Fuzz(func(t *testing.T, five bool, sent []byte) {
		v := mqtt.Version311
		if five {
			v = mqtt.Version5
		}
		connect, err := mqtt.AppendConnect(nil, &mqtt.Connect{Version: v, ClientID: "c", CleanStart: true})
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", r.addrs["mqtt"])
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Write(append(connect, sent...)); err != nil {
			return // it has closed already
		}
		_ = conn.(*net.TCPConn).CloseWrite()
		reader := mqtt.NewReader(conn, 0)
		reader.SetVersion(v)
		p, err := reader.Next()
		if err != nil || p.Type != mqtt.TypeConnack {
			t.Fatalf("%v %v, want CONNACK first", p.Type, err)
		}
		for err == nil {
			p, err = reader.Next()
		}
		if _, ok := errors.AsType[*mqtt.Error](err); ok {
			t.Fatalf("the edge sent what is no MQTT: %v", err)
		}
	})
}

// FuzzBody posts any body: the answer accounts for it, and no message of another device comes of it.
func FuzzBody(f *testing.F) {
	for _, body := range []string{panel, `{"x":1}`, `[{"bn":"a/","n":"n","v":1}]`, "{}\n[]\n1", "", `[`, `{"a":{"b":[1,2,{}]}}`} {
		f.Add("", body)
		f.Add("gzip", packed(f, "gzip", body))
		f.Add("zstd", packed(f, "zstd", body))
	}
	r := start(f, setup{bus: null{2}})
	f.Fuzz(func(t *testing.T, encoding, body string) {
		if len(body) > 1<<16 {
			return
		}
		req, err := http.NewRequest(http.MethodPost, "/v1/devices/d/messages", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Encoding", encoding)
		w := &recorder{header: http.Header{}}
		r.ingest.Handler().ServeHTTP(w, req)
		switch w.status {
		case 202, 400, 403, 413, 415, 429:
		default:
			t.Fatalf("%d %s", w.status, w.body.String())
		}
		b, err := io.ReadAll(&w.body)
		if err != nil || !bytes.HasPrefix(b, []byte("{")) {
			t.Fatalf("%s", b)
		}
	})
}
