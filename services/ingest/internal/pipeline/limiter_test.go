package pipeline

import (
	"fmt"
	"testing"
	"time"
)

func TestADeviceIsHeldToItsRate(t *testing.T) {
	l := newLimiter(Rates{Messages: Rate{10, 5}, DevicesMax: 1000})
	now := time.Unix(1_700_000_000, 0).UnixNano()
	taken := 0
	for range 100 {
		if _, over := l.charge("a", 1, 100, now, false); over == QuotaNone {
			taken++
		}
	}
	if taken != 6 { // the burst, and the one that is due
		t.Errorf("%d at once, want 6", taken)
	}
	wait, over := l.charge("a", 1, 100, now, false)
	if over != QuotaDeviceMessages || wait <= 0 || wait > 200*time.Millisecond {
		t.Errorf("wait %v, %v; want a tenth of a second", wait, over)
	}
	if _, over := l.charge("a", 1, 100, now+int64(wait), false); over != QuotaNone {
		t.Error("refused after the wait")
	}
	if _, over := l.charge("b", 1, 100, now, false); over != QuotaNone {
		t.Error("another device is refused")
	}
	if wait, over := l.charge("a", 10, 100, now, true); over == QuotaNone || wait < time.Second {
		t.Errorf("forced: %v %v, want it counted and a wait of a second", wait, over)
	}
	if _, over := l.charge("c", 1000, 100, now, false); over != QuotaNone {
		t.Error("a body of more than the burst can never be sent")
	}
	for i := range 1000 { // nobody starves at the rate
		if _, over := l.charge("d", 1, 100, now+int64(i)*int64(100*time.Millisecond), false); over != QuotaNone {
			t.Fatalf("message %d is refused at the rate", i)
		}
	}
}

func TestRatesAreRememberedWithinABound(t *testing.T) {
	l := newLimiter(Rates{Messages: Rate{1, 1}, DevicesMax: 10 * limiterShards})
	now := int64(0)
	for i := range 10_000 {
		now += int64(time.Millisecond)
		l.charge(fmt.Sprint("device", i), 1, 100, now, false)
	}
	for i := range l.shards {
		if n := len(l.shards[i].devices); n > l.perShard {
			t.Errorf("shard %d remembers %d, want at most %d", i, n, l.perShard)
		}
	}
}

func TestADeviceIsHeldToItsBytes(t *testing.T) {
	l := newLimiter(Rates{Messages: Rate{1000, 1000}, Bytes: Rate{1000, 5000}, DevicesMax: 10})
	now := time.Unix(1_700_000_000, 0).UnixNano()
	if _, over := l.charge("a", 1, 6000, now, false); over != QuotaNone {
		t.Errorf("the first body: %v", over)
	}
	if wait, over := l.charge("a", 1, 1, now, false); over != QuotaDeviceBytes || wait != time.Second {
		t.Errorf("%v %v, want a second for the bytes beyond the burst", wait, over)
	}
	if wait, over := l.over("a", now); over != QuotaDeviceBytes || wait != time.Second {
		t.Errorf("asked: %v %v, want the same", wait, over)
	}
	if _, over := l.over("b", now); over != QuotaNone {
		t.Errorf("another device: %v", over)
	}
	if _, over := l.charge("a", 1, 1, now+int64(time.Second), false); over != QuotaNone {
		t.Errorf("after the wait: %v", over)
	}
}

// While all together send more than the tenant may, each device gets its share, and who wants less gets all it wants.
func TestTheTenantsRateIsSharedFairly(t *testing.T) {
	for name, rates := range map[string]Rates{
		"messages": {TenantMessages: Rate{PerSecond: 1000}, DevicesMax: 1000},
		"bytes":    {TenantBytes: Rate{PerSecond: 100_000}, DevicesMax: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLimiter(rates)
			start := time.Unix(1_700_000_000, 0).UnixNano()
			const seconds, steps, modest = 20, 1000, 10
			flood, refused := 0, 0
			for i := range seconds * steps {
				now := start + int64(i)*int64(time.Second)/steps
				for range 20 { // twenty times what all may send
					if _, over := l.charge("flood", 1, 100, now, false); over == QuotaNone {
						flood++
					}
				}
				if i%100 == 0 && i >= 2*steps { // ten messages a second each, when it is known how many there are
					for n := range modest {
						if _, over := l.charge(fmt.Sprint("modest", n), 1, 100, now, false); over != QuotaNone {
							refused++
						}
					}
				}
			}
			if refused > 0 {
				t.Errorf("%d messages of modest devices were refused", refused)
			}
			if perSecond := flood / seconds; perSecond < 800 || perSecond > 1200 {
				t.Errorf("the flood got %d a second, want what the others leave of 1000", perSecond)
			}
		})
	}
}

func TestNoRateIsNoLimit(t *testing.T) {
	if _, over := newLimiter(Rates{}).charge("a", 1_000_000, 1<<40, 1, false); over != QuotaNone {
		t.Error("refused without a rate")
	}
}

func BenchmarkCharge(b *testing.B) {
	l := newLimiter(Rates{Messages: Rate{1_000_000_000, 1}, Bytes: Rate{1 << 40, 1}, DevicesMax: 1000})
	b.ReportAllocs()
	now := int64(0)
	for b.Loop() {
		now += 1000
		l.charge("device0001", 1, 100, now, false)
	}
}
