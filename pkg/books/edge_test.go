package books_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/books"
	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/telemetry"
)

func message(device string, at time.Time) bus.Record {
	m := telemetry.Message{Tenant: "default", DeviceID: device, Kind: telemetry.KindChannel, ChannelKey: "n", IngestTime: telemetry.At(at)}
	return bus.Record{Value: telemetry.AppendMessage(nil, &m)}
}

func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// accounts returns what the books of partition 0 say, each account once.
func accounts(t *testing.T, log *mem.Log) map[string]uint64 {
	t.Helper()
	sums, seen := map[string]uint64{}, map[string]bool{}
	for _, r := range log.Records(bus.PartitionID{Topic: bus.Books}) {
		var a telemetry.Account
		if err := telemetry.ParseAccount(r.Value, &a); err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprint(a.Writer, a.Number)
		if a.Worker != books.WorkerEdge || seen[id] {
			continue
		}
		seen[id] = true
		for _, l := range a.Lines {
			sums[fmt.Sprintf("%s@%d", l.DeviceID, l.Minute-books.Minute(telemetry.At(noon())))] += l.Accepted
			sums["letters"] += l.EdgeLetters
		}
	}
	return sums
}

func TestAnEdgeCountsWhatTheLogAcknowledged(t *testing.T) {
	log := mem.New(mem.Config{})
	e := books.NewEdge(log, "e", slog.New(slog.DiscardHandler))
	ingested := bus.PartitionID{Topic: bus.Ingested}
	put := func(recs ...bus.Record) {
		t.Helper()
		if err := e.Append(t.Context(), ingested, recs); err != nil {
			t.Fatal(err)
		}
	}
	put(message("a", noon()), message("a", noon()), message("b", noon()), message("a", noon().Add(time.Minute)))
	letter := telemetry.AppendDeadLetter(nil, &telemetry.DeadLetter{Tenant: "default", DeviceID: "a", ReceivedAt: telemetry.At(noon())})
	if err := e.Append(t.Context(), bus.PartitionID{Topic: bus.DeadLetters}, []bus.Record{{Value: letter}}); err != nil {
		t.Fatal(err)
	}
	log.SetFaults(mem.Faults{BeforeAppend: func(context.Context, bus.PartitionID, []bus.Record) error { return bus.ErrFull }})
	if err := e.Append(t.Context(), ingested, []bus.Record{message("a", noon())}); !errors.Is(err, bus.ErrFull) {
		t.Fatal(err)
	}
	if err := e.Write(t.Context()); !errors.Is(err, bus.ErrFull) {
		t.Fatalf("%v, want the log's refusal", err)
	}
	lost := errors.New("the answer was lost")
	log.SetFaults(mem.Faults{AfterAppend: func(context.Context, bus.PartitionID, []bus.Record) error { return lost }})
	if err := e.Write(t.Context()); !errors.Is(err, lost) {
		t.Fatal(err)
	}
	log.SetFaults(mem.Faults{})
	put(message("b", noon()))
	for range 2 {
		if err := e.Write(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(accounts(t, log)); got != "map[a@0:2 a@1:1 b@0:2 letters:1]" {
		t.Error(got)
	}
}

func TestManyDevicesAreCountedWithoutTheirNames(t *testing.T) {
	log := mem.New(mem.Config{})
	e := books.NewEdge(log, "e", slog.New(slog.DiscardHandler))
	const devices = 70_000
	recs := make([]bus.Record, devices)
	for i := range recs {
		recs[i] = message(fmt.Sprint("device", i), noon())
	}
	if err := e.Append(t.Context(), bus.PartitionID{Topic: bus.Ingested}, recs); err != nil {
		t.Fatal(err)
	}
	if err := e.Write(t.Context()); err != nil {
		t.Fatal(err)
	}
	sums, total := accounts(t, log), uint64(0)
	for _, n := range sums {
		total += n
	}
	if total != devices || sums["@0"] == 0 || len(sums) > 1<<16+3 {
		t.Errorf("%d messages of %d devices, %d without a name", total, len(sums), sums["@0"])
	}
}

// nothing is a log that takes everything.
type nothing struct{}

func (nothing) Append(context.Context, bus.PartitionID, []bus.Record) error { return nil }
func (nothing) Partitions(string) int                                       { return 1 }

// BenchmarkEdge counts the messages of 1,000 devices in batches of 256, in runs of a device as connections send them.
func BenchmarkEdge(b *testing.B) {
	for _, run := range []int{1, 8} {
		b.Run(fmt.Sprint("runs of ", run), func(b *testing.B) {
			e := books.NewEdge(nothing{}, "e", slog.New(slog.DiscardHandler))
			recs := make([]bus.Record, 256*64)
			for i := range recs {
				recs[i] = message(fmt.Sprintf("device%04d", i/run*7919%1000), noon())
			}
			id := bus.PartitionID{Topic: bus.Ingested}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N / 256 {
				at := i % 64 * 256
				if err := e.Append(b.Context(), id, recs[at:at+256]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
