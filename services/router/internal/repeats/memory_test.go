package repeats_test

import (
	"fmt"
	"testing"

	"github.com/millrace/millrace/services/router/internal/repeats"
)

func take(m *repeats.Memory, device, id string) bool { return m.Take(repeats.Hash("t", device, id)) }

func TestARepeatWithinTheWindowIsKnownAndOneBeyondIsNot(t *testing.T) {
	for _, window := range []int{1, 2, 8, 9, 100, 128} {
		m := repeats.New(window, 10)
		for i := range 3 * window {
			if !take(m, "d", fmt.Sprint(i)) {
				t.Fatalf("window %d: id %d was taken for a repeat", window, i)
			}
			for back := range min(window, i+1) {
				if take(m, "d", fmt.Sprint(i-back)) {
					t.Fatalf("window %d: after id %d, id %d was not known", window, i, i-back)
				}
			}
		}
		if !take(m, "d", fmt.Sprint(2*window-1)) {
			t.Fatalf("window %d: an id beyond the window was still known", window)
		}
	}
}

func TestDevicesDoNotShareIDs(t *testing.T) {
	m := repeats.New(4, 10)
	if !take(m, "a", "1") || !take(m, "b", "1") || !m.Take(repeats.Hash("other", "a", "1")) {
		t.Fatal("the id of one device was taken for that of another")
	}
}

func TestBehindIsByEachDevicesOwnNewestTime(t *testing.T) {
	m := repeats.New(4, 2)
	a, b, c := repeats.HashDevice("t", "a"), repeats.HashDevice("t", "b"), repeats.HashDevice("t", "c")
	for i, step := range []struct {
		device   uint64
		at, want int64
	}{{a, 100, 0}, {b, 50, 0}, {a, 90, 10}, {a, 95, 5}, {a, 100, 0}, {b, 60, 0}, {b, 1, 59}} {
		if got := m.Behind(step.device, step.at); got != step.want {
			t.Errorf("step %d: %d behind, want %d", i, got, step.want)
		}
	}
	if dev, _ := repeats.Hash("t", "a", "1"); dev != a {
		t.Error("a device has two hashes")
	}
	_ = m.Behind(c, 7) // one of the two others gives way, with its time
	if m.Devices() != 2 || m.Forgotten() != 1 || m.Behind(c, 6) != 1 {
		t.Errorf("%d devices, %d forgotten", m.Devices(), m.Forgotten())
	}
}

func TestMemoryIsBoundedAndKeepsTheBusyDevices(t *testing.T) {
	m := repeats.New(4, 100)
	for i := range 1000 {
		take(m, "busy", fmt.Sprint(i))
		take(m, fmt.Sprint("passing", i), "1")
		m.Behind(repeats.HashDevice("t", fmt.Sprint("passing", i)), 1)
		if take(m, "busy", fmt.Sprint(i)) {
			t.Fatalf("after %d devices the busy one was forgotten", i)
		}
	}
	if m.Devices() != 100 || m.Forgotten() != 901 {
		t.Fatalf("%d devices, %d forgotten, want 100 and 901", m.Devices(), m.Forgotten())
	}
}

func BenchmarkTake(b *testing.B) {
	m := repeats.New(128, 10_000)
	devices := make([]string, 1000)
	for i := range devices {
		devices[i] = fmt.Sprint("device-", i)
	}
	ids := make([]string, 1<<16)
	for i := range ids {
		ids[i] = fmt.Sprintf("%016x", i)
	}
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		m.Take(repeats.Hash("default", devices[n%len(devices)], ids[(n*7)%len(ids)]))
		n++
	}
}
