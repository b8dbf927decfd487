package bus_test

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/millrace/millrace/pkg/bus"
)

func at(seq uint64, index uint32) bus.Position { return bus.Position{Seq: seq, Index: index} }

func TestPositionsCompareBySequenceThenIndex(t *testing.T) {
	rising := []bus.Position{{}, at(0, 1), at(1, 0), at(1, 1), at(2, 0), at(math.MaxUint64, math.MaxUint32)}
	for i, p := range rising {
		for k, q := range rising {
			if want := min(max(i-k, -1), 1); p.Compare(q) != want {
				t.Errorf("%s to %s is %d, want %d", p, q, p.Compare(q), want)
			}
		}
	}
	if !rising[0].IsZero() || rising[1].IsZero() || (bus.Origin{Partition: 1}).Known() || !(bus.Origin{Position: rising[1]}).Known() {
		t.Error("only the zero position is none")
	}
}

func TestAPositionIsReadBackFromItsText(t *testing.T) {
	for _, p := range []bus.Position{{}, at(81, 5), at(math.MaxUint64, math.MaxUint32)} {
		if got, err := bus.ParsePosition(p.String()); err != nil || got != p {
			t.Errorf("%s: %s, %v", p, got, err)
		}
	}
	for _, s := range []string{"", "1", ".", "1.", ".1", "-1.0", "1.-1", "1.2.3", "18446744073709551616.0", "0.4294967296", " 1.0", "1.x"} {
		if p, err := bus.ParsePosition(s); err == nil {
			t.Errorf("%q is %s", s, p)
		}
	}
	if s := (bus.PartitionID{Topic: "telemetry", Number: 3}).String(); s != "telemetry[3]" {
		t.Error(s)
	}
}

func TestAnOriginIsTakenOnceAndOnlyIfAboveTheLastOfItsPartition(t *testing.T) {
	var taken bus.Origins
	for i, c := range []struct {
		partition int32
		position  bus.Position
		want      bool
	}{
		{3, at(5, 1), true},
		{3, at(5, 1), false},
		{3, at(5, 0), false},
		{3, at(5, 2), true},
		{3, at(4, 9), false},
		{1, at(1, 0), true},
		{7, at(1, 0), true},
		{1, at(1, 0), false},
		{3, at(6, 0), true},
		{7, at(1, 1), true},
		{1, bus.Position{}, true},
		{1, bus.Position{}, true}, // unknown origins are always taken
	} {
		if got := taken.Take(bus.Origin{Partition: c.partition, Position: c.position}); got != c.want {
			t.Errorf("%d: %d %s: %v", i, c.partition, c.position, got)
		}
	}
	want := bus.Origins{{Partition: 1, Position: at(1, 0)}, {Partition: 3, Position: at(6, 0)}, {Partition: 7, Position: at(1, 1)}}
	if !slices.Equal(taken, want) {
		t.Errorf("%v, want %v", taken, want)
	}
	before := bus.Progress{Origins: taken}
	after := before.Clone()
	taken.Take(bus.Origin{Partition: 1, Position: at(9, 9)})
	if !slices.Equal(after.Origins, want) {
		t.Error("a clone shares its origins")
	}
}

func progresses() []bus.Progress {
	return []bus.Progress{
		{},
		{Through: at(1, 0)},
		{Through: at(math.MaxUint64, math.MaxUint32), Origins: bus.Origins{{Partition: 0, Position: at(300, 2)}, {Partition: 1 << 20, Position: at(1, 1)}}},
	}
}

func TestProgressIsReadBackFromItsBytes(t *testing.T) {
	for _, p := range progresses() {
		b := p.AppendBinary(nil)
		if got, err := bus.ParseProgress(b); err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("%v: %v, %v", p, got, err)
		}
		for i := range b {
			if got, err := bus.ParseProgress(b[:i]); err == nil {
				t.Errorf("%v cut to %d bytes is %v", p, i, got)
			}
		}
		if _, err := bus.ParseProgress(append(b, 0)); err == nil {
			t.Errorf("%v with a byte too many", p)
		}
	}
}

func FuzzParseProgress(f *testing.F) {
	for _, p := range progresses() {
		f.Add(p.AppendBinary(nil))
	}
	f.Add([]byte{1, 0, 0, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := bus.ParseProgress(b)
		if err != nil {
			return
		}
		again, err := bus.ParseProgress(p.AppendBinary(nil))
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Fatalf("%v, then %v, %v", p, again, err)
		}
	})
}

// What is on disk was placed by these figures, so they are fixed for good.
func TestADevicesPartitionNeverChanges(t *testing.T) {
	got := ""
	for _, device := range []string{"homecontroller", "dev1", "", "ü"} {
		got += fmt.Sprint(bus.PartitionOf("default", device, 4), bus.PartitionOf("acme", device, 1000), " ")
	}
	if got != partitionsOfDevices {
		t.Errorf("got %q, want %q", got, partitionsOfDevices)
	}
	if bus.PartitionOf("a", "b", 1) != 0 || bus.PartitionOf("a", "b", 0) != 0 {
		t.Error("one partition is number 0")
	}
	if bus.PartitionOf("a", "bc", 1<<30) == bus.PartitionOf("ab", "c", 1<<30) {
		t.Error("tenant and device run into each other")
	}
}

const partitionsOfDevices = "3 549 1 64 0 901 1 808 "
