package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/kafka"
	"github.com/millrace/millrace/pkg/enginetest"
)

// rideOut is how long a test may take in which brokers die and come back, on a machine that does much else.
const rideOut = 8 * time.Minute

type tally struct{ stored, failed atomic.Int64 }

func (c *tally) Done(n int, err error) {
	if err != nil {
		c.failed.Add(int64(n))
	} else {
		c.stored.Add(int64(n))
	}
}

// await waits for a condition.
func await(ctx context.Context, t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s did not come: %v", what, context.Cause(ctx))
		}
	}
}

// witness is what the members of a group have seen of each partition.
type witness struct {
	mu   sync.Mutex
	next []int // by partition: what all members together have come to
	seen atomic.Int64
}

// own reads a share, notes what comes, and commits it.
func (w *witness) own(ctx context.Context, s bus.Share) error {
	p := s.Partitions[0]
	var at bus.Position
	for known := false; ctx.Err() == nil && !known; {
		progress, _, err := p.Committed(ctx)
		known, at = err == nil, progress.Through
	}
	for ctx.Err() == nil {
		for batch, err := range p.After(ctx, bus.Start{Position: at}) {
			if err != nil {
				break // and read on
			}
			at = batch.Last()
			if err := w.note(s.Number, batch.Records); err != nil {
				return err
			}
			_ = p.Commit(ctx, bus.Progress{Through: at}) // else the next one does
		}
	}
	return nil
}

// note takes records that are next, leaves those that were there, and refuses a gap.
func (w *witness) note(partition int, recs []bus.Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range recs {
		v, err := strconv.Atoi(string(r.Value))
		if err != nil || v > w.next[partition] {
			return fmt.Errorf("partition %d: got %q, want %d", partition, r.Value, w.next[partition])
		}
		if v == w.next[partition] {
			w.next[partition]++
			w.seen.Add(1)
		}
	}
	return nil
}

func TestKillABrokerIsRiddenOutUnderLoadWithNothingLostAndNothingDoubled(t *testing.T) {
	e := enginetest.Need(t, "kafka")
	ctx, cancel := context.WithTimeout(t.Context(), rideOut)
	defer cancel()
	const partitions, kills = 3, 2
	registry := prometheus.NewRegistry()
	cfg := kafka.Config{URL: e.URL, Prefix: prefix(t, e), Partitions: partitions, Lease: 20 * time.Second}
	readers := []*kafka.Log{openLog(t, cfg), openLog(t, cfg)}
	cfg.Metrics = registry
	log := openLog(t, cfg)

	w := bus.NewWriter(ctx, log, bus.WriterConfig{RetryMax: 100 * time.Millisecond, RetryFor: rideOut})
	var told tally
	var stop atomic.Bool
	var submitted [partitions]int
	var writing sync.WaitGroup
	for n := range partitions {
		writing.Go(func() {
			pace := time.NewTicker(10 * time.Millisecond) // a steady load, of which little is left to do in the end
			defer pace.Stop()
			for v := 0; !stop.Load(); v++ {
				recs := []bus.Record{{Value: strconv.AppendInt(nil, int64(v), 10), Origin: bus.Origin{Partition: int32(n), Position: bus.Position{Seq: uint64(v) + 1}}}}
				if err := w.SubmitBatch(ctx, ingested(n), recs, &told); err != nil {
					t.Error(err)
					return
				}
				submitted[n]++
				if v%10 == 0 {
					<-pace.C
				}
			}
		})
	}
	seen := &witness{next: make([]int, partitions)}
	reading, leave := context.WithCancel(ctx)
	ends := make(chan error, len(readers))
	for _, r := range readers {
		go func() { ends <- r.Subscribe(reading, "witness", []string{bus.Ingested}, seen.own) }()
	}
	for node := range kills {
		before := told.stored.Load()
		await(ctx, t, "progress before the kill", func() bool { return told.stored.Load() > before+2000 })
		e.Kill(t, node+1)
		before = told.stored.Load()
		await(ctx, t, "progress without the broker", func() bool { return told.stored.Load() > before+5000 })
		e.Start(t, node+1)
	}
	stop.Store(true)
	writing.Wait()
	if err := w.Close(ctx); err != nil || told.failed.Load() > 0 {
		t.Fatalf("%d records failed: %v", told.failed.Load(), err)
	}
	await(ctx, t, "the last record at the readers", func() bool { return seen.seen.Load() == told.stored.Load() || len(ends) > 0 })
	leave()
	for range readers {
		if err := <-ends; err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d records, %d appends repeated, %v producer ids", told.stored.Load(), w.Stats().Retries, counted(t, registry, "millrace_bus_producers_total"))
	for n := range partitions {
		checkSequence(t, log, n, submitted[n])
	}
}

// checkSequence reads a partition with a fresh eye: every record once, in order.
func checkSequence(t *testing.T, log bus.Log, n, want int) {
	t.Helper()
	next, doubles := 0, 0
	for _, v := range readAll(t, log, ingested(n)) {
		switch got, err := strconv.Atoi(v); {
		case err != nil || got > next:
			t.Fatalf("partition %d: got %q, want %d", n, v, next)
		case got < next:
			doubles++
		default:
			next++
		}
	}
	if next != want || doubles > 0 {
		t.Errorf("partition %d has %d records of %d, and %d doubles", n, next, want, doubles)
	}
}

func counted(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

func TestKillABrokerThatHangsIsAnErrorWithinSecondsAndThenLeftBehind(t *testing.T) {
	e := enginetest.Need(t, "kafka")
	ctx, cancel := context.WithTimeout(t.Context(), rideOut)
	defer cancel()
	log := openLog(t, kafka.Config{URL: e.URL, Prefix: prefix(t, e), Partitions: 3})
	for n := range 3 {
		for log.Append(ctx, ingested(n), records("before")) != nil {
			continue
		}
	}
	e.Pause(t, 2)
	for n := range 3 { // one of them is led by each broker
		for {
			began := time.Now()
			err := log.Append(ctx, ingested(n), records("after"))
			if took := time.Since(began); took > time.Minute {
				t.Errorf("an append to a broker that hangs took %v", took)
			}
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				t.Fatal(errors.Join(err, context.Cause(ctx)))
			}
		}
	}
	e.Resume(t, 2)
	for n := range 3 {
		if got := fmt.Sprint(readAll(t, log, ingested(n))); got != "[before after]" {
			t.Errorf("partition %d has %s", n, got)
		}
	}
}
