package clickhouse_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/clickhouse"
	"github.com/millrace/millrace/pkg/store/storetest"
	"github.com/millrace/millrace/pkg/telemetry"
)

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measure runs prepare, which is not counted, and write with rising numbers, and reports rows a second and the CPU seconds of this
// process a million rows.
func measure(b *testing.B, size int, prepare func(round int), write func(round int) error) {
	b.Helper()
	round := 0
	var cpu time.Duration
	for b.Loop() {
		b.StopTimer()
		prepare(round)
		before := cpuTime()
		b.StartTimer()
		if err := write(round); err != nil {
			b.Fatal(err)
		}
		cpu += cpuTime() - before
		round++
	}
	n := float64(round) * float64(size)
	b.ReportMetric(n/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(cpu.Seconds()/n*1e6, "cpu-s/Mrow")
}

// sensors returns rows of a thousand sensors of one channel, such as history mostly has.
func sensors(rows []store.MessageRow, round int) {
	for i := range rows {
		n := round*len(rows) + i
		rows[i] = storetest.Message(n % 10_000)
		rows[i].DeviceID, rows[i].ChannelKey = fmt.Sprintf("sensor-%d", n%1000), "temperature"
		rows[i].EventTime, rows[i].IngestTime = telemetry.Time(1.5e18+int64(n)*1e6), telemetry.Time(1.5e18+int64(n)*1e6+12345)
		rows[i].Origin = bus.Origin{Position: bus.Position{Seq: uint64(n + 1)}}
	}
}

// BenchmarkHistory writes blocks through the driver, and the same blocks by the client library alone: column by column with texts for
// what the table keeps as dictionaries, and with the dictionaries made by the library.
func BenchmarkHistory(b *testing.B) {
	for _, p := range []struct{ name, key string }{{"native", ""}, {"http", "http_url"}} {
		for _, size := range []int{20_000, 100_000} {
			b.Run(fmt.Sprintf("%s/%d", p.name, size), func(b *testing.B) {
				h := newHome(b, p.key)
				db := h.open(b)
				rows := make([]store.MessageRow, size)
				b.Run("driver", func(b *testing.B) {
					measure(b, size, func(round int) { sensors(rows, round) }, func(round int) error {
						return db.History().Write(b.Context(), through(round, round+1), rows)
					})
				})
				h.exec(b, "TRUNCATE TABLE "+h.cfg.Database+"_internal.progress")
				h.exec(b, "TRUNCATE TABLE "+h.cfg.Database+"_internal.device_messages")
				for _, way := range []string{"columns", "dictionaries"} {
					b.Run(way, func(b *testing.B) {
						var names []string
						var columns []any
						measure(b, size, func(round int) {
							sensors(rows, round)
							names, columns = clickhouse.HistoryBlock(rows)
						}, func(int) error {
							return plainly(b, h, db, names, columns, way == "dictionaries")
						})
					})
					h.exec(b, "TRUNCATE TABLE "+h.cfg.Database+"_internal.device_messages")
				}
			})
		}
	}
}

// plainly inserts one block with the client library alone.
func plainly(b *testing.B, h *home, db *clickhouse.DB, names []string, columns []any, dictionaries bool) error {
	b.Helper()
	low := 0
	if dictionaries {
		low = 1
	}
	ctx := ch.Context(b.Context(), ch.WithSettings(ch.Settings{"async_insert": 0, "low_cardinality_allow_in_native_format": low}))
	batch, err := db.Conn().PrepareBatch(ctx, "INSERT INTO "+h.cfg.Database+"_internal.device_messages ("+strings.Join(names, ", ")+")")
	if err != nil {
		return err
	}
	for i, c := range columns {
		if err := batch.Column(i).Append(c); err != nil {
			return err
		}
	}
	return batch.Send()
}

func BenchmarkState(b *testing.B) {
	db := newHome(b, "").open(b)
	rows := make([]store.MessageRow, 20_000)
	measure(b, len(rows), func(round int) { sensors(rows, round) }, func(round int) error {
		return db.State().Write(b.Context(), through(round, round+1), rows)
	})
}

func BenchmarkLogs(b *testing.B) {
	db := newHome(b, "").open(b)
	rows := make([]store.MessageRow, 20_000)
	measure(b, len(rows), func(round int) {
		for i := range rows {
			rows[i] = storetest.LogLine(round*len(rows) + i)
		}
	}, func(round int) error {
		return db.Logs().Write(b.Context(), through(round, round+1), rows)
	})
}

func BenchmarkAggregates(b *testing.B) {
	db := newHome(b, "").open(b)
	rows := make([]store.AggregateRow, 5000)
	state := strings.Repeat("s", 300)
	measure(b, len(rows), func(round int) {
		for i := range rows {
			rows[i] = window(round, 10, 1, state)
			rows[i].DeviceID = fmt.Sprintf("sensor-%d", i)
		}
	}, func(round int) error {
		return db.Aggregates().Write(b.Context(), through(round, round+1), rows)
	})
	keys := make([]store.WindowKey, 2000)
	for i := range keys {
		keys[i] = store.WindowKey{Tenant: "default", DeviceID: fmt.Sprintf("sensor-%d", i), ChannelKey: "c", WindowStart: 1e18, WindowLength: 1e10}
	}
	start := time.Now()
	found, err := db.Aggregates().Windows(b.Context(), keys)
	if err != nil || found[7].Count != 10 {
		b.Fatalf("%v, %v", found[7], err)
	}
	b.ReportMetric(float64(time.Since(start).Milliseconds()), "windows-ms")
}

// BenchmarkProgress asks how far a worker has come, as a task with a state does after each write, beside checkpoints of several tasks.
func BenchmarkProgress(b *testing.B) {
	const tasks, checkpointBytes = 4, 256 << 10
	h := newHome(b, "")
	aggregates := h.open(b).Aggregates()
	state := make([]byte, checkpointBytes)
	for round := range 5 {
		for task := range tasks {
			for i := range state {
				state[i] = byte(i*i*(task+1)>>8 + round)
			}
			id := bus.PartitionID{Topic: bus.Telemetry, Number: task}
			if err := aggregates.Write(b.Context(), store.Commit{
				Worker: "aggregator", Task: fmt.Sprint("partition ", task), Checkpoint: state, Spans: []store.Span{{
					Partition: id, After: bus.Position{Seq: uint64(round)}, Through: bus.Progress{Through: bus.Position{Seq: uint64(round + 1)}},
				}},
			}, nil); err != nil {
				b.Fatal(err)
			}
		}
	}
	for b.Loop() {
		if _, ok, err := aggregates.Progress(b.Context(), "aggregator", bus.PartitionID{Topic: bus.Telemetry, Number: 1}); err != nil || !ok {
			b.Fatal(ok, err)
		}
	}
}
