package pipeline

import (
	"fmt"
	"testing"
	"time"
)

func TestADeviceIsHeldToItsRate(t *testing.T) {
	l := newLimiter(10, 5, 1000)
	now := time.Unix(1_700_000_000, 0).UnixNano()
	taken := 0
	for range 100 {
		if _, ok := l.charge("a", 1, now, false); ok {
			taken++
		}
	}
	if taken != 6 { // the burst, and the one that is due
		t.Errorf("%d at once, want 6", taken)
	}
	wait, ok := l.charge("a", 1, now, false)
	if ok || wait <= 0 || wait > 200*time.Millisecond {
		t.Errorf("wait %v, taken %v; want a tenth of a second", wait, ok)
	}
	if _, ok := l.charge("a", 1, now+int64(wait), false); !ok {
		t.Error("refused after the wait")
	}
	if _, ok := l.charge("b", 1, now, false); !ok {
		t.Error("another device is refused")
	}
	if wait, ok := l.charge("a", 10, now, true); !ok || wait < time.Second {
		t.Errorf("forced: %v %v, want it counted and a wait of a second", wait, ok)
	}
	if _, ok := l.charge("c", 1000, now, false); !ok {
		t.Error("a body of more than the burst can never be sent")
	}
	for i := range 1000 { // nobody starves at the rate
		if _, ok := l.charge("d", 1, now+int64(i)*int64(100*time.Millisecond), false); !ok {
			t.Fatalf("message %d is refused at the rate", i)
		}
	}
}

func TestRatesAreRememberedWithinABound(t *testing.T) {
	l := newLimiter(1, 1, 10*limiterShards)
	now := int64(0)
	for i := range 10_000 {
		now += int64(time.Millisecond)
		l.charge(fmt.Sprint("device", i), 1, now, false)
	}
	for i := range l.shards {
		if n := len(l.shards[i].devices); n > l.perShard {
			t.Errorf("shard %d remembers %d, want at most %d", i, n, l.perShard)
		}
	}
}

func TestNoRateIsNoLimit(t *testing.T) {
	if _, ok := newLimiter(0, 0, 1).charge("a", 1_000_000, 1, false); !ok {
		t.Error("refused without a rate")
	}
}

func BenchmarkCharge(b *testing.B) {
	l := newLimiter(1_000_000_000, 1, 1000)
	b.ReportAllocs()
	now := int64(0)
	for b.Loop() {
		now += 1000
		l.charge("device0001", 1, now, false)
	}
}
