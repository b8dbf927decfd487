package bustest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/pkg/bus"
)

func commits(t *testing.T, d Driver) {
	i := open(t, d)
	mustAppend(t, i.Log, firstPartition(), "a", "b", "c")
	recs := read(t, partition(t, i.Log, firstPartition()), bus.Start{}, 3)
	ahead := bus.Progress{Through: recs[1].Position, Origins: bus.Origins{{Partition: 3, Position: bus.Position{Seq: 5, Index: 6}}}}
	expect := func(p bus.Partition, want bus.Progress) error {
		got, ok, err := p.Committed(within(t))
		if err != nil || ok != !want.Through.IsZero() || got.Through != want.Through || !slices.Equal(got.Origins, want.Origins) {
			return fmt.Errorf("committed is %v, %v, %w, want %v", got, ok, err, want)
		}
		return nil
	}
	withShare(t, i.Log, "g", func(p bus.Partition) error {
		if err := expect(p, bus.Progress{}); err != nil {
			return err
		}
		if err := p.Commit(within(t), ahead); err != nil {
			return err
		}
		if err := p.Commit(within(t), bus.Progress{Through: recs[0].Position}); err != nil {
			return err
		}
		return expect(p, ahead)
	})
	again := i.Again(t)
	for group, want := range map[string]bus.Position{"g": ahead.Through, "other": {}} {
		if got, err := again.Reached(within(t), group, firstPartition()); err != nil || got != want {
			t.Errorf("a stranger is told that %s has reached %v (%v), want %v", group, got, err, want)
		}
	}
	if got, err := again.Reached(within(t), "g", bus.PartitionID{Topic: "none"}); !errors.Is(err, bus.ErrUnknownTopic) {
		t.Errorf("of a topic that is none: %v, %v", got, err)
	}
	withShare(t, again, "other", func(p bus.Partition) error { return expect(p, bus.Progress{}) })
	withShare(t, again, "g", func(p bus.Partition) error {
		if err := p.Commit(within(t), bus.Progress{Through: recs[0].Position}); err != nil {
			return err
		}
		if err := expect(p, ahead); err != nil {
			return err
		}
		return p.Commit(within(t), bus.Progress{Through: recs[2].Position})
	})
	withShare(t, i.Log, "g", func(p bus.Partition) error { return expect(p, bus.Progress{Through: recs[2].Position}) })
}

// commitBeforeAll is what a reader does that begins at the end of a partition that is empty.
func commitBeforeAll(t *testing.T, d Driver) {
	log := open(t, d).Log
	start := bus.Position{Index: 1}
	withShare(t, log, "g", func(p bus.Partition) error {
		return p.Commit(within(t), bus.Progress{Through: start})
	})
	mustAppend(t, log, firstPartition(), "a", "b", "c")
	withShare(t, log, "g", func(p bus.Partition) error {
		got, ok, err := p.Committed(within(t))
		if err != nil || !ok || got.Through != start {
			return fmt.Errorf("committed is %v, %v, %w, want %v", got, ok, err, start)
		}
		if recs := read(t, p, bus.Start{Position: start}, 3); len(recs) != 3 {
			return fmt.Errorf("read %d records after %v, want 3", len(recs), start)
		}
		return nil
	})
}

func shares(t *testing.T, d Driver) {
	const partitions = 4
	i := d.Open(t, Options{Partitions: partitions, RecordBytesMax: 1 << 10})
	if n := i.Log.Partitions(bus.Ingested); n != partitions {
		t.Errorf("Partitions says %d", n)
	}
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	var owned [partitions]atomic.Int32
	all := make(chan struct{}, 100)
	own := func(ctx context.Context, s bus.Share) error {
		for k, topic := range []string{bus.Logs, bus.Telemetry} {
			if id := s.Partitions[k].ID(); id != (bus.PartitionID{Topic: topic, Number: s.Number}) {
				return fmt.Errorf("share %d has %s as number %d", s.Number, id, k)
			}
		}
		if owned[s.Number].Add(1) > 1 {
			return fmt.Errorf("share %d is owned twice", s.Number)
		}
		all <- struct{}{}
		<-ctx.Done()
		owned[s.Number].Add(-1)
		return nil
	}
	one := subscribe(ctx, i.Log, "g", own, bus.Logs, bus.Telemetry)
	for range partitions {
		await(t, "the next share", all)
	}
	two := subscribe(ctx, i.Again(t), "g", own, bus.Logs, bus.Telemetry)
	cancel()
	for _, done := range []<-chan error{one, two} {
		if err := await(t, "the end of the subscription", done); err != nil {
			t.Error(err)
		}
	}
}

