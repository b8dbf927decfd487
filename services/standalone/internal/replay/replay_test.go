package replay

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/parquet"
	"github.com/millrace/millrace/pkg/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start is when message 0 was taken; each was a second after the one before.
func begin() telemetry.Time { return telemetry.At(time.Now().Add(-24 * time.Hour).Truncate(time.Hour)) }

// house is a log of two partitions and an archive. Origins of share 1 are the numbers of messages.
type house struct {
	*testing.T
	log   *mem.Log
	begin telemetry.Time
	dir   string
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{T: t, begin: begin(), dir: t.TempDir()}
	h.log = mem.New(mem.Config{Partitions: 2, BatchRecords: 7, Now: time.Now})
	t.Cleanup(func() { _ = h.log.Close() })
	return h
}

func (h *house) message(n int, kind telemetry.Kind) telemetry.Message {
	at := h.begin.Add(time.Duration(n) * time.Second)
	return telemetry.Message{
		Tenant: "default", DeviceID: "d", Kind: kind, ChannelKey: "c", ChannelValue: fmt.Append(nil, n), Value: float64(n), HasValue: true,
		EventTime: at, IngestTime: at,
	}
}

func origin(n int) bus.Origin {
	return bus.Origin{Partition: 1, Position: bus.Position{Seq: uint64(n), Index: 2}}
}

// append puts messages on a topic, by their numbers.
func (h *house) append(topic string, numbers ...int) {
	h.Helper()
	kind := telemetry.KindChannel
	if topic == bus.Events {
		kind = telemetry.KindEvent
	}
	for _, n := range numbers {
		m := h.message(n, kind)
		h.put(topic, bus.Record{Origin: origin(n), Value: telemetry.AppendMessage(nil, &m)})
	}
}

func (h *house) put(topic string, r bus.Record) {
	h.Helper()
	if err := h.log.Append(h.Context(), bus.PartitionID{Topic: topic, Number: 1}, []bus.Record{r}); err != nil {
		h.Fatal(err)
	}
}

// archive writes messages to files, in any order, and opens those.
func (h *house) archive(kind telemetry.Kind, numbers ...int) *Cold {
	h.Helper()
	files := Files{Dir: filepath.Join(h.dir, "archive"), Manifest: filepath.Join(h.dir, "manifest.json"), Scratch: filepath.Join(h.dir, "scratch")}
	history, err := parquet.Open(h.Context(), parquet.Config{Dir: files.Dir, Manifest: files.Manifest, MaintainEvery: -1, Now: time.Now})
	if err != nil {
		h.Fatal(err)
	}
	var rows []store.MessageRow
	for _, n := range numbers {
		rows = append(rows, store.MessageRow{Message: h.message(n, kind), Origin: origin(n)})
	}
	commit := store.Commit{Worker: "w", Spans: []store.Span{{Partition: bus.PartitionID{Topic: "t"}, Through: bus.Progress{Through: bus.Position{Seq: 1}}}}}
	if err := history.Write(h.Context(), commit, rows); err != nil {
		h.Fatal(err)
	}
	if err := history.Close(h.Context()); err != nil {
		h.Fatal(err)
	}
	cold, err := OpenFiles(h.Context(), files, h.begin, telemetry.At(time.Now()), nil, time.Now)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() {
		if err := cold.Close(); err != nil {
			h.Error(err)
		}
	})
	return cold
}

// pass returns what passes of share 1, as topic's first letter and number, and notes.
func (h *house) pass(s shareOf) (all string, t *tally) {
	h.Helper()
	if s.when == (span{}) {
		s.when = span{h.begin, telemetry.At(time.Now().Add(time.Hour))}
	}
	s.log, s.number, s.tally = h.log, 1, newTally()
	var words []string
	for p, err := range s.records(h.Context()) {
		if err != nil {
			h.Fatal(err)
		}
		word := s.topics[p.topic][:1] + fmt.Sprint(p.rec.Position.Seq)
		if !ownPositions(s.topics[p.topic]) && p.rec.Position != p.rec.Origin.Position {
			h.Errorf("%s: position %v, want its origin %v", word, p.rec.Position, p.rec.Origin)
		}
		words = append(words, word)
	}
	return strings.Join(words, " "), s.tally
}

