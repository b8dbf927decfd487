package ingest_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/mqtt"
	"github.com/millrace/millrace/services/ingest"
)

// null is a log that takes everything and keeps nothing, so that the edge alone is measured.
type null struct{ partitions int }

func (n null) Append(context.Context, bus.PartitionID, []bus.Record) error { return nil }
func (n null) Partitions(string) int                                       { return n.partitions }

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkMQTT sends Channel messages with QoS 1 from the socket to the Writer, generator included.
func BenchmarkMQTT(b *testing.B) {
	for _, c := range []struct{ conns, inflight int }{{1, 1000}, {100, 10}, {1000, 10}, {1000, 1}} {
		b.Run(fmt.Sprintf("%dx%d", c.conns, c.inflight), func(b *testing.B) {
			r := start(b, setup{bus: null{4}, cfg: func(c *ingest.Config) { c.Limits.MessagesPerSecond = 1_000_000 }})
			clients := make([]*mqtt.Client, c.conns)
			for i := range clients {
				clients[i] = r.dial(mqtt.ClientOptions{MaxInflight: c.inflight})
			}
			b.ResetTimer()
			began := cpu()
			var group sync.WaitGroup
			for i, client := range clients {
				n := b.N / c.conns
				if i < b.N%c.conns {
					n++
				}
				group.Go(func() { flood(b, client, i, n) })
			}
			group.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
			b.ReportMetric((cpu()-began).Seconds()/float64(b.N)*1e6, "CPU-s/million")
		})
	}
}

func flood(b *testing.B, c *mqtt.Client, device, n int) {
	b.Helper()
	id := fmt.Sprintf("device%04d", device)
	body := []byte(strings.Replace(panel, "homecontroller", id, 1))
	for range n {
		if err := c.PublishAsync("devices/"+id+"/messages/events/", body, 1, nil, nil); err != nil {
			b.Error(err)
			return
		}
	}
	if err := c.Drain(b.Context()); err != nil {
		b.Error(err)
	}
}

// BenchmarkHTTP posts NDJSON of 1,000 Channel messages, through the handler alone.
func BenchmarkHTTP(b *testing.B) {
	r := start(b, setup{bus: null{4}, mounted: true, cfg: func(c *ingest.Config) { c.Limits.MessagesPerSecond = 0 }})
	const lines = 1000
	body := strings.Repeat(panel+"\n", lines)
	began := cpu()
	b.ReportAllocs()
	for b.Loop() {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "/v1/messages", strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		w := &recorder{header: http.Header{}}
		if r.ingest.Handler().ServeHTTP(w, req); w.status != http.StatusAccepted {
			b.Fatal(w.status)
		}
	}
	n := float64(b.N * lines)
	b.ReportMetric(n/b.Elapsed().Seconds(), "msgs/s")
	b.ReportMetric((cpu()-began).Seconds()/n*1e6, "CPU-s/million")
}
