package stateprojector

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
)

// state is what a store of state makes of rows, the plain way.
type state struct {
	channels map[string]string // what the newest message of each says
	newest   map[string]store.MessageRow
	first    map[string]telemetry.Time
	last     map[string]telemetry.Time
}

func stateOf(rows []store.MessageRow) state {
	s := state{map[string]string{}, map[string]store.MessageRow{}, map[string]telemetry.Time{}, map[string]telemetry.Time{}}
	for i := range rows {
		m := &rows[i]
		if at, ok := s.first[m.DeviceID]; !ok || m.IngestTime < at {
			s.first[m.DeviceID] = m.IngestTime
		}
		s.last[m.DeviceID] = max(s.last[m.DeviceID], m.IngestTime)
		if m.Kind != telemetry.KindChannel && m.Kind != telemetry.KindEvent {
			continue
		}
		key := m.DeviceID + "/" + m.ChannelKey
		if old, ok := s.newest[key]; !ok || newer(m, &old) {
			s.newest[key] = *m
			s.channels[key] = fmt.Sprintf("%s %v %v %v", m.ChannelValue, m.EventTime, m.IngestTime, m.Origin)
		}
	}
	return s
}

func record(n uint64, m telemetry.Message) bus.Record {
	m.Tenant = telemetry.DefaultTenant
	return bus.Record{Origin: bus.Origin{Position: bus.Position{Seq: n}}, Value: telemetry.AppendMessage(nil, &m)}
}

func TestWhatIsLeftOutChangesNoState(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		task := newProjector()
		var out worker.Output[store.MessageRow]
		var all, written []store.MessageRow
		for n := range uint64(300) {
			m := telemetry.Message{
				DeviceID: fmt.Sprint("d", rnd.IntN(3)), Kind: telemetry.Kind(1 + rnd.IntN(3)), ChannelKey: fmt.Sprint("c", rnd.IntN(3)),
				ChannelValue: fmt.Append(nil, n), EventTime: telemetry.Time(1 + rnd.IntN(50)), IngestTime: telemetry.Time(1000 + rnd.IntN(500)),
				Properties: []telemetry.Property{{Key: "k", Value: "v"}},
			}
			r := record(n+1, m)
			all = append(all, store.MessageRow{Message: m, Origin: r.Origin})
			if err := task.Add(&out, bus.Telemetry, r); err != nil {
				t.Fatal(err)
			}
			if rnd.IntN(40) == 0 {
				if most := 3*3 + 2*3; len(out.Rows) > most {
					t.Fatalf("%d rows of 3 devices with 3 channels, want at most %d", len(out.Rows), most)
				}
				written = append(written, out.Rows...)
				out.Rows = nil
			}
		}
		written = append(written, out.Rows...)
		got, want := stateOf(written), stateOf(all)
		if fmt.Sprint(got.channels, got.first, got.last) != fmt.Sprint(want.channels, want.first, want.last) {
			t.Fatalf("seed %d:\n got %v %v %v\nwant %v %v %v", seed, got.channels, got.first, got.last, want.channels, want.first, want.last)
		}
	}
}

func TestEachSessionIsKept(t *testing.T) {
	task := newProjector()
	var out worker.Output[store.MessageRow]
	for n := range uint64(3) {
		m := telemetry.Message{DeviceID: "d", Kind: telemetry.KindSession, ChannelValue: []byte(`{"connected":true}`)}
		if err := task.Add(&out, bus.Sessions, record(n+1, m)); err != nil {
			t.Fatal(err)
		}
	}
	if len(out.Rows) != 3 || string(out.Rows[2].ChannelValue) != `{"connected":true}` {
		t.Fatalf("rows %+v", out.Rows)
	}
}

func TestWhatIsNoMessageIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		value []byte
		want  string
	}{
		"no protobuf": {[]byte("\xff\xff\xff"), "read the message"},
		"no device":   {telemetry.AppendMessage(nil, &telemetry.Message{Kind: telemetry.KindChannel}), "device_id: empty"},
	} {
		t.Run(name, func(t *testing.T) {
			var out worker.Output[store.MessageRow]
			err := newProjector().Add(&out, bus.Telemetry, bus.Record{Value: c.value})
			if err == nil || !strings.Contains(err.Error(), c.want) || len(out.Rows) > 0 {
				t.Fatalf("%v, want %q", err, c.want)
			}
		})
	}
}

func BenchmarkAdd(b *testing.B) {
	records := make([]bus.Record, 0, 50_000)
	for n := range uint64(50_000) {
		m := telemetry.Message{
			DeviceID: fmt.Sprint("device-", n%1000), DeviceType: "LabThermostat_v4", Kind: telemetry.KindChannel, ChannelType: "number",
			ChannelKey: fmt.Sprint("channel-", n%7), ChannelValue: []byte("21.5"), Value: 21.5, HasValue: true,
			EventTime: telemetry.Time(1e18 + n), IngestTime: telemetry.Time(1e18 + n), Codec: "channel", Source: "mqtt",
		}
		records = append(records, record(n+1, m))
	}
	task := newProjector()
	var out worker.Output[store.MessageRow]
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%len(records) == 0 {
			clear(out.Rows)
			out.Rows = out.Rows[:0]
		}
		if err := task.Add(&out, bus.Telemetry, records[i%len(records)]); err != nil {
			b.Fatal(err)
		}
	}
}
