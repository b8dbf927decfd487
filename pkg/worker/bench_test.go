package worker_test

import (
	"context"
	"errors"
	"iter"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
)

var errNotHere = errors.New("not in this log")

// endless is a log of one share that gives the same batch over and over under rising positions, so that a benchmark measures
// the loop and not a log.
type endless struct {
	bus.Log
	values [][]byte
	left   int
}

func (l *endless) Subscribe(ctx context.Context, _ string, _ []string, own func(context.Context, bus.Share) error) error {
	return own(ctx, bus.Share{Partitions: []bus.Partition{endlessPartition{l}}})
}

func (l *endless) Partitions(string) int { return 1 }

func (l *endless) Append(context.Context, bus.PartitionID, []bus.Record) error { return nil }

type endlessPartition struct{ log *endless }

func (endlessPartition) ID() bus.PartitionID { return bus.PartitionID{Topic: bus.Telemetry} }

func (p endlessPartition) After(ctx context.Context, _ bus.Start) iter.Seq2[bus.Batch, error] {
	return func(yield func(bus.Batch, error) bool) {
		for seq := uint64(1); p.log.left > 0; seq++ {
			recs := make([]bus.Record, min(len(p.log.values), p.log.left))
			for i := range recs {
				at := bus.Position{Seq: seq, Index: uint32(i)}
				recs[i] = bus.Record{Position: at, Origin: bus.Origin{Position: at}, Time: 1, Value: p.log.values[i]}
			}
			p.log.left -= len(recs)
			if !yield(bus.Batch{Records: recs}, nil) {
				return
			}
		}
		<-ctx.Done()
	}
}

func (endlessPartition) Committed(context.Context) (bus.Progress, bool, error) {
	return bus.Progress{}, false, nil
}
func (endlessPartition) Commit(context.Context, bus.Progress) error { return nil }
func (endlessPartition) End(context.Context) (bus.Position, error) {
	return bus.Position{}, errNotHere
}

// counter is a store that only counts, and ends the run when it has seen enough.
type counter struct {
	want int
	done context.CancelFunc
}

func (c *counter) Write(_ context.Context, _ store.Commit, rows []store.MessageRow) error {
	if c.want -= len(rows); c.want <= 0 {
		c.done()
	}
	return nil
}

func (c *counter) Progress(context.Context, string, bus.PartitionID) (bus.Progress, bool, error) {
	return bus.Progress{}, false, nil
}

// BenchmarkLoop is what the loop itself costs a record: from a batch that was read to a row that is given to the store and
// a record that is published.
func BenchmarkLoop(b *testing.B) {
	value := telemetry.AppendMessage(nil, &telemetry.Message{
		Tenant: telemetry.DefaultTenant, DeviceID: "thermostat-1", Kind: telemetry.KindChannel, ChannelKey: "temperature",
		ChannelValue: []byte("37.2"), EventTime: 1, IngestTime: 1,
	})
	values := make([][]byte, 256)
	for i := range values {
		values[i] = value
	}
	b.ReportAllocs()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	loop := worker.Loop[store.MessageRow]{
		Worker: "bench", Topics: []string{bus.Telemetry}, Bus: &endless{values: values, left: b.N},
		Store: &counter{want: b.N, done: cancel}, Now: time.Now, CommitEvery: 100 * time.Millisecond,
		NewTask: func(int) (worker.Task[store.MessageRow], error) {
			return worker.Decide[store.MessageRow](func(out *worker.Output[store.MessageRow], _ string, r bus.Record) error {
				out.Rows = append(out.Rows, store.MessageRow{Origin: r.Origin})
				out.Publish = append(out.Publish, worker.Publication{Topic: bus.Critical, Record: r})
				return nil
			}), nil
		},
	}
	b.ResetTimer()
	if err := loop.Run(ctx); err != nil {
		b.Fatal(err)
	}
}
