//go:build unix

package parquet_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/parquet"
	"github.com/millrace/millrace/pkg/telemetry"
)

// fleet makes the messages of 1,000 devices with two channels each, one a second, as a batch of the log holds them.
type fleet struct {
	random *rand.Rand
	next   int
	start  telemetry.Time
}

func newFleet() *fleet {
	return &fleet{random: rand.New(rand.NewPCG(1, 2)), start: telemetry.Time(1_700_002_800_000_000_000)}
}

func (f *fleet) batch(n int) []store.MessageRow {
	rows := make([]store.MessageRow, n)
	for i := range rows {
		k := f.next
		f.next++
		device, second := k%1000, k/2000
		at := f.start + telemetry.Time(int64(second)*int64(time.Second)+f.random.Int64N(int64(time.Second))/100*100)
		value := float64(2000+f.random.IntN(500)) / 100
		rows[i] = store.MessageRow{
			Message: telemetry.Message{
				Tenant: "default", DeviceID: fmt.Sprintf("device-%04d", device), DeviceType: "RaspberryPiGateway_v1", Kind: telemetry.KindChannel,
				ChannelKey: [2]string{"temperature", "humidity"}[k/1000%2], ChannelType: "number", ChannelValue: fmt.Append(nil, value), Value: value, HasValue: true,
				EventTime: at, IngestTime: at + telemetry.Time(f.random.Int64N(3e8)), MessageID: fmt.Sprintf("%016x", f.random.Uint64()),
				Source: "mqtt", Credential: "key-1", Codec: "channel",
			},
			Origin: bus.Origin{Partition: int32(device % 4), Position: bus.Position{Seq: uint64(k/200 + 1), Index: uint32(k % 200)}},
		}
	}
	return rows
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func BenchmarkWrite(b *testing.B) {
	rows := newFleet().batch(16384)
	cfg := config(b.TempDir())
	cfg.SegmentRows, cfg.MemoryBytes = 1<<40, 1<<40
	h, err := parquet.Open(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	before := h.Status().MemoryBytes
	n := uint64(0)
	for b.Loop() {
		if err := h.Write(b.Context(), commit(0, n, n+1), rows); err != nil {
			b.Fatal(err)
		}
		if n++; n%64 == 0 { // so that the bench does not need the machine's memory
			b.StopTimer()
			b.ReportMetric(float64(h.Status().MemoryBytes-before)/float64(h.Status().MemoryRows), "B-memory/row")
			if err := h.Abandon(); err != nil {
				b.Fatal(err)
			}
			cfg.Dir = b.TempDir()
			if h, err = parquet.Open(b.Context(), cfg); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n)/float64(len(rows)), "ns/row")
	if err := h.Abandon(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkMillion writes a million rows, closes them in four files and merges those.
func BenchmarkMillion(b *testing.B) {
	const batch, batches = 10_000, 100
	var rows [][]store.MessageRow
	f := newFleet()
	for range batches {
		rows = append(rows, f.batch(batch))
	}
	for b.Loop() {
		cfg := config(b.TempDir())
		cfg.SegmentRows, cfg.MemoryBytes = 250_000, 1<<30
		clock := newClock(time.Now())
		cfg.Now = clock.Now
		h, err := parquet.Open(b.Context(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		start, used := time.Now(), cpu(b)
		for i := range uint64(batches) {
			if err := h.Write(b.Context(), commit(0, i, i+1), rows[i]); err != nil {
				b.Fatal(err)
			}
		}
		if err := h.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(start).Seconds(), "write-s/1M")
		b.ReportMetric((cpu(b) - used).Seconds(), "write-cpu-s/1M")
		s := h.Status()
		b.ReportMetric(float64(s.FileBytes)/float64(s.FileRows), "B/row")
		clock.turn(time.Hour)
		start, used = time.Now(), cpu(b)
		if err := h.Maintain(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(start).Seconds(), "merge-s/1M")
		b.ReportMetric((cpu(b) - used).Seconds(), "merge-cpu-s/1M")
		s = h.Status()
		b.ReportMetric(float64(s.FileBytes)/float64(s.FileRows), "merged-B/row")
		if err := h.Abandon(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSnapshot takes a snapshot of 200,000 rows in memory and reads them as SQL does.
func BenchmarkSnapshot(b *testing.B) {
	h, err := parquet.Open(b.Context(), config(b.TempDir()))
	if err != nil {
		b.Fatal(err)
	}
	if err := h.Write(b.Context(), commit(0, 0, 1), newFleet().batch(200_000)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		s, err := h.Take()
		if err != nil {
			b.Fatal(err)
		}
		s.Rows(func(run []store.MessageRow) bool { n += len(run); return true })
		s.Release()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/row")
	if err := h.Abandon(); err != nil {
		b.Fatal(err)
	}
}
