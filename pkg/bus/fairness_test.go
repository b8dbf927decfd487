package bus_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
)

// slowly makes each append of a log take d, and what stuck tells never.
func slowly(log *mem.Log, d time.Duration, stuck func(bus.PartitionID) bool) {
	log.SetFaults(mem.Faults{BeforeAppend: func(ctx context.Context, id bus.PartitionID, _ []bus.Record) error {
		if stuck != nil && stuck(id) {
			<-ctx.Done()
			return ctx.Err()
		}
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}})
}

// floods starts senders that submit to p as fast as they may, each 64 records of 1 KiB at a time, until ctx ends.
func floods(ctx context.Context, group *sync.WaitGroup, w *bus.Writer, p bus.PartitionID, flows ...uint64) {
	for _, flow := range flows {
		group.Go(func() {
			recs := make([]bus.Record, 64)
			for i := range recs {
				recs[i].Value = make([]byte, 1<<10)
			}
			t := &counting{}
			for w.SubmitFlow(ctx, p, flow, recs, t) == nil {
			}
		})
	}
}

// latency submits one record of a flow of its own and returns how long it takes.
func latency(t *testing.T, w *bus.Writer, p bus.PartitionID, flow uint64) time.Duration {
	t.Helper()
	done, began := make(told, 1), time.Now()
	if err := w.SubmitFlow(t.Context(), p, flow, []bus.Record{{Value: []byte("honest")}}, done); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

type told chan error

func (c told) Done(_ int, err error) { c <- err }

func numbers(from, n uint64) []uint64 {
	all := make([]uint64, n)
	for i := range all {
		all[i] = from + uint64(i)
	}
	return all
}

func TestWhoFloodsAPartitionWaitsForItselfAndOthersForTheAppendInHand(t *testing.T) {
	const append1 = 10 * time.Millisecond
	for _, tt := range []struct {
		name   string
		floods uint64
		most   time.Duration
	}{
		{"one flood", 1, 4 * append1}, {"four", 4, 4 * append1}, {"a hundred", 100, 8 * append1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := mem.New(mem.Config{BytesMax: 1 << 30})
				slowly(log, append1, nil)
				w := bus.NewWriter(t.Context(), log, bus.WriterConfig{PendingBytesMax: 16 << 20})
				ctx, cancel := context.WithCancel(t.Context())
				var group sync.WaitGroup
				floods(ctx, &group, w, ingested0, numbers(1000, tt.floods)...)
				<-time.After(time.Second)
				if full := w.Stats().PendingBytes; full < 4<<20 { // in order of arrival, sixteen appends before the honest record's
					t.Errorf("only %d bytes are pending: this is no flood", full)
				}
				for i := range uint64(50) {
					if took := latency(t, w, ingested0, 1+i); took > tt.most {
						t.Fatalf("an honest record took %v, want at most %v", took, tt.most)
					}
				}
				cancel()
				group.Wait()
				if err := w.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				if left := w.Stats().PendingBytes; left != 0 {
					t.Errorf("%d bytes are still pending", left)
				}
			})
		})
	}
}

func TestAPartitionThatDoesNotAnswerStopsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := mem.New(mem.Config{Partitions: 2})
		slowly(log, time.Millisecond, func(id bus.PartitionID) bool { return id.Number == 0 })
		w := bus.NewWriter(t.Context(), log, bus.WriterConfig{PendingBytesMax: 1 << 20})
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		floods(ctx, &group, w, ingested0, numbers(1000, 100)...)
		<-time.After(time.Second)
		if took := latency(t, w, bus.PartitionID{Topic: bus.Ingested, Number: 1}, 1); took > time.Second {
			t.Errorf("a record of another partition took %v", took)
		}
		cancel()
		group.Wait()
		grace, done := context.WithTimeout(t.Context(), time.Second)
		defer done()
		if err := w.Close(grace); err == nil {
			t.Error("Close knows nothing of the records that nobody has taken")
		}
	})
}

func TestFlowsGetEqualSharesOfWhatALogTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := mem.New(mem.Config{BytesMax: 1 << 30})
		slowly(log, 10*time.Millisecond, nil)
		w := bus.NewWriter(t.Context(), log, bus.WriterConfig{})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		counts := make([]counting, 3)
		var group sync.WaitGroup
		for i, size := range []int{100, 5_000, 200_000} { // equal in bytes, whatever the size of their records
			group.Go(func() {
				recs := make([]bus.Record, max(200_000/size, 1))
				for n := range recs {
					recs[n].Value = make([]byte, size)
				}
				for w.SubmitFlow(ctx, ingested0, uint64(i)+1, recs, &counts[i]) == nil {
				}
			})
		}
		group.Wait()
		taken := [3]int64{counts[0].n.Load() * 164, counts[1].n.Load() * 5064, counts[2].n.Load() * 200_064}
		for _, n := range taken {
			if share := float64(n) / float64(taken[0]+taken[1]+taken[2]); share < 0.28 || share > 0.39 {
				t.Errorf("bytes by flow %v: one got %.2f of all", taken, share)
			}
		}
		if err := w.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAWaiterThatGivesUpTakesNoRoomAndHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, outcomes := mem.New(mem.Config{}), make(chan error)
		log.SetFaults(gate(outcomes))
		w := bus.NewWriter(t.Context(), log, bus.WriterConfig{PendingBytesMax: 1000})
		r := &report{}
		submit(t, w, string(make([]byte, 800)), r)
		ctx, cancel := context.WithCancel(t.Context())
		refused := make(chan error, 1)
		go func() {
			refused <- w.SubmitFlow(ctx, ingested0, 7, []bus.Record{{Value: make([]byte, 500)}}, r)
		}()
		synctest.Wait()
		accepted := make(chan error, 1)
		go func() { accepted <- w.SubmitFlow(t.Context(), ingested0, 8, []bus.Record{{}}, r) }()
		synctest.Wait() // it has room, but waits behind the one that came first
		cancel()
		if err := <-refused; err == nil {
			t.Error("it was taken after its context had ended")
		}
		if err := <-accepted; err != nil {
			t.Error(err)
		}
		outcomes <- nil
		outcomes <- nil
		if err := w.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := w.Stats(); s.PendingBytes != 0 || s.Records != 2 {
			t.Errorf("%+v", s)
		}
	})
}

func TestRecordsOfAFlowKeepTheirOrderWhileOthersTakeTurns(t *testing.T) {
	const senders, each = 20, 500
	log := mem.New(mem.Config{BatchRecords: senders * each})
	w := bus.NewWriter(t.Context(), log, bus.WriterConfig{BatchRecordsMax: 37, PendingBytesMax: 20_000})
	reports := make([]report, senders)
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := 0; i < each; {
				var recs []bus.Record
				for range 1 + (i+s)%9 {
					if i < each {
						recs = append(recs, bus.Record{Value: fmt.Appendf(nil, "%d %d", s, i)})
						i++
					}
				}
				if err := w.SubmitFlow(t.Context(), ingested0, uint64(s%7), recs, &reports[s]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantInOrder(t, log, reports, each)
}