func subscriptionEnds(t *testing.T, d Driver) {
	log := open(t, d).Log
	ctx, cancel := context.WithCancel(within(t))
	started := make(chan struct{}, 10)
	done := subscribe(ctx, log, "g", func(ctx context.Context, s bus.Share) error {
		started <- struct{}{}
		for _, err := range s.Partitions[0].After(ctx, bus.Start{}) {
			return err
		}
		return nil
	}, firstPartition().Topic)
	await(t, "a share", started)
	cancel()
	if err := await(t, "the end of the subscription", done); err != nil {
		t.Error(err)
	}
	if err := log.Subscribe(ctx, "g", []string{firstPartition().Topic}, nil); err != nil {
		t.Errorf("with an ended context: %v", err)
	}
}

func ownFails(t *testing.T, d Driver) {
	log := open(t, d).Log
	fault := errors.New("a fault of the test")
	var running atomic.Int32
	both := make(chan struct{}, 2)
	done := subscribe(within(t), log, "g", func(ctx context.Context, s bus.Share) error {
		running.Add(1)
		defer running.Add(-1)
		both <- struct{}{}
		if s.Number == 0 {
			for len(both) < cap(both) && ctx.Err() == nil { // until the other one runs
				await(t, "the other share", asSoonAs(ctx, func() bool { return len(both) == cap(both) }))
			}
			return fault
		}
		<-ctx.Done()
		return nil
	}, firstPartition().Topic)
	if err := await(t, "the end of the subscription", done); !errors.Is(err, fault) {
		t.Errorf("Subscribe returned %v", err)
	}
	if n := running.Load(); n != 0 {
		t.Errorf("%d owns were running still", n)
	}
}

func ownReturns(t *testing.T, d Driver) {
	log := open(t, d).Log
	for range 2 { // and another may follow
		withShare(t, log, "g", func(bus.Partition) error { return nil })
	}
}

func handOver(t *testing.T, d Driver) {
	i := open(t, d)
	var mu sync.Mutex
	owners := map[int]string{}
	own := func(name string, started chan<- int) func(context.Context, bus.Share) error {
		return func(ctx context.Context, s bus.Share) error {
			mu.Lock()
			other := owners[s.Number]
			owners[s.Number] = name
			mu.Unlock()
			if other != "" {
				return fmt.Errorf("share %d came to %s while %s had it", s.Number, name, other)
			}
			started <- s.Number
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			delete(owners, s.Number)
			return nil
		}
	}
	ctx1, leave1 := context.WithCancel(within(t))
	started1, started2 := make(chan int, 10), make(chan int, 10)
	one := subscribe(ctx1, i.Log, "g", own("one", started1), firstPartition().Topic)
	await(t, "a share", started1)
	await(t, "a share", started1)
	ctx2, leave2 := context.WithCancel(within(t))
	two := subscribe(ctx2, i.Again(t), "g", own("two", started2), firstPartition().Topic)
	leave1()
	if err := await(t, "the end of the first member", one); err != nil {
		t.Error(err)
	}
	got := map[int]bool{}
	for len(got) < 2 {
		got[await(t, "a share for the second member", started2)] = true
	}
	leave2()
	if err := await(t, "the end of the second member", two); err != nil {
		t.Error(err)
	}
}

func closing(t *testing.T, d Driver) {
	log := open(t, d).Log
	p := partition(t, log, firstPartition())
	reading := make(chan error, 1)
	started := make(chan struct{}, 10)
	mustAppend(t, log, firstPartition(), "a")
	go func() {
		for _, err := range p.After(within(t), bus.Start{}) {
			if err != nil {
				reading <- err
				return
			}
			started <- struct{}{}
		}
		reading <- nil
	}()
	done := subscribe(within(t), log, "g", func(ctx context.Context, _ bus.Share) error {
		started <- struct{}{}
		<-ctx.Done()
		return nil
	}, firstPartition().Topic)
	for range 3 {
		await(t, "the start", started)
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
	if err := await(t, "the end of reading", reading); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("reading ended with %v", err)
	}
	if err := await(t, "the end of the subscription", done); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("Subscribe returned %v", err)
	}
	if err := log.Append(within(t), firstPartition(), records("b")); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("Append returned %v", err)
	}
	if err := log.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
}
