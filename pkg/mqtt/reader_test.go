package mqtt_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"testing/iotest"

	"github.com/millrace/millrace/pkg/mqtt"
)

// everything returns the packets of one version, as one stream and one by one.
func everything(tb testing.TB, v mqtt.Version) (stream []byte, packets [][]byte) {
	tb.Helper()
	for _, g := range goldens() {
		if g.v == v {
			wire := unhex(tb, g.wire)
			stream, packets = append(stream, wire...), append(packets, wire)
		}
	}
	return stream, packets
}

func TestReaderFindsTheSamePacketsHoweverTheStreamIsCut(t *testing.T) {
	for _, v := range []mqtt.Version{v3, v5} {
		stream, packets := everything(t, v)
		random := rand.New(rand.NewPCG(1, 2))
		for name, src := range map[string]io.Reader{
			"whole":          bytes.NewReader(stream),
			"byte by byte":   iotest.OneByteReader(bytes.NewReader(stream)),
			"halves":         iotest.HalfReader(bytes.NewReader(stream)),
			"with the error": iotest.DataErrReader(bytes.NewReader(stream)),
			"random":         readerFunc(func(b []byte) int { return 1 + random.IntN(min(len(b), 40)) }, stream),
		} {
			r := mqtt.NewReader(src, 64)
			r.SetVersion(v)
			for i, want := range packets {
				p, err := r.Next()
				if err != nil {
					t.Fatalf("%s: packet %d: %v", name, i, err)
				}
				if first := byte(p.Type)<<4 | p.Flags; first != want[0] || !bytes.HasSuffix(want, p.Body) {
					t.Errorf("%s: packet %d: got %02x %x, want %x", name, i, first, p.Body, want)
				}
			}
			if _, err := r.Next(); err != io.EOF { //nolint:errorlint // the promise is io.EOF itself
				t.Errorf("%s: at the end: %v, want EOF", name, err)
			}
		}
	}
}

type cutReader struct {
	cut  func([]byte) int
	rest []byte
}

func readerFunc(cut func([]byte) int, b []byte) io.Reader { return &cutReader{cut, b} }

func (r *cutReader) Read(b []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:r.cut(b)], r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func TestBufferedPacketsStayValidTogether(t *testing.T) {
	stream, packets := everything(t, v5)
	r := mqtt.NewReader(bytes.NewReader(stream), len(stream)+1)
	if r.Buffered() {
		t.Error("buffered before the first read")
	}
	var bodies [][]byte
	for {
		p, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, p.Body)
		if !r.Buffered() {
			break
		}
	}
	if len(bodies) != len(packets) {
		t.Fatalf("%d packets with one read, want %d", len(bodies), len(packets))
	}
	for i, b := range bodies {
		if !bytes.HasSuffix(packets[i], b) {
			t.Errorf("packet %d was overwritten: %x, want the end of %x", i, b, packets[i])
		}
	}
}

func TestHalfAPacketSurvivesATimeout(t *testing.T) {
	wire := unhex(t, "32 0c 0003 'a/b' 000a 'hello'")
	src := io.MultiReader(bytes.NewReader(wire[:5]), iotest.ErrReader(os.ErrDeadlineExceeded))
	r := mqtt.NewReader(src, 0)
	if _, err := r.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, want the timeout", err)
	}
	if r.Unread() != 5 || r.Buffered() {
		t.Errorf("%d bytes unread, want 5, and no whole packet", r.Unread())
	}

	src = &onceTimeout{data: wire, at: 5}
	r = mqtt.NewReader(src, 0)
	if _, err := r.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, want the timeout", err)
	}
	if p, err := r.Next(); err != nil || !bytes.HasSuffix(p.Body, []byte("hello")) {
		t.Errorf("after the timeout: %x, %v", p.Body, err)
	}
}

// onceTimeout gives at bytes, then a timeout, then the rest.
type onceTimeout struct {
	data []byte
	at   int
}

