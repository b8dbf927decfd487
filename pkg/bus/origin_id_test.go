package bus_test

import (
	"testing"

	"github.com/millrace/millrace/pkg/bus"
)

func TestAnOriginComesBackFromItsID(t *testing.T) {
	for _, want := range []bus.Origin{{}, {Partition: 3, Position: bus.Position{Seq: 81, Index: 5}}, {Partition: -1, Position: bus.Position{Seq: 1}}} {
		if got, err := bus.ParseOrigin(want.ID()); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", want.ID(), got, err, want)
		}
	}
	for _, bad := range []string{"", "3", "3.81", "x.1.2", "3.x.2", "3.1.2.4", "99999999999.1.2", "3.-1.0"} {
		if got, err := bus.ParseOrigin(bad); err == nil {
			t.Errorf("%q is read as %+v", bad, got)
		}
	}
}

func TestOriginsOfWhatIsRedeliveredRiseApartFromThoseOfMessages(t *testing.T) {
	var taken bus.Origins
	at := bus.Position{Seq: 5}
	if !taken.Take(bus.Origin{Partition: 0, Position: bus.Position{Seq: 99}}) || !taken.Take(bus.RedeliveredOrigin(0, at)) || taken.Take(bus.RedeliveredOrigin(0, at)) {
		t.Errorf("%+v", taken)
	}
	p := bus.Progress{Through: at, Origins: taken}
	if back, err := bus.ParseProgress(p.AppendBinary(nil)); err != nil || len(back.Origins) != 2 || back.Origins[1] != taken[1] {
		t.Errorf("%+v, %v", back, err)
	}
}
