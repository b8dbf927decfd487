package storetest

import (
	"fmt"
	"testing"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// AlarmStore is a store of alarms under test.
type AlarmStore struct {
	store.AlarmWriter
	Read  func(t *testing.T) []telemetry.Alarm // all rows, in any order
	Crash func(t *testing.T) AlarmStore
}

// Alarms holds a store.AlarmWriter to its promises.
func Alarms(t *testing.T, open func(t *testing.T) AlarmStore) {
	text := func(a telemetry.Alarm) string {
		detail := string(a.Detail)
		a.Detail = nil
		return fmt.Sprintf("%+v %s", a, detail)
	}
	var wrap func(s AlarmStore) harness[telemetry.Alarm]
	wrap = func(s AlarmStore) harness[telemetry.Alarm] {
		return harness[telemetry.Alarm]{
			Writer: s.AlarmWriter,
			row:    alarm,
			count:  func(t *testing.T) int { return different(t, s.Read(t), text) },
			crash:  func(t *testing.T) harness[telemetry.Alarm] { return wrap(s.Crash(t)) },
			flush:  func(*testing.T) {},
		}
	}
	writerPromises(t, func(t *testing.T) harness[telemetry.Alarm] { return wrap(open(t)) })
	checkpointPromises(t, func(t *testing.T) harness[telemetry.Alarm] { return wrap(open(t)) })

	acked := func(i int) telemetry.Alarm {
		a := alarm(i)
		a.State, a.AckedAt, a.Revision, a.Detail = telemetry.AlarmAcknowledged, a.RaisedAt+5, 2, nil
		return a
	}
	cleared := func(i int) telemetry.Alarm {
		a := acked(i)
		a.State, a.ClearedAt, a.Revision = telemetry.AlarmCleared, a.RaisedAt+9, 3
		return a
	}
	for _, c := range []struct {
		name   string
		writes [][]telemetry.Alarm
		want   []telemetry.Alarm
	}{
		{"the highest revision is the row", [][]telemetry.Alarm{{alarm(1), alarm(2)}, {acked(1)}, {cleared(1)}}, []telemetry.Alarm{cleared(1), alarm(2)}},
		{"a lower revision changes nothing", [][]telemetry.Alarm{{cleared(1)}, {alarm(1), acked(1)}}, []telemetry.Alarm{cleared(1)}},
		{"revisions of one write in any order", [][]telemetry.Alarm{{acked(1), cleared(1), alarm(1)}}, []telemetry.Alarm{cleared(1)}},
		{"the same revision again changes nothing", [][]telemetry.Alarm{{acked(1)}, {acked(1)}}, []telemetry.Alarm{acked(1)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			for i, rows := range c.writes {
				mustWrite(t, wrap(s), commit(span(0, i, i+1)), rows)
			}
			wantSame(t, s.Read(t), c.want, text)
			wantSame(t, s.Crash(t).Read(t), c.want, text)
		})
	}
}

func alarm(i int) telemetry.Alarm {
	return telemetry.Alarm{
		AlarmID: fmt.Sprintf("alarm-%d", i), Tenant: "default", Rule: "too-hot", DeviceID: fmt.Sprintf("d-%d", i%5), ChannelKey: "temperature",
		Severity: "critical", State: telemetry.AlarmRaised, Value: fmt.Sprint(80 + i), PreviousValue: "20", RaisedAt: telemetry.Time(1_492_016_720_480_850_700 + int64(i)),
		Detail: []byte(`{"limit":80}`), Revision: 1,
	}
}
