package bustest

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
)

// asSoonAs closes what it returns when condition holds or ctx ends.
func asSoonAs(ctx context.Context, condition func() bool) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for !condition() {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return done
}

func openMortal(t *testing.T, d Driver) Instance {
	t.Helper()
	i := open(t, d)
	if i.Crash == nil {
		t.Skip("the engine must not be killed here")
	}
	return i
}

func crashKeepsAcknowledged(t *testing.T, d Driver) {
	i := openMortal(t, d)
	const appenders = 3
	var acknowledged [appenders]int
	var total atomic.Int32
	ctx, stop := context.WithCancel(within(t))
	defer stop()
	done := make(chan struct{}, appenders)
	for a := range appenders {
		go func() {
			defer func() { done <- struct{}{} }()
			for n := 0; ; n++ { // until the crash
				if i.Log.Append(ctx, firstPartition(), records(fmt.Sprintf("%d:%d", a, n))) != nil {
					return
				}
				acknowledged[a] = n + 1
				total.Add(1)
			}
		}()
	}
	await(t, "a hundred appends", asSoonAs(ctx, func() bool { return total.Load() >= 100 }))
	log := i.Crash(t)
	stop()
	for range appenders {
		await(t, "the end of an appender", done)
	}
	var next [appenders]int
	for _, r := range readToEnd(t, log) {
		var a, n int
		if _, err := fmt.Sscanf(string(r.Value), "%d:%d", &a, &n); err != nil {
			t.Fatalf("%q: %v", r.Value, err)
		}
		if n != next[a] {
			t.Fatalf("got %q, want number %d", r.Value, next[a])
		}
		next[a]++
	}
	for a := range appenders {
		if next[a] < acknowledged[a] {
			t.Errorf("of the %d acknowledged records of %d there are %d", acknowledged[a], a, next[a])
		}
	}
}

func readToEnd(t *testing.T, log bus.Log) []bus.Record {
	t.Helper()
	p := partition(t, log, firstPartition())
	end, err := p.End(within(t))
	if err != nil {
		t.Fatal(err)
	}
	var recs []bus.Record
	for batch, err := range p.After(within(t), bus.Start{}) {
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, batch.Records...)
		if batch.Last().Compare(end) >= 0 {
			break
		}
	}
	return recs
}

func crashKeepsCommits(t *testing.T, d Driver) {
	i := openMortal(t, d)
	mustAppend(t, i.Log, firstPartition(), "a", "b", "c")
	recs := read(t, partition(t, i.Log, firstPartition()), bus.Start{}, 3)
	log := i.Log
	for n, r := range recs {
		withShare(t, log, "g", func(p bus.Partition) error { return p.Commit(within(t), bus.Progress{Through: r.Position}) })
		if n == 1 {
			log = i.Crash(t)
			withShare(t, log, "g", func(p bus.Partition) error {
				if got, ok, err := p.Committed(within(t)); err != nil || !ok || got.Through != r.Position {
					return fmt.Errorf("committed is %v, %v, %w, want %s", got, ok, err, r.Position)
				}
				return nil
			})
		}
	}
}

// reopened is a log that comes back after a crash, as a worker sees one that reconnects.
type reopened struct{ log atomic.Pointer[bus.Log] }

func (r *reopened) Append(ctx context.Context, p bus.PartitionID, recs []bus.Record) error {
	return (*r.log.Load()).Append(ctx, p, recs)
}
func (r *reopened) Partitions(topic string) int { return (*r.log.Load()).Partitions(topic) }

type tally struct{ stored, failed atomic.Int64 }

func (c *tally) Done(n int, err error) {
	if err != nil {
		c.failed.Add(int64(n))
	} else {
		c.stored.Add(int64(n))
	}
}

func crashUnderWriter(t *testing.T, d Driver) {
	i := openMortal(t, d)
	var log reopened
	log.log.Store(&i.Log)
	w := bus.NewWriter(within(t), &log, bus.WriterConfig{RetryMax: 50 * time.Millisecond})
	const n = 20000
	var told tally
	submitted := make(chan struct{})
	go func() {
		defer close(submitted)
		for v := range n {
			if err := w.Submit(within(t), firstPartition(), fmt.Append(nil, v), bus.Origin{Position: bus.Position{Seq: uint64(v) + 1}}, &told); err != nil {
				t.Error(err)
				return
			}
			if v%1000 == 999 { // so that it goes on through the crashes
				<-asSoonAs(within(t), func() bool { return told.stored.Load() > int64(v)-500 })
			}
		}
	}()
	for crash := range 3 {
		await(t, "progress", asSoonAs(within(t), func() bool { return told.stored.Load() >= int64(crash)*3000 }))
		again := i.Crash(t)
		log.log.Store(&again)
	}
	await(t, "the last submission", submitted)
	if err := w.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	if told.stored.Load() != n || told.failed.Load() != 0 {
		t.Errorf("%d stored, %d failed", told.stored.Load(), told.failed.Load())
	}
	var taken bus.Origins
	next := 0
	for _, r := range readToEnd(t, *log.log.Load()) {
		if !taken.Take(r.Origin) {
			continue // an append that was sent again
		}
		if string(r.Value) != fmt.Sprint(next) {
			t.Fatalf("got %q, want %d", r.Value, next)
		}
		next++
	}
	if next != n {
		t.Errorf("%d records, want %d", next, n)
	}
}