func upTo(from, to int) (all []int) {
	for n := from; n <= to; n++ {
		all = append(all, n)
	}
	return all
}

func TestWhereLogAndArchiveMeetEachRecordPassesOnceInTheOrderOfOrigins(t *testing.T) {
	telemetryAndEvents := []string{bus.Telemetry, bus.Events}
	for name, c := range map[string]struct {
		telemetry, events, archive []int
		when                       func(h *house) span
		after                      []bus.Position
		want                       string
	}{
		"the archive reaches into the log":      {telemetry: upTo(4, 6), archive: []int{5, 2, 1, 4, 3}, want: "t1 t2 t3 t4 t5 t6"},
		"the archive has what the log has none": {telemetry: []int{9}, archive: []int{1, 3}, want: "t1 t3 t9"},
		"the router appended twice":             {telemetry: []int{1, 2, 3, 2, 3, 4}, want: "t1 t2 t3 t4"},
		"two topics":                            {telemetry: []int{2, 4}, events: []int{1, 3, 5}, want: "e1 t2 e3 t4 e5"},
		"one topic begins later":                {telemetry: []int{2, 4}, events: []int{5}, archive: []int{1, 2, 3, 4}, want: "t1 t2 t3 t4 e5"},
		"only a time": {
			telemetry: upTo(4, 8), archive: upTo(1, 6), want: "t3 t4 t5 t6",
			when: func(h *house) span { return span{h.begin.Add(3 * time.Second), h.begin.Add(7 * time.Second)} },
		},
		"what has passed already": {
			telemetry: upTo(4, 6), events: []int{7}, archive: upTo(1, 5), after: []bus.Position{origin(2).Position, {}}, want: "t3 t4 t5 t6 e7",
		},
		"nothing at all": {},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.append(bus.Telemetry, c.telemetry...)
			h.append(bus.Events, c.events...)
			s := shareOf{topics: telemetryAndEvents, after: c.after}
			if c.when != nil {
				s.when = c.when(h)
			}
			if c.archive != nil {
				s.cold = h.archive(telemetry.KindChannel, c.archive...)
			}
			if got, _ := h.pass(s); got != c.want {
				t.Errorf("passed %q, want %q", got, c.want)
			}
		})
	}
}

func TestAMessageThatWasGivenOnceMorePassesOnceThoughHistoryHasItInItsPlace(t *testing.T) {
	h := newHouse(t)
	h.append(bus.Telemetry, 4)
	m := h.message(2, telemetry.KindChannel)
	h.put(bus.Redelivered, bus.Record{Origin: bus.RedeliveredOrigin(1, bus.Position{Seq: 8}), Value: telemetry.AppendRedelivery(nil, &telemetry.Redelivery{
		Worker: "history-writer", Topic: bus.Telemetry, Origin: origin(2).ID(), Value: telemetry.AppendMessage(nil, &m),
	})})
	s := shareOf{worker: "history-writer", topics: []string{bus.Telemetry, bus.Redelivered}, cold: h.archive(telemetry.KindChannel, 1, 2, 3)}
	got, _ := h.pass(s)
	words := strings.Fields(got)
	slices.Sort(words)
	if text := strings.Join(words, " "); text != "r1 t1 t3 t4" {
		t.Errorf("passed %q", got)
	}
}

func TestConnectionsPassAlthoughTheEdgeWroteThemOntoTheirTopicItself(t *testing.T) {
	h := newHouse(t)
	h.append(bus.Telemetry, 1, 2)
	for n := range 2 {
		m := h.message(n, telemetry.KindSession)
		h.put(bus.Sessions, bus.Record{Value: telemetry.AppendMessage(nil, &m)})
	}
	got, tally := h.pass(shareOf{topics: []string{bus.Telemetry, bus.Sessions}})
	words := strings.Fields(got)
	slices.Sort(words)
	if text := strings.Join(words, " "); text != "s1 s2 t1 t2" || tally.lacking() {
		t.Errorf("passed %q, notes: %v", got, tally.notes(nil))
	}
}

