package mem_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
)

// owned says which shares a member has.
type owned struct {
	numbers map[int]bool // read and written while the bubble is idle, and by the log under its lock
	done    chan error
	leave   context.CancelFunc
}

func member(ctx context.Context, log *mem.Log) *owned {
	ctx, leave := context.WithCancel(ctx)
	o := &owned{numbers: map[int]bool{}, done: make(chan error, 1), leave: leave}
	change, changes := make(chan func(), 1), make(chan struct{})
	go func() {
		defer close(changes)
		for f := range change {
			f()
		}
	}()
	go func() {
		err := log.Subscribe(ctx, "g", []string{bus.Ingested}, func(ctx context.Context, s bus.Share) error {
			change <- func() { o.numbers[s.Number] = true }
			<-ctx.Done()
			change <- func() { delete(o.numbers, s.Number) }
			return nil
		})
		close(change)
		<-changes
		o.done <- err
	}()
	return o
}

func TestSharesAreDealtOutEvenlyOverTheMembersOfAllProcessesAndMoveWhenOneDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := mem.New(mem.Config{Partitions: 5})
		second := log.Open()
		expect := func(members []*owned, sizes ...int) {
			t.Helper()
			synctest.Wait()
			var got []int
			seen := map[int]bool{}
			for _, m := range members {
				got = append(got, len(m.numbers))
				for n := range m.numbers {
					if seen[n] {
						t.Errorf("share %d has two owners", n)
					}
					seen[n] = true
				}
			}
			if !slices.Equal(got, sizes) {
				t.Errorf("members have %v shares, want %v", got, sizes)
			}
		}
		members := []*owned{member(t.Context(), log)}
		expect(members, 5)
		members = append(members, member(t.Context(), second))
		expect(members, 3, 2)
		members = append(members, member(t.Context(), log))
		expect(members, 2, 2, 1)
		second.Crash()
		expect(members, 3, 0, 2)
		members[0].leave()
		expect(members, 0, 0, 5)
		members[2].leave()
		if err := errors.Join(<-members[0].done, <-members[2].done); err != nil {
			t.Error(err)
		}
		members[1].leave()
		if err := <-members[1].done; !errors.Is(err, mem.ErrCrashed) {
			t.Errorf("the crashed member got %v", err)
		}
	})
}

func TestFaultsHappenBeforeOrAfterTheEffect(t *testing.T) {
	fault := errors.New("a fault of the test")
	log := mem.New(mem.Config{})
	id := bus.PartitionID{Topic: bus.Ingested}
	one := []bus.Record{{Value: []byte("x")}}
	log.SetFaults(mem.Faults{BeforeAppend: func(context.Context, bus.PartitionID, []bus.Record) error { return fault }})
	if err := log.Append(t.Context(), id, one); !errors.Is(err, fault) || len(log.Records(id)) != 0 {
		t.Errorf("before: %v, %v", err, log.Records(id))
	}
	log.SetFaults(mem.Faults{AfterAppend: func(context.Context, bus.PartitionID, []bus.Record) error { return fault }})
	if err := log.Append(t.Context(), id, one); !errors.Is(err, fault) || len(log.Records(id)) != 1 {
		t.Errorf("after: %v, %v", err, log.Records(id))
	}
	progress := bus.Progress{Through: log.Records(id)[0].Position}
	err := log.Subscribe(t.Context(), "g", []string{bus.Ingested}, func(ctx context.Context, s bus.Share) error {
		p := s.Partitions[0]
		hook := func(context.Context, string, bus.PartitionID, bus.Progress) error { return fault }
		log.SetFaults(mem.Faults{BeforeCommit: hook})
		if err := p.Commit(ctx, progress); !errors.Is(err, fault) {
			t.Errorf("before: %v", err)
		}
		if _, ok, _ := p.Committed(ctx); ok {
			t.Error("a commit that failed before its effect has one")
		}
		log.SetFaults(mem.Faults{AfterCommit: hook, BeforeRead: func(context.Context, bus.PartitionID, bus.Position) error { return fault }})
		if err := p.Commit(ctx, progress); !errors.Is(err, fault) {
			t.Errorf("after: %v", err)
		}
		if _, ok, _ := p.Committed(ctx); !ok {
			t.Error("a commit that failed after its effect has none")
		}
		for _, err := range p.After(ctx, bus.Start{}) {
			if !errors.Is(err, fault) {
				t.Errorf("reading: %v", err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAMemberThatSleptPastItsLeaseGoesOnWhileAnotherOwnsItsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := mem.New(mem.Config{Now: time.Now})
		first, second := log.Open(), log.Open()
		var mu sync.Mutex
		var told []string
		tell := func(what string) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, what)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var members sync.WaitGroup
		join := func(l *mem.Log, name string) {
			members.Go(func() {
				if err := l.Subscribe(ctx, "g", []string{bus.Ingested}, func(ctx context.Context, _ bus.Share) error {
					tell(name + " begins")
					<-ctx.Done()
					tell(name + " ends")
					return nil
				}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		join(first, "first")
		join(second, "second")
		wake := first.Lapse()
		synctest.Wait()
		tell("wake")
		wake()
		synctest.Wait()
		cancel()
		members.Wait()
		if got := strings.Join(told[:4], ", "); got != "first begins, second begins, wake, first ends" {
			t.Errorf("told: %s", got)
		}
	})
}

func TestACutLogHasLostItsEndAndGivesTheSamePositionsAgain(t *testing.T) {
	log, id := mem.New(mem.Config{}), bus.PartitionID{Topic: bus.Ingested}
	for _, v := range []string{"a", "b", "c"} {
		if err := log.Append(t.Context(), id, []bus.Record{{Value: []byte(v)}}); err != nil {
			t.Fatal(err)
		}
	}
	log.Cut(id, bus.Position{Seq: 1})
	if err := log.Append(t.Context(), id, []bus.Record{{Value: []byte("d")}}); err != nil {
		t.Fatal(err)
	}
	recs := log.Records(id)
	if len(recs) != 2 || string(recs[1].Value) != "d" || recs[1].Position.Seq != 2 {
		t.Errorf("the log has %v", recs)
	}
}
