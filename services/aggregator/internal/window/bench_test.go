package window

import (
	"fmt"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

func defaults() Config {
	return Config{
		Specs: []Spec{
			{Kind: Tumbling, Length: 10 * time.Second}, {Kind: Tumbling, Length: time.Minute}, {Kind: Tumbling, Length: time.Hour},
		},
		Lateness: 30 * time.Second, CorrectWithin: time.Hour, RunningEvery: time.Second, RunningMax: 4096,
		DevicesMax: 100_000, ChannelsMax: 1000, WindowsMax: 1_000_000,
	}
}

// BenchmarkAdd adds the records of 1,000 devices with 7 channels each, which send every channel once a second.
func BenchmarkAdd(b *testing.B) {
	const devices, channels = 1000, 7
	const start = telemetry.Time(1_700_000_000_000_000_000)
	records := make([]bus.Record, 0, devices*channels)
	for n := range devices * channels {
		m := telemetry.Message{
			Tenant: telemetry.DefaultTenant, DeviceID: fmt.Sprint("device-", n%devices), DeviceType: "LabThermostat_v4", Kind: telemetry.KindChannel,
			ChannelType: "number", ChannelKey: fmt.Sprint("channel-", n/devices), ChannelValue: []byte("21.5"), Value: 20 + float64(n%100)/7,
			HasValue: true, EventTime: start, IngestTime: start, Codec: "channel", Source: "mqtt",
		}
		records = append(records, bus.Record{Value: telemetry.AppendMessage(nil, &m)})
	}
	task, err := New(defaults(), new(Stats))
	if err != nil {
		b.Fatal(err)
	}
	var out Output
	rows := 0
	var m telemetry.Message
	add := func(i int) {
		r := records[i%len(records)]
		if err := telemetry.ParseMessage(r.Value, &m); err != nil { // the records are written anew with each round: set their times
			b.Fatal(err)
		}
		round := telemetry.Time(i / len(records))
		m.EventTime, m.IngestTime = start+round*telemetry.Time(time.Second), start+round*telemetry.Time(time.Second)
		r.Value = telemetry.AppendMessage(r.Value[:0], &m)
		r.Origin.Seq = uint64(i + 1)
		if err := task.Add(&out, bus.Telemetry, r); err != nil {
			b.Fatal(err)
		}
		if i%(devices*channels) == devices*channels-1 {
			task.Tick(&out, m.IngestTime, false)
		}
		if len(out.Rows)+len(out.Publish) > 10_000 {
			rows += len(out.Rows)
			clear(out.Rows)
			clear(out.Publish)
			out.Rows, out.Publish = out.Rows[:0], out.Publish[:0]
		}
	}
	const warm = 120 * devices * channels
	for i := range warm {
		add(i)
	}
	b.ReportAllocs()
	i := warm
	for b.Loop() {
		add(i)
		i++
	}
	b.ReportMetric(float64(rows)/float64(i), "rows/op")
	snapshot, err := task.Snapshot(nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(snapshot))/1e6, "snapshot-MB")
}
