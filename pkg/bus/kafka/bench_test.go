package kafka_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/kafka"
	"github.com/millrace/millrace/pkg/enginetest"
)

const (
	benchPartitions = 8
	benchRecords    = 1000 // of a batch
)

// benchValue is some 250 bytes, as a device's message on the bus is: names that repeat, numbers that do not.
func benchValue(i int) []byte {
	return fmt.Appendf(nil, `{"tenant":"default","device":"homecontroller-%04d","type":"RaspberryPiGateway_v1","channel":"temperature@room-%d","value":%d.%06d,`+
		`"event_time":17%017d,"ingest_time":17%017d,"id":"%016x","source":"mqtt"}`,
		i%5000, i%17, i%40, (i*7919)%1000000, i*31_000_003, i*31_000_003+977_123, uint64(i)*0x9e3779b97f4a7c15)
}

func benchBatch(from int) []bus.Record {
	recs := make([]bus.Record, benchRecords)
	for i := range recs {
		recs[i] = bus.Record{Value: benchValue(from + i), Origin: bus.Origin{Position: bus.Position{Seq: uint64(from + i + 1)}}}
	}
	return recs
}

// acrossPartitions calls f b.N times in all, by one caller for each partition.
func acrossPartitions(b *testing.B, f func(ctx context.Context, partition int) error) {
	b.Helper()
	b.ReportAllocs()
	b.SetBytes(int64(benchRecords * len(benchValue(1))))
	b.ResetTimer()
	var n atomic.Int64
	var callers sync.WaitGroup
	for p := range benchPartitions {
		callers.Go(func() {
			for n.Add(1) <= int64(b.N) {
				if err := f(b.Context(), p); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	callers.Wait()
	b.ReportMetric(float64(b.N*benchRecords)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkAppend measures batches on all replicas in sync, by one caller for each partition, beside kafka-go's own Writer, which is
// told to send each batch at once.
func BenchmarkAppend(b *testing.B) {
	e := enginetest.Need(b, "kafka")
	codecs := map[kafka.Compression]kafkago.Compression{kafka.None: 0, kafka.Snappy: kafkago.Snappy, kafka.Lz4: kafkago.Lz4, kafka.Zstd: kafkago.Zstd}
	for _, with := range []kafka.Compression{kafka.None, kafka.Snappy, kafka.Lz4, kafka.Zstd} {
		cfg := kafka.Config{URL: e.URL, Prefix: prefix(b, e), Partitions: benchPartitions, Compression: with}
		log := openLog(b, cfg)
		recs := benchBatch(0)
		b.Run("ours/"+string(with), func(b *testing.B) {
			acrossPartitions(b, func(ctx context.Context, p int) error { return log.Append(ctx, ingested(p), recs) })
		})
		b.Run("kafka-go/"+string(with), func(b *testing.B) {
			messages := make([]kafkago.Message, len(recs))
			for i := range recs {
				messages[i].Value = recs[i].Value
			}
			transport := &kafkago.Transport{}
			defer transport.CloseIdleConnections()
			writers := make([]*kafkago.Writer, benchPartitions)
			for p := range writers {
				writers[p] = &kafkago.Writer{
					Addr: kafkago.TCP(addresses(e.URL)...), Topic: cfg.Prefix + bus.Telemetry, RequiredAcks: kafkago.RequireAll, Transport: transport,
					BatchSize: benchRecords, BatchBytes: 8 << 20, BatchTimeout: time.Millisecond, Compression: codecs[with],
					Balancer: kafkago.BalancerFunc(func(kafkago.Message, ...int) int { return p }),
				}
			}
			acrossPartitions(b, func(ctx context.Context, p int) error {
				return writers[p].WriteMessages(ctx, messages...)
			})
			for _, w := range writers {
				if err := w.Close(); err != nil {
					b.Error(err)
				}
			}
		})
	}
}

// BenchmarkRead measures one reader of one partition from its first record to its last, beside kafka-go's own Reader.
func BenchmarkRead(b *testing.B) {
	e := enginetest.Need(b, "kafka")
	const batches = 200
	for _, with := range []kafka.Compression{kafka.None, kafka.Snappy, kafka.Zstd} {
		cfg := kafka.Config{URL: e.URL, Prefix: prefix(b, e), Partitions: 1, Compression: with}
		log := openLog(b, cfg)
		for n := range batches {
			if err := log.Append(b.Context(), ingested(0), benchBatch(n*benchRecords)); err != nil {
				b.Fatal(err)
			}
		}
		p, err := log.Partition(b.Context(), ingested(0))
		if err != nil {
			b.Fatal(err)
		}
		b.Run("ours/"+string(with), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				for batch, err := range p.After(b.Context(), bus.Start{}) {
					if err != nil {
						b.Fatal(err)
					}
					if n += len(batch.Records); n == batches*benchRecords {
						break
					}
				}
			}
			b.ReportMetric(float64(b.N*batches*benchRecords)/b.Elapsed().Seconds(), "records/s")
		})
		b.Run("kafka-go/"+string(with), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := kafkago.NewReader(kafkago.ReaderConfig{
					Brokers: addresses(e.URL), Topic: cfg.Prefix + bus.Ingested, MinBytes: 1, MaxBytes: 4 << 20, MaxWait: 100 * time.Millisecond,
					QueueCapacity: 10 * benchRecords,
				})
				for range batches * benchRecords {
					if _, err := r.FetchMessage(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				if err := r.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(b.N*batches*benchRecords)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// BenchmarkTail measures from before an append to the record in a waiting reader's hands.
func BenchmarkTail(b *testing.B) {
	e := enginetest.Need(b, "kafka")
	log := openLog(b, kafka.Config{URL: e.URL, Prefix: prefix(b, e), Partitions: 1})
	p, err := log.Partition(b.Context(), ingested(0))
	if err != nil {
		b.Fatal(err)
	}
	got := make(chan struct{})
	ctx, stop := context.WithCancel(b.Context())
	var reading sync.WaitGroup
	reading.Go(func() {
		for _, err := range p.After(ctx, bus.Start{}) {
			if err != nil {
				return
			}
			got <- struct{}{}
		}
	})
	one := benchBatch(0)[:1]
	for b.Loop() {
		if err := log.Append(b.Context(), ingested(0), one); err != nil {
			b.Fatal(err)
		}
		<-got
	}
	stop()
	reading.Wait()
}
