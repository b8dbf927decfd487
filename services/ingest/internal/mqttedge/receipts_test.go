package mqttedge

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/mqtt"
)

// TestAnswersKeepTheOrderOfTheirPackets lets lanes report in any interleaving and amounts.
func TestAnswersKeepTheOrderOfTheirPackets(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 300 {
		const lanes = 3
		var q receipts
		ls := make([]lane, lanes)
		left := make([]int, lanes)
		next := uint16(0)
		answer := func() {
			for {
				r, ok := q.next()
				if !ok {
					return
				}
				if next++; r.id != next {
					t.Fatalf("seed %d: answer %d, want %d", seed, r.id, next)
				}
			}
		}
		const n = 200
		for id := uint16(1); id <= n; id++ {
			records := rng.IntN(4)
			seq := q.add(&receipt{id: id, kind: mqtt.TypePuback, pending: uint32(records), size: 10})
			for range records {
				l := rng.IntN(lanes)
				ls[l].expect(seq)
				left[l]++
				q.unreported++
			}
			if l := rng.IntN(lanes); left[l] > 0 && rng.IntN(3) == 0 {
				k := 1 + rng.IntN(left[l])
				ls[l].report(&q, k, false)
				left[l] -= k
			}
			answer()
		}
		for l := range ls {
			ls[l].report(&q, left[l], false)
		}
		answer()
		if next != n || q.bytes != 0 || q.unreported != 0 {
			t.Fatalf("seed %d: %d answers, %d bytes, %d unreported; want %d, 0, 0", seed, next, q.bytes, q.unreported, n)
		}
	}
}

func TestNothingIsAnsweredBehindWhatFailed(t *testing.T) {
	var q receipts
	var a, b lane
	for id := range uint16(3) {
		seq := q.add(&receipt{id: id, pending: 1})
		if id == 1 {
			a.expect(seq)
		} else {
			b.expect(seq)
		}
	}
	q.unreported = 3
	a.report(&q, 1, true)
	b.report(&q, 2, false)
	if r, ok := q.next(); !ok || r.id != 0 {
		t.Errorf("%v %v, want the first", r, ok)
	}
	if r, ok := q.next(); ok {
		t.Errorf("%v is answered behind what failed", r)
	}
	var ids []uint16
	for r := range q.unanswered {
		ids = append(ids, r.id)
	}
	if len(ids) != 2 || q.unreported != 0 {
		t.Errorf("unanswered %v, unreported %d", ids, q.unreported)
	}
}

func BenchmarkReceipts(b *testing.B) {
	var q receipts
	var l lane
	b.ReportAllocs()
	for b.Loop() {
		for id := range uint16(100) {
			l.expect(q.add(&receipt{id: id, pending: 1}))
		}
		l.report(&q, 100, false)
		for {
			if _, ok := q.next(); !ok {
				break
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/message")
}
