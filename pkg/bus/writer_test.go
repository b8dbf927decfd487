package bus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ingested0 = bus.PartitionID{Topic: bus.Ingested}

// report is a ticket that remembers what it was told.
type report struct {
	mu    sync.Mutex
	calls []string // "n" or "n:error"
	n     int
}

func (r *report) Done(n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n += n
	call := fmt.Sprint(n)
	if err != nil {
		call += ":" + err.Error()
	}
	r.calls = append(r.calls, call)
}

func (r *report) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.calls, " ")
}

func submit(t *testing.T, w *bus.Writer, value string, ticket bus.Ticket) {
	t.Helper()
	if err := w.Submit(t.Context(), ingested0, []byte(value), bus.Origin{}, ticket); err != nil {
		t.Fatal(err)
	}
}

func values(recs []bus.Record) string {
	var s []string
	for _, r := range recs {
		s = append(s, string(r.Value))
	}
	return strings.Join(s, " ")
}

// gate is a fault hook that holds appends until it is told to let one pass with an outcome.
func gate(outcomes <-chan error) mem.Faults {
	return mem.Faults{BeforeAppend: func(ctx context.Context, _ bus.PartitionID, _ []bus.Record) error {
		select {
		case err := <-outcomes:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
}

func TestWhileOneAppendIsInFlightTheNextGathersAndEachTicketIsToldOncePerAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, outcomes := mem.New(mem.Config{}), make(chan error)
		log.SetFaults(gate(outcomes))
		w := bus.NewWriter(t.Context(), log, bus.WriterConfig{})
		a, b := &report{}, &report{}
		submit(t, w, "1", a)
		synctest.Wait()
		for i, ticket := range []*report{a, b, a, b, a} {
			submit(t, w, fmt.Sprint(i+2), ticket)
		}
		outcomes <- nil
		outcomes <- nil
		if err := w.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if a.String() != "1 3" || b.String() != "2" {
			t.Errorf("tickets were told %q and %q", a, b)
		}
		if got := values(log.Records(ingested0)); got != "1 2 3 4 5 6" {
			t.Errorf("the log has %q", got)
		}
		if s := w.Stats(); s.Appends != 2 || s.Records != 6 || s.Bytes != 6 || s.PendingBytes != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestABatchIsLimitedInBytesAndRecordsAndALargeRecordGoesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, outcomes := mem.New(mem.Config{}), make(chan error)
		log.SetFaults(gate(outcomes))
		w := bus.NewWriter(t.Context(), log, bus.WriterConfig{BatchBytesMax: 10, BatchRecordsMax: 3})
		r := &report{}
		submit(t, w, "first", r)
		synctest.Wait()
		for _, v := range []string{"123456", "7890", "a", "longer than ten bytes", "b", "c", "d", "e"} {
			submit(t, w, v, r)
		}
		for range 6 {
			outcomes <- nil
		}
		if err := w.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r.String() != "1 2 1 1 3 1" {
			t.Errorf("told %q", r)
		}
	})
}

func TestAnAppendWhoseOutcomeNobodyKnowsIsSentAgainWithTheSameRecordsAndNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := mem.New(mem.Config{})
		var seen []string
		log.SetFaults(mem.Faults{AfterAppend: func(_ context.Context, _ bus.PartitionID, recs []bus.Record) error {
			seen = append(seen, values(recs))
			if len(seen) < 3 {
				return errors.New("connection lost")
			}
			return nil
		}})
		w := bus.NewWriter(t.Context(), log, bus.WriterConfig{})
		r := &report{}
		submit(t, w, "a", r)
		synctest.Wait()
		submit(t, w, "b", r)
		if err := w.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(seen, ","); got != "a,a,a,b" {
			t.Errorf("appended %q", got)
		}
		if s := w.Stats(); r.String() != "1 1" || s.Retries != 2 {
			t.Errorf("told %q, %+v", r, s)
		}
	})
}

