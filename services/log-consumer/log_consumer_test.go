package logconsumer_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	logconsumer "github.com/millrace/millrace/services/log-consumer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// table keeps the rows that it is given, and their progress.
type table[Row any] struct {
	mu       sync.Mutex
	rows     []Row
	progress map[bus.PartitionID]bus.Progress
}

func (s *table[Row]) Write(_ context.Context, commit store.Commit, rows []Row) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows = append(s.rows, rows...)
	if s.progress == nil {
		s.progress = make(map[bus.PartitionID]bus.Progress)
	}
	for _, span := range commit.Spans {
		s.progress[span.Partition] = span.Through
	}
	return nil
}

func (s *table[Row]) Progress(_ context.Context, _ string, p bus.PartitionID) (bus.Progress, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	progress, ok := s.progress[p]
	return progress.Clone(), ok, nil
}

type tester struct {
	t       *testing.T
	log     *mem.Log
	logs    table[store.MessageRow]
	letters table[store.DeadLetterRow]
}

// work runs the worker for a few seconds.
func (w *tester) work() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
	defer cancel()
	err := logconsumer.Run(ctx, logconsumer.DefaultConfig(), logconsumer.Deps{
		Bus: w.log, Logs: &w.logs, DeadLetters: &w.letters, Log: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *tester) append(topic string, recs ...bus.Record) {
	w.t.Helper()
	if err := w.log.Append(w.t.Context(), bus.PartitionID{Topic: topic}, recs); err != nil {
		w.t.Fatal(err)
	}
}

func origin(n uint64) bus.Origin { return bus.Origin{Position: bus.Position{Seq: n}} }

func line(n uint64, kind telemetry.Kind, severity telemetry.Severity, text string) bus.Record {
	m := telemetry.Message{
		Tenant: telemetry.DefaultTenant, DeviceID: "homecontroller", Kind: kind, Severity: severity, Text: text, IngestTime: 7, EventTime: 7,
	}
	return bus.Record{Origin: origin(n), Value: telemetry.AppendMessage(nil, &m)}
}

func letter(position, reason string) bus.Record {
	d := telemetry.DeadLetter{Topic: bus.Telemetry, Worker: "history-writer", Reason: reason, Position: position, Payload: []byte("?")}
	return bus.Record{Value: telemetry.AppendDeadLetter(nil, &d)}
}

func TestLogsAreKeptAndCriticalOnesPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &tester{t: t, log: mem.New(mem.Config{Now: time.Now})}
		critical := line(2, telemetry.KindLog, telemetry.SeverityCritical, "it burns")
		w.append(bus.Logs, line(1, telemetry.KindLog, telemetry.SeverityDebug, "started"), critical,
			line(3, telemetry.KindChannel, telemetry.SeverityNone, ""), bus.Record{Origin: origin(4), Value: []byte("\xff\xff")})
		w.work()
		if len(w.logs.rows) != 2 || w.logs.rows[0].Text != "started" || w.logs.rows[1].Origin != origin(2) {
			t.Fatalf("logs %+v", w.logs.rows)
		}
		recs := w.log.Records(bus.PartitionID{Topic: bus.Critical})
		if len(recs) != 1 || string(recs[0].Value) != string(critical.Value) || recs[0].Origin != origin(2) {
			t.Fatalf("critical %+v", recs)
		}
		if n := len(w.letters.rows); n != 2 {
			t.Fatalf("%d dead letters are kept, want those of the channel and of the bytes", n)
		}
		for _, d := range w.letters.rows {
			if d.Worker != logconsumer.Worker || d.Topic != bus.Logs || d.Reason == "" || d.Position == "" {
				t.Errorf("dead letter %+v", d)
			}
		}
	})
}

func TestADeadLetterThatIsWrittenAgainIsKeptOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &tester{t: t, log: mem.New(mem.Config{Now: time.Now})}
		w.append(bus.DeadLetters, letter("1.0", "a"), letter("1.0", "b"), letter("1.0", "a"), letter("", "a"), letter("", "a"))
		w.work()
		if n := len(w.letters.rows); n != 4 {
			t.Fatalf("%d dead letters are kept, want 4", n)
		}
		w.append(bus.DeadLetters, letter("1.0", "b"), letter("2.0", "b"))
		w.work() // a fresh process, which reads back
		if n := len(w.letters.rows); n != 5 {
			t.Fatalf("%d dead letters are kept, want 5", n)
		}
	})
}

func TestAWorkerStartsWhereTheDeadLettersWereTrimmedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &tester{t: t, log: mem.New(mem.Config{Now: time.Now})}
		w.append(bus.DeadLetters, letter("1.0", "a"))
		w.work()
		w.log.Trim(bus.PartitionID{Topic: bus.DeadLetters}, bus.Position{Seq: 1})
		w.append(bus.DeadLetters, letter("2.0", "b"))
		w.work()
		if n := len(w.letters.rows); n != 2 {
			t.Fatalf("%d dead letters are kept, want 2", n)
		}
	})
}

func TestALetterThatIsPutBackTwiceIsGivenToItsWorkerOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &tester{t: t, log: mem.New(mem.Config{Now: time.Now})}
		note := func(of string, deliver bool, repaired string) bus.Record {
			d := telemetry.DeadLetter{
				Topic: bus.Telemetry, Worker: "history-writer", Reason: "a", Position: "1.0", Payload: []byte("bad"), Context: `{"origin":"0.7.0"}`,
				ReplayOf: of, ReplayedBy: "ada", ReplayedAt: 9, Deliver: deliver, Repaired: []byte(repaired),
			}
			return bus.Record{Value: telemetry.AppendDeadLetter(nil, &d)}
		}
		w.append(bus.DeadLetters, letter("1.0", "a"), letter("2.0", "b"), letter("3.0", "c"), note("0.1.0", true, ""), note("0.1.0", true, "late"))
		w.work()
		w.append(bus.DeadLetters, note("0.2.0", true, "mended"), note("0.1.0", true, "later"), note("0.3.0", false, ""))
		w.work() // a fresh process, which reads back
		var got []telemetry.Redelivery
		for _, r := range w.log.Records(bus.PartitionID{Topic: bus.Redelivered}) {
			var d telemetry.Redelivery
			if err := telemetry.ParseRedelivery(r.Value, &d); err != nil {
				t.Fatal(err)
			}
			got = append(got, d)
		}
		if len(got) != 2 || string(got[0].Value) != "bad" || got[0].Worker != "history-writer" || got[0].Origin != "0.7.0" || string(got[1].Value) != "mended" {
			t.Fatalf("redelivered %+v", got)
		}
		marked := map[string]int{}
		for _, d := range w.letters.rows {
			if d.ReplayOf != "" {
				marked[d.At.ID()]++
			}
		}
		if len(w.letters.rows) != 6 || marked["0.1.0"] != 1 || marked["0.2.0"] != 1 || marked["0.3.0"] != 1 {
			t.Fatalf("%d rows, put back %v", len(w.letters.rows), marked)
		}
	})
}

func TestAFaultyConfigurationIsNamedByItsKey(t *testing.T) {
	cfg := logconsumer.Config{CommitEvery: -1}
	if err := cfg.Validate(); err == nil || err.Error() != "commit_every: -1ns, want 0s to 1m" {
		t.Fatal(err)
	}
}
