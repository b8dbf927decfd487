package bustest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
)

// patience is how long anything may take before a test gives up.
const patience = 60 * time.Second

// firstPartition is the one that the tests use where one will do.
func firstPartition() bus.PartitionID { return bus.PartitionID{Topic: bus.Ingested} }

func open(t *testing.T, d Driver) Instance {
	t.Helper()
	return d.Open(t, Options{Partitions: 2, RecordBytesMax: 32 << 10})
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func partition(t *testing.T, log bus.Log, id bus.PartitionID) bus.Partition {
	t.Helper()
	p, err := log.Partition(within(t), id)
	if err != nil {
		t.Fatalf("open %s: %v", id, err)
	}
	return p
}

func mustAppend(t *testing.T, log bus.Appender, id bus.PartitionID, values ...string) {
	t.Helper()
	if err := log.Append(within(t), id, records(values...)); err != nil {
		t.Fatalf("append: %v", err)
	}
}

func records(values ...string) []bus.Record {
	recs := make([]bus.Record, len(values))
	for i, v := range values {
		recs[i].Value = []byte(v)
	}
	return recs
}

// read returns the first n records after start.
func read(t *testing.T, p bus.Partition, start bus.Start, n int) []bus.Record {
	t.Helper()
	var recs []bus.Record
	ctx := within(t)
	for batch, err := range p.After(ctx, start) {
		if err != nil {
			t.Fatalf("read %s: %v", p.ID(), err)
		}
		recs = append(recs, batch.Records...)
		if len(recs) >= n {
			break
		}
	}
	if len(recs) != n {
		t.Fatalf("read %d records of %s, want %d", len(recs), p.ID(), n)
	}
	return recs
}

func values(recs []bus.Record) string {
	s := make([]string, len(recs))
	for i, r := range recs {
		s[i] = string(r.Value)
	}
	return strings.Join(s, " ")
}

// await waits until done yields, and returns what it did.
func await[T any](t *testing.T, what string, done <-chan T) T {
	t.Helper()
	select {
	case v := <-done:
		return v
	case <-time.After(patience):
		t.Fatalf("%s did not come within %v", what, patience)
		panic("unreachable")
	}
}

// subscribe runs a subscription and returns where its error will be.
func subscribe(ctx context.Context, log bus.Log, group string, own func(context.Context, bus.Share) error, topics ...string) <-chan error {
	done := make(chan error, 1)
	go func() { done <- log.Subscribe(ctx, group, topics, own) }()
	return done
}

// withShare runs f with the share of one partition of bus.Ingested, as a member of group.
func withShare(t *testing.T, log bus.Log, group string, f func(p bus.Partition) error) {
	t.Helper()
	done := subscribe(within(t), log, group, func(ctx context.Context, s bus.Share) error {
		if s.Number != firstPartition().Number {
			<-ctx.Done()
			return nil
		}
		if err := f(s.Partitions[0]); err != nil {
			return err
		}
		return nil
	}, firstPartition().Topic)
	if err := await(t, "the end of the subscription", done); err != nil {
		t.Fatal(err)
	}
}

func numbered(from, n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = fmt.Sprint(from + i)
	}
	return s
}
