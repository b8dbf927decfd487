package duckdb_test

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/duckdb"
	"github.com/millrace/millrace/pkg/store/storetest"
	"github.com/millrace/millrace/pkg/telemetry"
)

// benchWrites writes the same number of rows again and again, and reports rows a second, CPU seconds a million rows, and the
// slowest write.
func benchWrites[Row any](b *testing.B, w func(db *duckdb.DB) store.Writer[Row], size int, fill func(round int, rows []Row)) {
	b.Helper()
	db, err := duckdb.Open(b.Context(), duckdb.Config{Path: filepath.Join(b.TempDir(), "x.duckdb")})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	writer := w(db)
	rows := make([]Row, size)
	round := 0
	var slowest time.Duration
	before := cpuTime()
	for b.Loop() {
		fill(round, rows)
		start := time.Now()
		if err := writer.Write(b.Context(), commitOf(round+1), rows); err != nil {
			b.Fatal(err)
		}
		slowest = max(slowest, time.Since(start))
		round++
	}
	n := float64(round) * float64(size)
	b.ReportMetric(n/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric((cpuTime()-before).Seconds()/n*1e6, "cpu-s/Mrow")
	b.ReportMetric(float64(slowest.Milliseconds()), "slowest-ms")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkState(b *testing.B) {
	for _, c := range []struct{ channels, size int }{{10_000, 1000}, {10_000, 10_000}, {200_000, 1000}, {200_000, 16_384}} {
		b.Run(fmt.Sprintf("%d of %d channels", c.size, c.channels), func(b *testing.B) {
			messages := make([]store.MessageRow, c.channels)
			for i := range messages {
				messages[i] = storetest.Message(i)
				messages[i].DeviceID, messages[i].ChannelKey = fmt.Sprintf("device-%d", i%1000), fmt.Sprintf("channel-%d", i/1000)
			}
			benchWrites(b, func(db *duckdb.DB) store.Writer[store.MessageRow] {
				if err := db.State().Write(b.Context(), store.Commit{Worker: "before"}, messages); err != nil {
					b.Fatal(err)
				}
				return db.State()
			}, c.size, func(round int, rows []store.MessageRow) {
				for i := range rows {
					rows[i] = messages[(round*c.size*7+i*c.channels/c.size)%c.channels]
					rows[i].EventTime = telemetry.Time(2e18 + round)
				}
			})
		})
	}
}

func BenchmarkLogs(b *testing.B) {
	for _, size := range []int{100, 2000, 16_384} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			benchWrites(b, func(db *duckdb.DB) store.Writer[store.MessageRow] { return db.Logs() }, size, func(round int, rows []store.MessageRow) {
				for i := range rows {
					rows[i] = storetest.LogLine(round*size + i)
				}
			})
		})
	}
}

func BenchmarkAggregates(b *testing.B) {
	const size, series = 5000, 5000
	row := func(window, i int) store.AggregateRow {
		return store.AggregateRow{
			Aggregate: telemetry.Aggregate{
				Tenant: "default", DeviceID: fmt.Sprintf("device-%d", i%1000), ChannelKey: fmt.Sprintf("c-%d", i/1000), WindowLength: 1e10,
				WindowStart: telemetry.Time(1_492_016_720e9 + int64(window)*1e10), Count: 10, Sum: float64(i), Revision: 1,
			},
			State: make([]byte, 300),
		}
	}
	aggregates := func(db *duckdb.DB) store.Writer[store.AggregateRow] { return db.Aggregates() }
	b.Run("new windows", func(b *testing.B) {
		benchWrites(b, aggregates, size, func(round int, rows []store.AggregateRow) {
			for i := range rows {
				rows[i] = row(round, i%series)
			}
		})
	})
	b.Run("one in fifty a correction", func(b *testing.B) {
		benchWrites(b, aggregates, size, func(round int, rows []store.AggregateRow) {
			for i := range rows {
				rows[i] = row(round, i%series)
				if i%50 == 0 && round > 0 {
					rows[i] = row(max(0, round-1-i%7), i%series)
				}
			}
		})
	})
}

func BenchmarkTinyCommit(b *testing.B) {
	benchWrites(b, func(db *duckdb.DB) store.Writer[telemetry.Alarm] { return db.Alarms() }, 1, func(round int, rows []telemetry.Alarm) {
		rows[0] = telemetry.Alarm{AlarmID: fmt.Sprint(round % 1000), Revision: uint32(round)}
	})
}

func BenchmarkCheckpoint(b *testing.B) {
	for _, size := range []int{10_000, 8 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			db, err := duckdb.Open(b.Context(), duckdb.Config{Path: filepath.Join(b.TempDir(), "x.duckdb")})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			state := make([]byte, size)
			seq := 0
			for b.Loop() {
				seq++
				c := store.Commit{Worker: "w", Task: "0", Checkpoint: state, Spans: []store.Span{{
					Partition: bus.PartitionID{Topic: "t"}, After: bus.Position{Seq: uint64(seq - 1)},
					Through: bus.Progress{Through: bus.Position{Seq: uint64(seq)}},
				}}}
				if err := db.Aggregates().Write(b.Context(), c, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
