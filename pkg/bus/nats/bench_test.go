package nats_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/nats"
)

func embedded(tb testing.TB, cfg nats.Config) *nats.Log {
	tb.Helper()
	server, err := nats.Embedded(tb.Context(), nats.EmbeddedConfig{Dir: tb.TempDir()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(server.Shutdown)
	conn, err := server.Connect()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(conn.Close)
	cfg.Conn, cfg.Synced, cfg.Now = conn, true, time.Now
	log, err := nats.Open(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = log.Close() })
	return log
}

func batchOf(records, bytes int) []bus.Record {
	recs := make([]bus.Record, records)
	for i := range recs {
		recs[i] = bus.Record{Value: make([]byte, bytes), Origin: bus.Origin{Position: bus.Position{Seq: 1 << 20, Index: uint32(i)}}}
	}
	return recs
}

// BenchmarkAppend measures frames on disk, each synced, by one caller for each partition.
func BenchmarkAppend(b *testing.B) {
	for _, partitions := range []int{1, 4} {
		for _, records := range []int{1, 256, 1024} {
			b.Run(fmt.Sprintf("partitions=%d/records=%d", partitions, records), func(b *testing.B) {
				log, recs := embedded(b, nats.Config{Partitions: partitions}), batchOf(records, 250)
				b.SetBytes(int64(records * 250))
				b.ReportAllocs()
				b.ResetTimer()
				var callers sync.WaitGroup
				var n atomic.Int64
				for p := range partitions {
					callers.Go(func() {
						for n.Add(1) <= int64(b.N) {
							if err := log.Append(b.Context(), bus.PartitionID{Topic: bus.Ingested, Number: p}, recs); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				callers.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "frames/s")
				b.ReportMetric(float64(b.N*records)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

type counting struct{ n atomic.Int64 }

func (c *counting) Done(n int, _ error) { c.n.Add(int64(n)) }

// BenchmarkWriter measures records through group commit onto disk.
func BenchmarkWriter(b *testing.B) {
	for _, partitions := range []int{1, 4} {
		b.Run(fmt.Sprintf("partitions=%d", partitions), func(b *testing.B) {
			log := embedded(b, nats.Config{Partitions: partitions})
			w := bus.NewWriter(b.Context(), log, bus.WriterConfig{})
			value, ticket, n := make([]byte, 250), &counting{}, 0
			b.ReportAllocs()
			for b.Loop() {
				n++
				p := bus.PartitionID{Topic: bus.Ingested, Number: n / 64 % partitions}
				if err := w.Submit(b.Context(), p, value, bus.Origin{}, ticket); err != nil {
					b.Fatal(err)
				}
			}
			if err := w.Close(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(ticket.n.Load())/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric(float64(ticket.n.Load())/float64(w.Stats().Appends), "records/append")
		})
	}
}

// BenchmarkRead measures one reader of frames of 256 records.
func BenchmarkRead(b *testing.B) {
	log, recs := embedded(b, nats.Config{Partitions: 1}), batchOf(256, 250)
	id := bus.PartitionID{Topic: bus.Ingested}
	const frames = 2000
	for range frames {
		if err := log.Append(b.Context(), id, recs); err != nil {
			b.Fatal(err)
		}
	}
	p, err := log.Partition(b.Context(), id)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	records := 0
	for b.Loop() {
		n := 0
		for batch, err := range p.After(b.Context(), bus.Start{}) {
			if err != nil {
				b.Fatal(err)
			}
			if n += len(batch.Records); n == frames*len(recs) {
				break
			}
		}
		records += n
	}
	b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkTail measures from before an append to the record in a waiting reader's hands.
func BenchmarkTail(b *testing.B) {
	log := embedded(b, nats.Config{Partitions: 1})
	id := bus.PartitionID{Topic: bus.Ingested}
	p, err := log.Partition(b.Context(), id)
	if err != nil {
		b.Fatal(err)
	}
	got := make(chan struct{})
	go func() {
		for _, err := range p.After(b.Context(), bus.Start{}) {
			if err != nil {
				return
			}
			got <- struct{}{}
		}
	}()
	one := batchOf(1, 250)
	for b.Loop() {
		if err := log.Append(b.Context(), id, one); err != nil {
			b.Fatal(err)
		}
		<-got
	}
}

func BenchmarkFrame(b *testing.B) {
	recs := batchOf(256, 250)
	frame := nats.AppendFrame(nil, recs)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(frame)))
		dst := make([]byte, 0, len(frame))
		for b.Loop() {
			dst = nats.AppendFrame(dst[:0], recs)
		}
	})
	packed := nats.PackFrame(nil, frame)
	b.Run("pack", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(frame)))
		for b.Loop() {
			packed = nats.PackFrame(packed[:0], frame)
		}
		b.ReportMetric(float64(len(frame))/float64(len(packed)), "ratio")
	})
	b.Run("parse packed", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(frame)))
		var err error
		for b.Loop() {
			if recs, err = nats.ParseFrame(recs[:0], packed); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(frame)))
		var err error
		for b.Loop() {
			if recs, err = nats.ParseFrame(recs[:0], frame); err != nil {
				b.Fatal(err)
			}
		}
	})
}