func TestARefusalIsReportedAtOnceAndTheNextAppendGoesOn(t *testing.T) {
	for _, refusal := range []error{bus.ErrFull, bus.ErrTooLarge, bus.ErrUnknownTopic} {
		t.Run(refusal.Error(), func(t *testing.T) {
			log, outcomes := mem.New(mem.Config{}), make(chan error, 2)
			log.SetFaults(gate(outcomes))
			w := bus.NewWriter(t.Context(), log, bus.WriterConfig{})
			outcomes <- refusal
			if err := w.Append(t.Context(), ingested0, []bus.Record{{}}); !errors.Is(err, refusal) {
				t.Errorf("Append returned %v", err)
			}
			outcomes <- nil
			if err := w.Append(t.Context(), ingested0, []bus.Record{{}}); err != nil {
				t.Error(err)
			}
			if err := w.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestARecordTooLargeForTheLogDoesNotGetItsNeighboursRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, outcomes := mem.New(mem.Config{RecordBytesMax: 3}), make(chan error)
		w := bus.NewWriter(t.Context(), log, bus.WriterConfig{})
		log.SetFaults(gate(outcomes))
		good, bad := &report{}, &report{}
		submit(t, w, "1", good)
		synctest.Wait()
		submit(t, w, "2", good)
		submit(t, w, "large", bad)
		submit(t, w, "3", good)
		log.SetFaults(mem.Faults{})
		outcomes <- nil
		if err := w.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if good.String() != "1 1 1" || !strings.HasPrefix(bad.String(), "1:") {
			t.Errorf("told %q and %q", good, bad)
		}
		if got := values(log.Records(ingested0)); got != "1 2 3" {
			t.Errorf("the log has %q", got)
		}
	})
}

func TestSubmitWaitsWhilePendingBytesMaxArePending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, outcomes := mem.New(mem.Config{}), make(chan error)
		log.SetFaults(gate(outcomes))
		w := bus.NewWriter(t.Context(), log, bus.WriterConfig{PendingBytesMax: 200})
		r := &report{}
		submit(t, w, "1", r)
		submit(t, w, "2", r)
		submit(t, w, "3", r)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.Submit(ctx, ingested0, []byte("x"), bus.Origin{}, r); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Submit over the limit returned %v", err)
		}
		accepted := make(chan error)
		go func() { accepted <- w.Submit(t.Context(), ingested0, []byte("4"), bus.Origin{}, r) }()
		synctest.Wait()
		outcomes <- nil
		if err := <-accepted; err != nil {
			t.Error(err)
		}
		close(outcomes) // from now on every append passes
		if err := w.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := values(log.Records(ingested0)); got != "1 2 3 4" {
			t.Errorf("the log has %q", got)
		}
	})
}

func TestCloseReportsEverythingEvenWhenItsContextEndsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := mem.New(mem.Config{})
		log.SetFaults(mem.Faults{BeforeAppend: func(context.Context, bus.PartitionID, []bus.Record) error {
			return errors.New("unreachable")
		}})
		w := bus.NewWriter(t.Context(), log, bus.WriterConfig{})
		r := &report{}
		submit(t, w, "1", r)
		synctest.Wait()
		submit(t, w, "2", r)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := w.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close returned %v", err)
		}
		if r.n != 2 || w.Stats().Failed != 2 || w.Stats().PendingBytes != 0 {
			t.Errorf("told %q, %+v", r, w.Stats())
		}
		if err := w.Submit(t.Context(), ingested0, nil, bus.Origin{}, r); !errors.Is(err, bus.ErrClosed) {
			t.Errorf("Submit after Close returned %v", err)
		}
	})
}

func TestSubmissionsOfManySendersKeepTheOrderOfEachAndAllAreReported(t *testing.T) {
	const senders, each = 8, 2000
	log := mem.New(mem.Config{BatchRecords: senders * each})
	w := bus.NewWriter(t.Context(), log, bus.WriterConfig{BatchRecordsMax: 100, PendingBytesMax: 10_000})
	reports := make([]report, senders)
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				if err := w.Submit(t.Context(), ingested0, fmt.Appendf(nil, "%d %d", s, i), bus.Origin{}, &reports[s]); err != nil {
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

// wantInOrder wants each sender's records from 0 on, each of them reported.
func wantInOrder(t *testing.T, log *mem.Log, reports []report, each int) {
	t.Helper()
	next := make([]int, len(reports))
	for _, r := range log.Records(ingested0) {
		var s, i int
		if _, err := fmt.Sscan(string(r.Value), &s, &i); err != nil || next[s] != i {
			t.Fatalf("record %q, want %d of its sender (%v)", r.Value, next[s], err)
		}
		next[s]++
	}
	for s := range reports {
		if next[s] != each || reports[s].n != each {
			t.Errorf("sender %d: %d on the log, %d reported", s, next[s], reports[s].n)
		}
	}
}

// discard is a log that takes everything at once, so that what is measured is the Writer.
type discard struct{}

func (discard) Append(context.Context, bus.PartitionID, []bus.Record) error { return nil }
func (discard) Partitions(string) int                                       { return 4 }

type counting struct{ n atomic.Int64 }

func (c *counting) Done(n int, _ error) { c.n.Add(int64(n)) }

func BenchmarkSubmit(b *testing.B) {
	logs := map[string]func() bus.Appender{
		"discard": func() bus.Appender { return discard{} },
		"mem":     func() bus.Appender { return mem.New(mem.Config{Partitions: 4, BytesMax: 16 << 20}) },
	}
	for _, name := range []string{"discard", "mem"} {
		for _, partitions := range []int{1, 4} {
			b.Run(fmt.Sprintf("%s/%d", name, partitions), func(b *testing.B) {
				w := bus.NewWriter(b.Context(), logs[name](), bus.WriterConfig{})
				value, senders := make([]byte, 200), atomic.Int64{}
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					ticket, p := &counting{}, bus.PartitionID{Topic: bus.Ingested, Number: int(senders.Add(1)) % partitions}
					for pb.Next() {
						if err := w.Submit(b.Context(), p, value, bus.Origin{}, ticket); err != nil {
							b.Error(err)
						}
					}
				})
				if err := w.Close(b.Context()); err != nil {
					b.Error(err)
				}
				b.ReportMetric(float64(w.Stats().Records)/float64(max(w.Stats().Appends, 1)), "records/append")
			})
		}
	}
}
