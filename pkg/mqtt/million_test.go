package mqtt_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/millrace/millrace/pkg/mqtt"
)

// mutate spoils a packet in one to three ways.
func mutate(rng *rand.Rand, packets [][]byte) []byte {
	b := bytes.Clone(packets[rng.IntN(len(packets))])
	for range 1 + rng.IntN(3) {
		at := rng.IntN(len(b) + 1)
		switch rng.IntN(8) {
		case 0: // a bit
			if at < len(b) {
				b[at] ^= 1 << rng.IntN(8)
			}
		case 1: // a byte that means something
			if at < len(b) {
				b[at] = []byte{0, 1, 0x7f, 0x80, 0xff}[rng.IntN(5)]
			}
		case 2: // cut off
			b = b[:at]
		case 3: // a byte too many
			b = slices.Insert(b, at, byte(rng.Uint32()))
		case 4: // a part twice
			end := at + rng.IntN(len(b)-at+1)
			b = slices.Insert(b, end, bytes.Clone(b[at:end])...)
		case 5: // another length
			if len(b) > 1 {
				b[1] = byte(rng.Uint32())
			}
		case 6: // the head of one, the rest of another
			other := packets[rng.IntN(len(packets))]
			b = append(b[:at], other[min(at, len(other)):]...)
		case 7: // another type
			if len(b) > 0 {
				b[0] = byte(rng.Uint32())
			}
		}
		if len(b) == 0 {
			b = []byte{byte(rng.Uint32())}
		}
	}
	return b
}

// Each is refused with a reason, or waits for the rest; none costs more memory than its bytes allow.
func TestAMillionMalformedPackets(t *testing.T) {
	want, limit := 1_000_000, 4<<10
	if testing.Short() || raceOn {
		want = 50_000
	}
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 5))
	all := map[mqtt.Version][][]byte{}
	for _, v := range []mqtt.Version{v3, v5} {
		_, all[v] = everything(t, v)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	malformed, incomplete, sent, bytesSent := 0, 0, 0, 0
	reasons := map[mqtt.Reason]int{}
	for malformed < want {
		v := []mqtt.Version{v3, v5}[sent%2]
		stream := mutate(rng, all[v])
		sent, bytesSent = sent+1, bytesSent+len(stream)
		r := mqtt.NewReader(bytes.NewReader(stream), 64)
		r.SetLimits(limit)
		r.SetVersion(v)
		p, err := r.Next()
		if err == nil {
			_, err = parse(p, v)
		}
		if n := mqtt.BufferSize(r); n > limit {
			t.Fatalf("seed %d: %x: a buffer of %d bytes", seed, stream, n)
		}
		var fault *mqtt.Error
		switch {
		case err == nil: // it was spoilt into another packet
		case errors.As(err, &fault) && fault.Code.Failed():
			malformed++
			reasons[fault.Code]++
		case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
			incomplete++
		default:
			t.Fatalf("seed %d: %x: %v, want an *Error with a reason", seed, stream, err)
		}
	}
	runtime.ReadMemStats(&after)
	perPacket := (after.TotalAlloc - before.TotalAlloc) / uint64(sent)
	if perPacket > 2<<10 {
		t.Errorf("%d bytes are allocated for each packet of %d", perPacket, bytesSent/sent)
	}
	t.Logf("%d packets of %d bytes: %d malformed %v, %d incomplete; %d bytes allocated for each", sent, bytesSent/sent, malformed, reasons, incomplete, perPacket)
}
