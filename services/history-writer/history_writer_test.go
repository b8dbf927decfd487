package historywriter_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/parquet"
	"github.com/millrace/millrace/pkg/telemetry"
	historywriter "github.com/millrace/millrace/services/history-writer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type tester struct {
	t   *testing.T
	dir string
	log *mem.Log
}

func newTester(t *testing.T) *tester {
	t.Helper()
	return &tester{t: t, dir: filepath.Join(t.TempDir(), "archive"), log: mem.New(mem.Config{Now: time.Now})}
}

func (w *tester) open() *parquet.History {
	w.t.Helper()
	h, err := parquet.Open(w.t.Context(), parquet.Config{Dir: w.dir, SegmentAge: time.Hour, MaintainEvery: -1, Now: time.Now})
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

// until runs the worker until is true, and then drains it.
func (w *tester) until(h *parquet.History, what string, is func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error)
	go func() {
		ended <- historywriter.Run(ctx, historywriter.DefaultConfig(), historywriter.Deps{
			Bus: w.log, Store: h, Log: slog.New(slog.DiscardHandler), Now: time.Now,
		})
	}()
	deadline := time.After(20 * time.Second)
	for tick := time.NewTicker(5 * time.Millisecond); !is(); {
		select {
		case <-tick.C:
		case err := <-ended:
			w.t.Fatalf("the worker ended: %v", err)
		case <-deadline:
			w.t.Errorf("not within 20 s: %s", what)
			cancel()
			if err := <-ended; err != nil {
				w.t.Error(err)
			}
			return
		}
	}
	cancel()
	if err := <-ended; err != nil {
		w.t.Fatal(err)
	}
}

func (w *tester) append(topic string, recs ...bus.Record) {
	w.t.Helper()
	if err := w.log.Append(w.t.Context(), bus.PartitionID{Topic: topic}, recs); err != nil {
		w.t.Fatal(err)
	}
}

func rows(t *testing.T, h *parquet.History) []store.MessageRow {
	t.Helper()
	s, err := h.Take()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	var all []store.MessageRow
	for _, path := range s.Files() {
		for row, err := range parquet.ReadFile(path) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, row)
		}
	}
	s.Rows(func(run []store.MessageRow) bool {
		all = append(all, run...)
		return true
	})
	return all
}

func record(n uint64, change func(m *telemetry.Message)) bus.Record {
	m := telemetry.Message{
		Tenant: telemetry.DefaultTenant, DeviceID: "wind", Kind: telemetry.KindChannel, ChannelKey: "speed",
		ChannelType: "number", ChannelValue: fmt.Appendf(nil, "%d", n), Value: float64(n), HasValue: true,
		IngestTime: 1_500_000_000_000_000_000, EventTime: 1_500_000_000_000_000_000,
	}
	if change != nil {
		change(&m)
	}
	return bus.Record{Origin: bus.Origin{Position: bus.Position{Seq: n}}, Value: telemetry.AppendMessage(nil, &m)}
}

func TestMessagesAndEventsAreKeptOnceAcrossARestart(t *testing.T) {
	w := newTester(t)
	h := w.open()
	event := record(2, func(m *telemetry.Message) { m.Kind = telemetry.KindEvent })
	w.append(bus.Telemetry, record(1, nil), record(3, nil), record(3, nil)) // a router's repetition
	w.append(bus.Events, event)
	w.until(h, "three rows are readable", func() bool { return len(rows(t, h)) == 3 })
	p, ok, err := h.Progress(t.Context(), historywriter.Worker, bus.PartitionID{Topic: bus.Telemetry})
	if err != nil || !ok || len(p.Origins) != 1 || p.Origins[0].Seq != 3 {
		t.Fatalf("progress after a drain %v (%v, %v), want through origin 3", p, ok, err)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	h = w.open()
	w.append(bus.Telemetry, record(3, nil), record(4, nil))
	w.until(h, "the fourth is too", func() bool { return len(rows(t, h)) == 4 })
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsNoMessageAndWhatNoFileCanHoldAreDeadLetters(t *testing.T) {
	w := newTester(t)
	h := w.open()
	w.append(bus.Telemetry,
		bus.Record{Origin: bus.Origin{Position: bus.Position{Seq: 1}}, Value: []byte("\xff\xff")},
		record(2, func(m *telemetry.Message) { m.ChannelValue = []byte("\xff") }),
		record(3, func(m *telemetry.Message) { m.DeviceID = "" }),
		record(4, nil))
	letters := func() []bus.Record { return w.log.Records(bus.PartitionID{Topic: bus.DeadLetters}) }
	w.until(h, "one row and three dead letters", func() bool { return len(rows(t, h)) == 1 && len(letters()) == 3 })
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestALogThatARouteSendsHereKeepsItsLine(t *testing.T) {
	w := newTester(t)
	h := w.open()
	w.append(bus.Events, record(1, func(m *telemetry.Message) {
		*m = telemetry.Message{
			Tenant: "t", DeviceID: "gateway", Kind: telemetry.KindLog, Severity: telemetry.SeverityError, LogSource: "timer",
			Text: "it stopped", Attributes: []byte(`{"line":7}`), IngestTime: 7, EventTime: 7,
		}
	}))
	w.until(h, "the row", func() bool { return len(rows(t, h)) == 1 })
	got := rows(t, h)[0]
	if string(got.ChannelValue) != "it stopped" || !strings.Contains(string(got.Attributes), `"log_source":"timer","line":7}`) {
		t.Errorf("%s with %s", got.ChannelValue, got.Attributes)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
