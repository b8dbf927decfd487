package router

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
	"github.com/millrace/millrace/services/router/internal/repeats"
)

func BenchmarkAdd(b *testing.B) {
	foreign := func(n int) (routes []Route) {
		for i := range n {
			routes = append(routes, Route{
				Name: fmt.Sprint("r", i), Condition: fmt.Sprintf(`channelKey == "other%d" && value > 30`, i), Endpoints: []string{"mine"},
			})
		}
		return routes
	}
	for _, bench := range []struct {
		name   string
		routes []Route
		window int
	}{
		{"default", nil, 128},
		{"default without ids", nil, 0},
		{"100 routes on other channels", foreign(100), 128},
		{"one condition on every message", []Route{{Name: "hot", Condition: `value > 30`, Endpoints: []string{"mine"}}}, 128},
	} {
		b.Run(bench.name, func(b *testing.B) {
			cfg := DefaultConfig()
			cfg.Routes = bench.routes
			m, err := newMetrics(nil, slog.Default(), time.Now)
			if err != nil {
				b.Fatal(err)
			}
			t, err := newTable(cfg, nil, m)
			if err != nil {
				b.Fatal(err)
			}
			var memory *repeats.Memory
			if bench.window > 0 {
				memory = repeats.New(bench.window, 10_000)
			}
			routing := newTask(t, memory)
			recs := manyRecords()
			var out worker.Output[none]
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if n%4096 == 0 {
					out.Publish = out.Publish[:0]
				}
				if err := routing.Add(&out, bus.Ingested, recs[n%len(recs)]); err != nil {
					b.Fatal(err)
				}
				n++
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// manyRecords returns messages of 1,000 devices whose ids come again only after their device's window has passed.
func manyRecords() []bus.Record {
	recs := make([]bus.Record, 200_000)
	for i := range recs {
		m := telemetry.Message{
			Tenant: "default", DeviceID: fmt.Sprint("device-", i%1000), DeviceType: "thermostat", Kind: telemetry.KindChannel,
			MessageID: fmt.Sprintf("%016x", i), ChannelKey: "temperature", ChannelType: "number", ChannelValue: []byte("21.5"),
			Value: 21.5, HasValue: true, EventTime: telemetry.Time(i), IngestTime: telemetry.Time(i), Source: "mqtt", Codec: "channel",
		}
		recs[i] = bus.Record{Origin: bus.Origin{Position: bus.Position{Seq: uint64(i + 1)}}, Value: telemetry.AppendMessage(nil, &m)}
	}
	return recs
}
