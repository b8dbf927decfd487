package nats_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/nats"
	"github.com/millrace/millrace/pkg/enginetest"
)

// traffic writes numbered records into every partition of telemetry, as a router does, and reads them back in a group of two members.
type traffic struct {
	log      *nats.Log
	writer   *bus.Writer
	written  [trafficPartitions]atomic.Uint64 // numbers that were submitted
	stored   atomic.Int64
	failed   atomic.Int64
	mu       sync.Mutex
	progress [trafficPartitions]bus.Progress // as a store keeps it, beside the data
	taken    [trafficPartitions]uint64       // the last number that a reader took
	faults   []string
	running  sync.WaitGroup
	stop     context.CancelFunc
	quit     context.CancelFunc
}

const trafficPartitions = 3

// Done implements bus.Ticket.
func (f *traffic) Done(n int, err error) {
	if err != nil {
		f.failed.Add(int64(n))
	} else {
		f.stored.Add(int64(n))
	}
}

func startTraffic(t *testing.T, cfg nats.Config) *traffic {
	t.Helper()
	f := &traffic{log: openLog(t, cfg)}
	f.writer = bus.NewWriter(context.WithoutCancel(t.Context()), f.log, bus.WriterConfig{RetryMax: 200 * time.Millisecond})
	writing, stop := context.WithCancel(t.Context())
	reading, quit := context.WithCancel(t.Context())
	f.stop, f.quit = stop, quit
	t.Cleanup(func() { stop(); quit(); f.running.Wait() })
	for p := range trafficPartitions {
		f.running.Go(func() { f.write(writing, p) })
	}
	for range 2 {
		log := openLog(t, cfg)
		f.running.Go(func() {
			if err := log.Subscribe(reading, "traffic", []string{bus.Telemetry}, f.own); err != nil {
				f.fault("subscribe: %v", err)
			}
		})
	}
	return f
}

func (f *traffic) fault(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, fmt.Sprintf(format, args...))
}

func (f *traffic) write(ctx context.Context, p int) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for n := uint64(1); ; n++ {
		value := fmt.Append(nil, n)
		if err := f.writer.Submit(ctx, bus.PartitionID{Topic: bus.Telemetry, Number: p}, value, bus.Origin{Partition: int32(p), Position: bus.Position{Seq: n}}, f); err != nil {
			return
		}
		f.written[p].Store(n)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// own takes what comes into a store that has transactions: data and progress together, and only from where it stands.
func (f *traffic) own(ctx context.Context, s bus.Share) error {
	for ctx.Err() == nil {
		f.mu.Lock()
		at := f.progress[s.Number].Clone()
		f.mu.Unlock()
		for batch, err := range s.Partitions[0].After(ctx, bus.Start{Position: at.Through}) {
			if err != nil {
				break // and again from where it was
			}
			if !f.take(s.Number, &at, batch) {
				return nil // as one who was fenced
			}
			_ = s.Partitions[0].Commit(ctx, at)
		}
	}
	return nil
}

func (f *traffic) take(p int, at *bus.Progress, batch bus.Batch) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.progress[p].Through != at.Through {
		return false
	}
	for _, r := range batch.Records {
		if !at.Origins.Take(r.Origin) {
			continue
		}
		if want := f.taken[p] + 1; r.Origin.Seq != want {
			f.faults = append(f.faults, fmt.Sprintf("partition %d: %d came where %d should", p, r.Origin.Seq, want))
		}
		f.taken[p] = r.Origin.Seq
	}
	at.Through = batch.Last()
	f.progress[p] = at.Clone()
	return true
}

// flows waits until each partition has had so many more records written and read.
func (f *traffic) flows(t *testing.T, more uint64) {
	t.Helper()
	var want [trafficPartitions]uint64
	for p := range want {
		want[p] = f.written[p].Load() + more
	}
	eventually(t, "traffic in every partition", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		for p := range want {
			if f.taken[p] < want[p] {
				return false
			}
		}
		return true
	})
}

// finish ends the writing and returns when everything was read, each once.
func (f *traffic) finish(t *testing.T) {
	t.Helper()
	f.stop()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := f.writer.Close(ctx); err != nil {
		t.Error(err)
	}
	f.flows(t, 0)
	f.quit()
	f.running.Wait()
	for _, fault := range f.faults {
		t.Error(fault)
	}
	if f.failed.Load() > 0 {
		t.Errorf("%d records were given up", f.failed.Load())
	}
	t.Logf("%d records, %d appends tried again", f.stored.Load(), f.writer.Stats().Retries)
}

func clusterConfig(t *testing.T, e *enginetest.Engine) nats.Config {
	t.Helper()
	return nats.Config{
		URL: e.URL, Options: options(e), Prefix: prefix(t, e), Partitions: trafficPartitions, Replicas: 3,
		Retention: nats.Retention{BytesMax: 64 << 20},
	}
}

