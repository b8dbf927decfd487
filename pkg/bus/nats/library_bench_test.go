package nats_test

import (
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/nats"
	"github.com/millrace/millrace/pkg/enginetest"
)

// The benchmarks against the client library write and read records of 250 bytes that cannot be compressed, in frames of 64 KiB
// where it says frames, into two partitions.
const (
	libraryPartitions = 2
	recordBytes       = 250
	frameRecords      = 262
	libraryInFlight   = 128 // messages that the library has under way
)

func noise(tb testing.TB) []bus.Record {
	tb.Helper()
	recs := batchOf(frameRecords, recordBytes)
	for i := range recs {
		if _, err := rand.Read(recs[i].Value); err != nil {
			tb.Fatal(err)
		}
	}
	return recs
}

func BenchmarkBesideTheLibrary(b *testing.B) {
	for _, engine := range engines() {
		b.Run(engine.name, func(b *testing.B) {
			e := enginetest.Need(b, engine.name)
			cfg := nats.Config{
				URL: e.URL, Options: options(e), Prefix: "BENCH", Partitions: libraryPartitions, Replicas: engine.replicas, Synced: true, Now: time.Now,
				Retention: nats.Retention{BytesMax: 512 << 20},
			}
			b.Run("append/frames", func(b *testing.B) { benchAppend(b, cfg) })
			b.Run("append/writer", func(b *testing.B) { benchWriter(b, cfg) })
			b.Run("append/library-frames", func(b *testing.B) { benchLibrary(b, cfg, frameRecords*recordBytes, frameRecords) })
			b.Run("append/library-messages", func(b *testing.B) { benchLibrary(b, cfg, recordBytes, 1) })
			b.Run("read/after", func(b *testing.B) { benchAfter(b, cfg) })
			b.Run("read/library-frames", func(b *testing.B) { benchFetch(b, cfg) })
		})
	}
}

// library is a connection of the client library alone.
func library(b *testing.B, cfg nats.Config) jetstream.JetStream {
	b.Helper()
	conn, err := natsgo.Connect(cfg.URL, cfg.Options...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(conn.Close)
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(libraryInFlight))
	if err != nil {
		b.Fatal(err)
	}
	return js
}

// openBench opens a log with fresh streams.
func openBench(b *testing.B, cfg nats.Config) *nats.Log {
	b.Helper()
	js := library(b, cfg)
	for stream := range js.StreamNames(b.Context()).Name() {
		if strings.HasPrefix(stream, cfg.Prefix+"_") {
			if err := js.DeleteStream(b.Context(), stream); err != nil {
				b.Fatal(err)
			}
		}
	}
	log, err := nats.Open(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = log.Close() })
	return log
}

func recordsASecond(b *testing.B, records int) {
	b.Helper()
	b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
}

func benchAppend(b *testing.B, cfg nats.Config) {
	b.Helper()
	log, recs := openBench(b, cfg), noise(b)
	b.ResetTimer()
	var callers sync.WaitGroup
	for p := range libraryPartitions {
		callers.Go(func() {
			for range (b.N + p) / libraryPartitions {
				if err := log.Append(b.Context(), bus.PartitionID{Topic: bus.Ingested, Number: p}, recs); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	callers.Wait()
	recordsASecond(b, b.N*frameRecords)
}

func benchWriter(b *testing.B, cfg nats.Config) {
	b.Helper()
	w, recs, ticket := bus.NewWriter(b.Context(), openBench(b, cfg), bus.WriterConfig{}), noise(b), &counting{}
	b.ResetTimer()
	for n := range b.N {
		if err := w.SubmitBatch(b.Context(), bus.PartitionID{Topic: bus.Ingested, Number: n % libraryPartitions}, recs, ticket); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
	recordsASecond(b, b.N*frameRecords)
}

// benchLibrary is what the client library does best: many messages under way at once.
func benchLibrary(b *testing.B, cfg nats.Config, bytes, records int) {
	b.Helper()
	openBench(b, cfg) // for its streams
	js := library(b, cfg)
	data := make([]byte, bytes)
	if _, err := rand.Read(data); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for n := range b.N {
		if _, err := js.PublishAsync(fmt.Sprintf("bench.ingested.%d", n%libraryPartitions), data, jetstream.WithStallWait(time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	recordsASecond(b, b.N*records)
}

const benchFrames = 1000

// benchAfter reads frames with the driver.
func benchAfter(b *testing.B, cfg nats.Config) {
	b.Helper()
	log := openBench(b, cfg)
	fillFrames(b, log)
	b.ResetTimer()
	for range b.N {
		p, err := log.Partition(b.Context(), ingested0)
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		for batch, err := range p.After(b.Context(), bus.Start{}) {
			if err != nil {
				b.Fatal(err)
			}
			if n += len(batch.Records); n == benchFrames*frameRecords {
				break
			}
		}
	}
	recordsASecond(b, b.N*benchFrames*frameRecords)
}

// benchFetch reads the same with the library's iterator, and leaves the frames as they are.
func benchFetch(b *testing.B, cfg nats.Config) {
	b.Helper()
	fillFrames(b, openBench(b, cfg))
	js := library(b, cfg)
	b.ResetTimer()
	for range b.N {
		consumer, err := js.CreateConsumer(b.Context(), cfg.Prefix+"_ingested_0", jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1})
		if err != nil {
			b.Fatal(err)
		}
		msgs, err := consumer.Messages(jetstream.PullMaxMessages(500))
		if err != nil {
			b.Fatal(err)
		}
		for range benchFrames {
			if _, err := msgs.Next(); err != nil {
				b.Fatal(err)
			}
		}
		msgs.Stop()
	}
	recordsASecond(b, b.N*benchFrames*frameRecords)
}

func fillFrames(b *testing.B, log *nats.Log) {
	b.Helper()
	recs := noise(b)
	for range benchFrames {
		if err := log.Append(b.Context(), ingested0, recs); err != nil {
			b.Fatal(err)
		}
	}
}