func TestWhatAWorkerLooksBackAtIsNotCountedAsPassed(t *testing.T) {
	h := newHouse(t)
	for n := range 3 {
		m := h.message(n, telemetry.KindChannel)
		h.put(bus.DeadLetters, bus.Record{Value: telemetry.AppendMessage(nil, &m)})
	}
	got, tally := h.pass(shareOf{topics: []string{bus.DeadLetters}, before: []bus.Position{{Seq: 2}}})
	if n := tally.log.Load(); got != "d1 d2 d3" || n != 1 {
		t.Errorf("passed %q, %d counted, want the third", got, n)
	}
}

func TestWhatCannotBeReplayedIsCountedAndSaid(t *testing.T) {
	h := newHouse(t)
	h.append(bus.Telemetry, 1)
	m := h.message(2, telemetry.KindChannel)
	value := telemetry.AppendMessage(nil, &m)
	h.put(bus.Telemetry, bus.Record{Value: value})
	h.put(bus.Telemetry, bus.Record{Origin: bus.Origin{Partition: 7, Position: bus.Position{Seq: 3}}, Value: value})
	got, tally := h.pass(shareOf{topics: []string{bus.Telemetry}})
	notes := strings.Join(tally.notes(nil), "\n")
	if got != "t1" || !tally.lacking() || !strings.Contains(notes, "1 records of telemetry that stem from no message of the edge") ||
		!strings.Contains(notes, "1 records of telemetry[1] that stem from ingested[7]") {
		t.Errorf("passed %q, notes:\n%s", got, notes)
	}
}

func TestOnlyWindowsThatLieWithinTheTimeAreWritten(t *testing.T) {
	w := windows{when: span{100, 200}}
	for name, c := range map[string]struct {
		start telemetry.Time
		last  telemetry.Time
		want  bool
	}{
		"within":                      {110, 0, true},
		"from the very beginning":     {100, 0, true},
		"to the very end":             {190, 0, true},
		"begun before":                {99, 0, false},
		"not over":                    {191, 0, false},
		"a session that goes beyond":  {150, 201, false},
		"a session that ended before": {150, 170, true},
	} {
		a := telemetry.Aggregate{WindowStart: c.start, WindowLength: 10, LastTime: c.last}
		if got := w.whole(&a); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestAStoreGoesOnOnlyWithWhatItWasBegunWith(t *testing.T) {
	at := func(hour int) time.Time { return time.Date(2026, 3, 1, hour, 0, 0, 0, time.UTC) }
	first := marker{Version: markerVersion, Worker: "history-writer", Topics: []string{"telemetry"}, From: at(1), To: at(5)}
	for name, c := range map[string]struct {
		change func(m *marker)
		fault  string
	}{
		"the same":          {func(*marker) {}, ""},
		"later":             {func(m *marker) { m.To = at(9) }, ""},
		"earlier":           {func(m *marker) { m.To = at(4) }, "it was made up to 2026-03-01T05:00:00Z already"},
		"another beginning": {func(m *marker) { m.From = at(2) }, "it was begun with --from 2026-03-01T01:00:00Z"},
		"another worker":    {func(m *marker) { m.Worker = "aggregator" }, "it was begun by history-writer"},
		"another topic":     {func(m *marker) { m.Topics = []string{"events"} }, "it was begun by history-writer from [telemetry]"},
	} {
		path := filepath.Join(t.TempDir(), "new", "marker.json")
		if _, begun, err := mark(path, first); err != nil || begun {
			t.Fatal(begun, err)
		}
		next := first
		c.change(&next)
		_, begun, err := mark(path, next)
		if c.fault == "" && (err != nil || !begun) || c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)) {
			t.Errorf("%s: %v %v, want %q", name, begun, err, c.fault)
		}
	}
}