func (r *onceTimeout) Read(b []byte) (int, error) {
	switch {
	case r.at < 0:
		n := copy(b, r.data)
		r.data = r.data[n:]
		return n, nil
	case r.at == 0:
		r.at = -1
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(b, r.data[:r.at])
	r.data, r.at = r.data[n:], 0
	return n, nil
}

func TestTheEndWithinAPacketIsUnexpected(t *testing.T) {
	for n := 1; n < 14; n++ {
		r := mqtt.NewReader(bytes.NewReader(unhex(t, "32 0c 0003 'a/b' 000a 'hello'")[:n]), 0)
		if _, err := r.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after %d bytes: %v, want %v", n, err, io.ErrUnexpectedEOF)
		}
	}
}

func TestMemoryFollowsTheBytesNotTheDeclaredLength(t *testing.T) {
	head := append([]byte{0x30, 0xff, 0xff, 0xff, 0x7f}, make([]byte, 1000)...) // declares 256 MiB, sends 1000 bytes
	var r *mqtt.Reader
	used := testing.Benchmark(func(b *testing.B) {
		b.Helper()
		b.ReportAllocs()
		for b.Loop() {
			r = mqtt.NewReader(bytes.NewReader(head), 64)
			r.SetLimits(mqtt.RemainingMax + 5)
			if _, err := r.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
				b.Fatal(err)
			}
		}
	}).AllocedBytesPerOp()
	if used > 8<<10 {
		t.Errorf("%d bytes allocated for 1005 received", used)
	}
}

func TestPacketsUpToTheLimitPass(t *testing.T) {
	for _, size := range []int{64, 100, 4096, 65_536, 65_537, 200_000} {
		wire, err := mqtt.AppendPublish(nil, v3, &mqtt.Publish{Topic: []byte("t"), Payload: bytes.Repeat([]byte("p"), size)})
		if err != nil {
			t.Fatal(err)
		}
		stream := append(bytes.Clone(wire), wire...)
		r := mqtt.NewReader(iotest.HalfReader(bytes.NewReader(stream)), 64)
		r.SetLimits(len(wire))
		for range 2 {
			if p, err := r.Next(); err != nil || len(p.Body) != size+3 {
				t.Errorf("%d bytes: got %d, %v", size, len(p.Body), err)
			}
		}
		r = mqtt.NewReader(bytes.NewReader(wire), 64)
		r.SetLimits(len(wire) - 1)
		var fault *mqtt.Error
		if _, err := r.Next(); !errors.As(err, &fault) || fault.Code != mqtt.ReasonPacketTooLarge {
			t.Errorf("one byte too many: %v", err)
		}
	}
}

func TestALargeBufferIsGivenBack(t *testing.T) {
	large, err := mqtt.AppendPublish(nil, v3, &mqtt.Publish{Topic: []byte("t"), Payload: make([]byte, 100_000)})
	if err != nil {
		t.Fatal(err)
	}
	ping := []byte{0xc0, 0}
	src := io.MultiReader(bytes.NewReader(large), iotest.OneByteReader(bytes.NewReader(bytes.Repeat(ping, 500))))
	r := mqtt.NewReader(src, 64)
	for range 501 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if n := mqtt.BufferSize(r); n != 64 {
		t.Errorf("the buffer has %d bytes, want 64 again", n)
	}
}

func TestReadingAndAcknowledgingDoesNotAllocate(t *testing.T) {
	wire := unhex(t, "32 14 0003 'a/b' 000a 07 26 0001 'k' 0001 'v' 'hello'")
	src := bytes.NewReader(wire)
	r := mqtt.NewReader(src, 0)
	var m mqtt.Publish
	var out []byte
	pairs := 0
	if n := testing.AllocsPerRun(100, func() {
		src.Reset(wire)
		p, err := r.Next()
		if err == nil {
			err = mqtt.ParsePublish(p.Flags, p.Body, v5, &m)
		}
		if err != nil {
			t.Fatal(err)
		}
		for range m.Properties.User.All() {
			pairs++
		}
		out = mqtt.AppendPuback(out[:0], v5, m.PacketID, mqtt.ReasonSuccess)
	}); n != 0 || pairs == 0 {
		t.Errorf("%v allocations a message, %d pairs", n, pairs)
	}
}
