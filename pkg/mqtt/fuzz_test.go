package mqtt_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/millrace/millrace/pkg/mqtt"
)

// The reader meets any stream with packets or an error, and never holds more than its limit. What parses can be written, and
// reads back as the same.
func FuzzReader(f *testing.F) {
	for _, v := range []mqtt.Version{v3, v5} {
		stream, packets := everything(f, v)
		f.Add(stream, byte(v))
		for _, p := range packets {
			f.Add(p, byte(v))
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte, version byte) {
		v := mqtt.Version(4 + version%2)
		const size, limit = 64, 1000
		r := mqtt.NewReader(bytes.NewReader(stream), size)
		r.SetLimits(limit)
		r.SetVersion(v)
		for {
			p, err := r.Next()
			if n := mqtt.BufferSize(r); n > limit {
				t.Fatalf("the buffer has %d bytes, the limit is %d", n, limit)
			}
			var fault *mqtt.Error
			if err != nil {
				if !errors.As(err, &fault) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatalf("an error of no known kind: %v", err)
				}
				return
			}
			checkRoundTrip(t, p, v)
		}
	})
}

func checkRoundTrip(t *testing.T, p mqtt.Packet, v mqtt.Version) {
	t.Helper()
	m, err := parse(p, v)
	if err != nil {
		var fault *mqtt.Error
		if !errors.As(err, &fault) || !fault.Code.Failed() {
			t.Fatalf("%v: %v, want an *Error with a reason", p.Type, err)
		}
		return
	}
	if c, ok := m.(*mqtt.Connect); ok {
		v = c.Version
	}
	out, err := write(m, v)
	if err != nil {
		if p.Type == mqtt.TypeSubscribe || p.Type == mqtt.TypeUnsubscribe {
			return // filters are judged one by one, behind the parser
		}
		t.Fatalf("%v %x: written again: %v", p.Type, p.Body, err)
	}
	again, err := parse(one(t, out, v), v)
	if err != nil {
		t.Fatalf("%x became %x: %v", p.Body, out, err)
	}
	if twice, err := write(again, v); err != nil || !bytes.Equal(out, twice) {
		t.Fatalf("%x became %x and then %x (%v)", p.Body, out, twice, err)
	}
}

func FuzzParseConnect(f *testing.F) {
	for _, g := range goldens() {
		if p := one(f, unhex(f, g.wire), g.v); p.Type == mqtt.TypeConnect {
			f.Add(p.Body)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		checkRoundTrip(t, mqtt.Packet{Type: mqtt.TypeConnect, Body: body}, 0)
	})
}

func FuzzParsePublish(f *testing.F) {
	for _, g := range goldens() {
		if p := one(f, unhex(f, g.wire), g.v); p.Type == mqtt.TypePublish {
			f.Add(p.Flags, p.Body, g.v == v5)
		}
	}
	f.Fuzz(func(t *testing.T, flags byte, body []byte, five bool) {
		v := v3
		if five {
			v = v5
		}
		checkRoundTrip(t, mqtt.Packet{Type: mqtt.TypePublish, Flags: flags & 0x0f, Body: body}, v)
	})
}

func FuzzParseOthers(f *testing.F) {
	for _, g := range goldens() {
		p := one(f, unhex(f, g.wire), g.v)
		f.Add(byte(p.Type), p.Body, g.v == v5)
	}
	f.Fuzz(func(t *testing.T, kind byte, body []byte, five bool) {
		v := v3
		if five {
			v = v5
		}
		p := mqtt.Packet{Type: mqtt.Type(kind % 16), Body: body}
		if p.Type == 0 {
			return
		}
		checkRoundTrip(t, p, v)
	})
}
