package mem_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWhatIsAppendedIsReadByAGroupInOrderAndItsCommitIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := mem.New(mem.Config{Partitions: 2})
		ctx, cancel := context.WithCancel(t.Context())
		id := bus.PartitionID{Topic: bus.Ingested, Number: 1}
		var got string
		done := make(chan error)
		go func() {
			done <- log.Subscribe(ctx, "g", []string{bus.Ingested}, func(ctx context.Context, s bus.Share) error {
				p := s.Partitions[0]
				for batch, err := range p.After(ctx, bus.Start{}) {
					if err != nil {
						return err
					}
					for _, r := range batch.Records {
						got += string(r.Value)
					}
					if err := p.Commit(ctx, bus.Progress{Through: batch.Last()}); err != nil {
						return err
					}
				}
				return nil
			})
		}()
		for _, v := range []string{"a", "b", "c"} {
			if err := log.Append(ctx, id, []bus.Record{{Value: []byte(v)}, {Value: []byte("-")}}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		cancel()
		if err := <-done; err != nil || got != "a-b-c-" {
			t.Fatalf("got %q, %v", got, err)
		}
	})
}

func TestCrashEndsTheHandleAndKeepsWhatWasAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := mem.New(mem.Config{})
		id := bus.PartitionID{Topic: bus.Ingested}
		if err := log.Append(t.Context(), id, []bus.Record{{Value: []byte("kept")}}); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() {
			done <- log.Subscribe(t.Context(), "g", []string{bus.Ingested}, func(ctx context.Context, _ bus.Share) error {
				<-ctx.Done()
				return nil
			})
		}()
		synctest.Wait()
		log.Crash()
		if err := <-done; !errors.Is(err, mem.ErrCrashed) {
			t.Fatalf("Subscribe returned %v", err)
		}
		if err := log.Append(t.Context(), id, []bus.Record{{Value: []byte("lost")}}); !errors.Is(err, mem.ErrCrashed) {
			t.Fatalf("Append returned %v", err)
		}
		again := log.Open()
		if recs := again.Records(id); len(recs) != 1 || string(recs[0].Value) != "kept" {
			t.Fatalf("%v", recs)
		}
	})
}
