package window

import (
	"bytes"
	"encoding/binary"
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

// BenchmarkAdd adds the records of 1,000 devices with 7 channels each, which send every channel once a second: parsing,
// three windows, and the rows of those that close.
func BenchmarkAdd(b *testing.B) {
	cfg := defaults()
	cfg.RunningEvery = 0
	benchmark(b, cfg)
}

// BenchmarkAddRunning does the same, and publishes the running values of all windows once in 7,000 records.
func BenchmarkAddRunning(b *testing.B) {
	cfg := defaults()
	cfg.RunningMax = 1 << 20
	benchmark(b, cfg)
}

func benchmark(b *testing.B, cfg Config) {
	b.Helper()
	records, clock := benchRecords()
	task, err := New(cfg, new(Stats))
	if err != nil {
		b.Fatal(err)
	}
	var out Output
	add := func(i int) {
		r := records[i%len(records)]
		now := benchStart + telemetry.Time(i/len(records))*second
		binary.LittleEndian.PutUint64(r.Value[clock[i%len(records)]:], uint64(now))
		r.Origin.Seq = uint64(i + 1)
		if err := task.Add(&out, bus.Telemetry, r); err != nil {
			b.Fatal(err)
		}
		if i%len(records) == len(records)-1 {
			task.Tick(&out, now, 0)
		}
		if len(out.Rows)+len(out.Publish) > 10_000 {
			clear(out.Rows)
			clear(out.Publish)
			out.Rows, out.Publish = out.Rows[:0], out.Publish[:0]
		}
	}
	warm := 120 * len(records)
	for i := range warm {
		add(i)
	}
	b.ReportAllocs()
	for i := warm; b.Loop(); i++ {
		add(i)
	}
}

const benchStart = 1_700_000_000 * second

// benchRecords returns records, and where in each of them its event time stands.
func benchRecords() (records []bus.Record, clock []int) {
	const devices, channels = 1000, 7
	for n := range devices * channels {
		m := telemetry.Message{
			Tenant: telemetry.DefaultTenant, DeviceID: fmt.Sprint("device-", n%devices), DeviceType: "LabThermostat_v4", Kind: telemetry.KindChannel,
			ChannelType: "number", ChannelKey: fmt.Sprint("channel-", n/devices), ChannelValue: []byte("21.5"), Value: 20 + float64(n%100)/7,
			HasValue: true, EventTime: benchStart, IngestTime: benchStart + 1, Codec: "channel", Source: "mqtt",
		}
		value := telemetry.AppendMessage(nil, &m)
		records = append(records, bus.Record{Value: value})
		clock = append(clock, bytes.Index(value, binary.LittleEndian.AppendUint64(nil, uint64(benchStart))))
	}
	return records, clock
}

func BenchmarkSnapshot(b *testing.B) {
	records, _ := benchRecords()
	task, err := New(defaults(), new(Stats))
	if err != nil {
		b.Fatal(err)
	}
	var out Output
	for i := range 10 * len(records) {
		if err := task.Add(&out, bus.Telemetry, records[i%len(records)]); err != nil {
			b.Fatal(err)
		}
	}
	var state []byte
	for b.Loop() {
		if state, err = task.Snapshot(state[:0]); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(state)))
	b.ReportMetric(float64(len(state))/float64(task.open), "B/window")
}