func TestKillTheLeaderUnderLoadLosesNothingAndDoublesNothing(t *testing.T) {
	e := enginetest.Need(t, "nats-cluster")
	cfg := clusterConfig(t, e)
	f := startTraffic(t, cfg)
	f.flows(t, 100)
	js := admin(t, e)
	for p := range trafficPartitions {
		node := nodeOf(t, leader(t, js, fmt.Sprintf("%s_telemetry_%d", cfg.Prefix, p)))
		e.Kill(t, node)
		f.flows(t, 100) // on two of three
		e.Start(t, node)
		f.flows(t, 100)
		awaitCopies(t, js, cfg)
	}
	f.finish(t)
}

func TestKillEachNodeInTurnLosesNothingAndDoublesNothing(t *testing.T) {
	e := enginetest.Need(t, "nats-cluster")
	cfg := clusterConfig(t, e)
	f := startTraffic(t, cfg)
	js := admin(t, e)
	for node := 1; node <= 3; node++ {
		f.flows(t, 100)
		e.Kill(t, node)
		f.flows(t, 100)
		e.Start(t, node)
		awaitCopies(t, js, cfg)
	}
	f.finish(t)
}

func TestKillOrRatherPauseANodeAndNothingIsLostOrDoubled(t *testing.T) {
	e := enginetest.Need(t, "nats-cluster")
	cfg := clusterConfig(t, e)
	f := startTraffic(t, cfg)
	f.flows(t, 100)
	js := admin(t, e)
	node := nodeOf(t, leader(t, js, cfg.Prefix+"_telemetry_0"))
	e.Pause(t, node)
	f.flows(t, 100)
	e.Resume(t, node)
	f.flows(t, 100)
	awaitCopies(t, js, cfg)
	f.finish(t)
}

// awaitCopies waits until every node has everything of telemetry, so that the next one may die.
func awaitCopies(t *testing.T, js jetstream.JetStream, cfg nats.Config) {
	t.Helper()
	streams := []string{"KV_" + cfg.Prefix + "_groups", "KV_" + cfg.Prefix + "_positions"}
	for p := range trafficPartitions {
		streams = append(streams, fmt.Sprintf("%s_telemetry_%d", cfg.Prefix, p))
	}
	for _, stream := range streams {
		eventually(t, "every copy of "+stream, func() bool {
			s, err := js.Stream(t.Context(), stream)
			if err != nil || s.CachedInfo().Cluster == nil || s.CachedInfo().Cluster.Leader == "" {
				return false
			}
			current := 0
			for _, r := range s.CachedInfo().Cluster.Replicas {
				if r.Current && !r.Offline {
					current++
				}
			}
			return current == 2
		})
	}
}

func TestAMemberThatWakesAfterItsLeaseHasRunOutGivesItsSharesUp(t *testing.T) {
	server := startProcess(t)
	between := startProxy(t, server.url)
	const lease = 2 * time.Second
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cfg := nats.Config{URL: between.url(), Partitions: 1, Lease: lease}
	zombie := join(ctx, openLog(t, cfg))
	within(t, "the first owner", zombie.started)
	cfg.URL = server.url
	heir := join(ctx, openLog(t, cfg))
	between.freeze()
	within(t, "the heir's share", heir.started)
	within(t, "the end of the zombie's share", zombie.ended)
	between.mute.Store(false)
	between.deaf.Store(false)
	between.cut() // it comes back, and may have a share again only when the heir leaves
	select {
	case <-zombie.started:
		t.Error("the zombie has the share although the heir lives")
	case <-time.After(lease):
	}
	cancel()
	for _, m := range []member{zombie, heir} {
		if err := within(t, "the end of a subscription", m.done); err != nil && !strings.Contains(err.Error(), "closed") {
			t.Error(err)
		}
	}
}

func TestCopiesAreAddedToWhatIsThereAndNeverTakenAway(t *testing.T) {
	e := enginetest.Need(t, "nats-cluster")
	cfg := clusterConfig(t, e)
	cfg.Replicas = 1
	log := openLog(t, cfg)
	if err := log.Append(t.Context(), ingested0, one("a")); err != nil {
		t.Fatal(err)
	}
	cfg.Replicas = 3
	openLog(t, cfg)
	js := admin(t, e)
	awaitCopies(t, js, cfg)
	cfg.Replicas = 1
	third := openLog(t, cfg)
	for _, stream := range []string{cfg.Prefix + "_ingested_0", "KV_" + cfg.Prefix + "_positions"} {
		s, err := js.Stream(t.Context(), stream)
		if err != nil || s.CachedInfo().Config.Replicas != 3 {
			t.Errorf("%s has %d copies, %v", stream, s.CachedInfo().Config.Replicas, err)
		}
	}
	if got := readAll(t, third, bus.Start{}); len(got) != 1 {
		t.Errorf("the log has %d records, want 1", len(got))
	}
}
