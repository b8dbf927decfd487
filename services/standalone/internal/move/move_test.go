package move

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/duckdb"
	"github.com/millrace/millrace/pkg/store/parquet"
	"github.com/millrace/millrace/pkg/telemetry"
)

const (
	second = 1_000_000_000
	start  = telemetry.Time(1_772_366_400_480_850_701) // 2026-03-01T12:00:00.480850701Z
)

// instance is an embedded one.
type instance struct {
	dir     string
	db      *duckdb.DB
	history *parquet.History
}

func openInstance(t *testing.T, dir string) *instance {
	t.Helper()
	i := &instance{dir: dir}
	var err error
	i.history, err = parquet.Open(t.Context(), parquet.Config{Dir: filepath.Join(dir, "archive"), MaintainEvery: -1, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	i.db, err = duckdb.Open(t.Context(), duckdb.Config{
		Path: filepath.Join(dir, "millrace.duckdb"), ArchiveDir: filepath.Join(dir, "archive"), History: i.history, MemoryLimit: 256 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.close(t) })
	return i
}

func (i *instance) close(t *testing.T) {
	t.Helper()
	if i.db == nil {
		return
	}
	if err := errors.Join(i.db.Close(), i.history.Close(context.WithoutCancel(t.Context()))); err != nil {
		t.Error(err)
	}
	i.db = nil
}

func (i *instance) source() *Source {
	return &Source{DB: i.db, History: i.history, Archive: filepath.Join(i.dir, "archive")}
}

func (i *instance) target() Target {
	return Target{
		State: i.db.State(), Aggregates: i.db.Aggregates(), Alarms: i.db.Alarms(), History: i.history, Logs: i.db.Logs(), DeadLetters: i.db.DeadLetters(),
		Reader: func(string) store.Reader { return i.db },
	}
}

func options(t *testing.T, i *instance) Options {
	t.Helper()
	return Options{
		Name: "test", Marker: filepath.Join(i.dir, "move.json"), Partitions: 4, Patience: -1, Log: slog.New(slog.DiscardHandler), Now: time.Now,
	}
}

func put[Row any](t *testing.T, w store.Writer[Row], worker, topic string, c store.Commit, rows []Row) {
	t.Helper()
	c.Worker = worker
	c.Spans = []store.Span{{Partition: bus.PartitionID{Topic: topic, Number: 1}, Through: bus.Progress{Through: bus.Position{Seq: 1}}}}
	if err := w.Write(t.Context(), c, rows); err != nil {
		t.Fatal(err)
	}
}

// fill puts into an instance what one holds after three days: n messages, and what follows from them.
func fill(t *testing.T, i *instance, n int) {
	t.Helper()
	put(t, i.db.State(), "state-projector", bus.Telemetry, store.Commit{}, append(messages(n), sessions()...))
	put(t, store.Writer[store.MessageRow](i.history), "history-writer", bus.Telemetry, store.Commit{}, messages(n))
	if err := i.history.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	var letters []store.DeadLetterRow
	for k := range 40 {
		letters = append(letters, store.DeadLetterRow{DeadLetter: telemetry.DeadLetter{
			Topic: "ingested", Worker: "router", Reason: fmt.Sprintf("reason %d", k/10), Payload: []byte{0xff, byte(k / 2)}, ReceivedAt: start + telemetry.Time(k/4)*second,
			Tenant: "default", Partition: int32(k % 4), Position: fmt.Sprintf("%d.0", k/2),
		}})
	}
	put(t, i.db.Logs(), "log-consumer", bus.Logs, store.Commit{}, logLines(n/3))
	put(t, i.db.DeadLetters(), "dead-letter-writer", bus.DeadLetters, store.Commit{}, letters)
	put(t, store.Writer[store.AggregateRow](i.db.Aggregates()), "aggregator", bus.Telemetry,
		store.Commit{Task: "1", Checkpoint: []byte("windows\x00 that are open")}, aggregates(n/2))
	put(t, store.Writer[telemetry.Alarm](i.db.Alarms()), "alerting", bus.Telemetry, store.Commit{Task: "3", Checkpoint: []byte("alarms")}, alarms(25))
}

func messages(n int) []store.MessageRow {
	rows := make([]store.MessageRow, n)
	for k := range rows {
		at := start + telemetry.Time(k)*telemetry.Time(3*24*3600*second/int64(max(n, 1)))
		rows[k] = store.MessageRow{
			Message: telemetry.Message{
				Kind: telemetry.KindChannel, Tenant: "default", DeviceID: fmt.Sprintf("größer-%d", k%17), DeviceType: "T", ChannelKey: fmt.Sprintf("c%d", k%3),
				ChannelType: "json", ChannelValue: fmt.Appendf(nil, `{"n":%d}`, k), Value: float64(k) / 3, HasValue: k%5 > 0, EventTime: at, IngestTime: at + 7,
				MessageID: fmt.Sprintf("m-%d", k), Source: "mqtt", Credential: "key", Codec: "json",
			},
			Origin: bus.Origin{Partition: int32(k % 4), Position: bus.Position{Seq: uint64(k/4 + 1), Index: uint32(k % 2)}},
		}
		if k%7 == 0 {
			rows[k].Properties, rows[k].Attributes = []telemetry.Property{{Key: "a", Value: `"`}}, []byte(`{"unit":"°C"}`)
			rows[k].DeviceTime = at + 3600*second
		}
	}
	return rows
}

func logLines(n int) []store.MessageRow {
	lines := messages(n)
	for k := range lines {
		m := &lines[k]
		m.Kind, m.Severity, m.LogSource, m.Text = telemetry.KindLog, telemetry.SeverityWarning, "pump", fmt.Sprintf("line %d\x00", k)
		m.ChannelKey, m.ChannelValue = "", nil
	}
	return lines
}

// sessions are of devices that are connected, gone, gone at once, and never heard otherwise.
func sessions() []store.MessageRow {
	say := func(device string, at telemetry.Time, seq uint64, text string) store.MessageRow {
		return store.MessageRow{
			Message: telemetry.Message{
				Kind: telemetry.KindSession, Tenant: "default", DeviceID: device, EventTime: at, IngestTime: at, ChannelValue: []byte(text), Credential: "key-7",
			},
			Origin: bus.Origin{Partition: 2, Position: bus.Position{Seq: seq}},
		}
	}
	begin := `{"connected":true,"address":"1.2.3.4:555","client_id":"c","protocol":"mqtt5"}`
	return []store.MessageRow{
		say("größer-3", start, 1000, begin),
		say("gone", start, 1001, begin), say("gone", start+5*second, 1002, `{"connected":false,"reason":"keep-alive timeout"}`),
		say("at once", start, 1003, begin), say("at once", start, 1004, `{"connected":false,"reason":"replaced"}`),
		say("only gone", start+9, 1005, `{"connected":false,"reason":"half of it was lost"}`),
		{Message: telemetry.Message{Kind: telemetry.KindLog, Tenant: "other", DeviceID: "only logs", DeviceType: "L", IngestTime: start + 3, EventTime: start}},
	}
}

func aggregates(n int) []store.AggregateRow {
	rows := make([]store.AggregateRow, n)
	for k := range rows {
		at := start + telemetry.Time(k/2)*60*second
		rows[k] = store.AggregateRow{
			Aggregate: telemetry.Aggregate{
				Tenant: "default", DeviceID: "d", ChannelKey: fmt.Sprintf("c%d", k%2), WindowStart: at, WindowLength: 60*second + int64(k%2), Count: 3, Min: 1, Max: 2.5,
				Sum: 5, First: 1, Last: 2, P50: 1.5, P95: 2.4, P99: 2.5, Revision: 1, DeviceType: "T", FirstTime: at + 1, LastTime: at + 2, Final: true,
			},
		}
		if k%3 > 0 {
			rows[k].State, rows[k].StateUntil = fmt.Appendf(nil, "state %d", k), telemetry.At(time.Now().Add(time.Hour))
		}
	}
	return rows
}

func alarms(n int) []telemetry.Alarm {
	rows := make([]telemetry.Alarm, n)
	for k := range rows {
		rows[k] = telemetry.Alarm{
			AlarmID: fmt.Sprintf("a-%d", k), Tenant: "default", Rule: "hot", DeviceID: "d", ChannelKey: "c", Severity: "error", State: telemetry.AlarmRaised,
			Value: "81", PreviousValue: "79", RaisedAt: start + telemetry.Time(k), Detail: fmt.Appendf(nil, `{"b":%d,"a":1.50}`, k), Revision: uint32(k + 1),
		}
	}
	return rows
}

func mustMove(t *testing.T, from *Source, to Target, o Options) Result {
	t.Helper()
	r, err := Run(t.Context(), from, to, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantEqual(t *testing.T, r Result) {
	t.Helper()
	if len(r.Differences) > 0 {
		t.Errorf("differences:\n%s", strings.Join(r.Differences, "\n"))
	}
}

func TestEverythingArrivesOnceAndEqual(t *testing.T) {
	from, into := openInstance(t, t.TempDir()), openInstance(t, t.TempDir())
	fill(t, from, 3000)
	for range 2 { // again changes nothing
		wantEqual(t, mustMove(t, from.source(), into.target(), options(t, from)))
	}
	for query, want := range map[string]string{
		"SELECT count(*), min(origin_partition), max(origin_partition) FROM device_messages": "[3000 -4 -1]",
		"SELECT count(*) FROM device_state":                                                  "[51]",
		"SELECT count(*), count(connected) FROM devices":                                     "[21 4]",
		"SELECT count(*) FROM aggregates":                                                    "[1500]",
		"SELECT count(*), sum(revision) FROM alarms":                                         "[25 325]",
		"SELECT count(*) FROM logs":                                                          "[1000]",
		"SELECT count(*) FROM dead_letters":                                                  "[40]",
	} {
		for row, err := range into.source().rows(t.Context(), query) {
			if err != nil || fmt.Sprint(row) != want {
				t.Errorf("%s: %v, %v, want %s", query, row, err, want)
			}
		}
	}
	for worker, s := range map[string]store.Checkpoints{"aggregator": into.db.Aggregates(), "alerting": into.db.Alarms()} {
		task := map[string]string{"aggregator": "1", "alerting": "3"}[worker]
		if state, ok, err := s.Checkpoint(t.Context(), worker, task); err != nil || !ok || len(state) == 0 {
			t.Errorf("the checkpoint of %s: %q, %v, %v", worker, state, ok, err)
		}
	}
}

func TestAnEmptyInstanceMovesToo(t *testing.T) {
	from, into := openInstance(t, t.TempDir()), openInstance(t, t.TempDir())
	if r := mustMove(t, from.source(), into.target(), options(t, from)); r.Rows != 0 || len(r.Differences) > 0 {
		t.Errorf("%+v", r)
	}
}

// killing fails some calls, before or after they did what they should, as a process that is killed.
type killing[Row any] struct {
	store.Writer[Row]
	k *killer
}

var errKilled = errors.New("killed")

type killer struct {
	calls, at int
	kill      context.CancelFunc
}

func (k *killer) due() bool { k.calls++; return k.calls == k.at }

func (w killing[Row]) Write(ctx context.Context, c store.Commit, rows []Row) error {
	if w.k.due() {
		w.k.kill()
		return errKilled
	}
	err := w.Writer.Write(ctx, c, rows)
	if w.k.due() {
		w.k.kill()
		return errors.Join(errKilled, err)
	}
	return err
}

func (w killing[Row]) Flush(ctx context.Context) error {
	if b, ok := w.Writer.(store.Buffered); ok {
		return b.Flush(ctx)
	}
	return nil
}

func TestKilledAtEveryWriteItGoesOn(t *testing.T) {
	from, into := openInstance(t, t.TempDir()), openInstance(t, t.TempDir())
	fill(t, from, 3000)
	kills := 0
	for at := 1; ; at++ {
		ctx, cancel := context.WithCancel(t.Context())
		k := &killer{at: at, kill: cancel}
		to := into.target()
		to.State, to.Logs = killing[store.MessageRow]{to.State, k}, killing[store.MessageRow]{to.Logs, k}
		to.History = killing[store.MessageRow]{into.history, k}
		to.DeadLetters = killing[store.DeadLetterRow]{to.DeadLetters, k}
		r, err := Run(ctx, from.source(), to, options(t, from))
		cancel()
		if err == nil {
			wantEqual(t, r)
			break
		}
		if kills++; !errors.Is(err, context.Canceled) || kills > 30 {
			t.Fatalf("%d: %v", at, err)
		}
	}
	if kills < 5 {
		t.Errorf("it was killed %d times only", kills)
	}
	wantEqual(t, mustMove(t, from.source(), into.target(), options(t, from)))
}

func TestWhatDiffersIsNamed(t *testing.T) {
	from := openInstance(t, t.TempDir())
	fill(t, from, 300)
	dir := t.TempDir()
	into := openInstance(t, dir)
	wantEqual(t, mustMove(t, from.source(), into.target(), options(t, from)))
	lost := keeping{into.db, func(s store.Selection, row []any) bool {
		return s.Table != store.TableMessages || row[slices.Index(s.Columns, "message_id")] != "m-150"
	}}
	to := into.target()
	to.Reader = func(string) store.Reader { return lost }
	r := mustMove(t, from.source(), to, options(t, from))
	want := []string{
		"device_messages 2026-03-03: 99 rows in the target, 100 in the source",
		"device_messages: the target lacks 2026-03-03T00:00:00.480850701Z -3 637534208",
	}
	if !slices.Equal(r.Differences, want) {
		t.Errorf("differences are %q, want %q", r.Differences, want)
	}
}

// keeping is a reader that has lost rows.
type keeping struct {
	store.Reader
	keep func(s store.Selection, row []any) bool
}

func (k keeping) Select(ctx context.Context, s store.Selection, each func(row []any) error) error {
	return k.Reader.Select(ctx, s, func(row []any) error {
		if !k.keep(s, row) {
			return nil
		}
		return each(row)
	})
}

func TestATargetWhoseWorkersHaveBegunIsRefused(t *testing.T) {
	from, into := openInstance(t, t.TempDir()), openInstance(t, t.TempDir())
	fill(t, from, 30)
	put(t, store.Writer[store.AggregateRow](into.db.Aggregates()), "aggregator", bus.Telemetry, store.Commit{}, nil)
	if _, err := Run(t.Context(), from.source(), into.target(), options(t, from)); !errors.Is(err, ErrBegun) {
		t.Errorf("%v, want ErrBegun", err)
	}
}

func TestWorkersMayRunOnceWhatIsNowHasMoved(t *testing.T) {
	from, into := openInstance(t, t.TempDir()), openInstance(t, t.TempDir())
	fill(t, from, 300)
	to := into.target()
	to.Logs = killing[store.MessageRow]{to.Logs, &killer{at: 1, kill: func() {}}} // fails once
	o := options(t, from)
	o.Tell = func(s Step) {
		if s.What != Standing {
			return
		}
		own := messages(10)
		put(t, into.db.State(), "state-projector", bus.Telemetry, store.Commit{}, own)
		put(t, store.Writer[store.MessageRow](into.history), "history-writer", bus.Telemetry, store.Commit{}, own)
		put(t, store.Writer[store.AggregateRow](into.db.Aggregates()), "aggregator", bus.Telemetry, store.Commit{}, nil)
	}
	wantEqual(t, mustMove(t, from.source(), to, o))
	o.Tell = nil
	wantEqual(t, mustMove(t, from.source(), into.target(), o))
}

func TestASourceThatHasRunSinceIsRefused(t *testing.T) {
	from, into := openInstance(t, t.TempDir()), openInstance(t, t.TempDir())
	fill(t, from, 30)
	wantEqual(t, mustMove(t, from.source(), into.target(), options(t, from)))
	put(t, from.db.Logs(), "again", bus.Logs, store.Commit{}, logLines(1))
	_, err := Run(t.Context(), from.source(), into.target(), options(t, from))
	if err == nil || !strings.Contains(err.Error(), "logs is not as it was when the move began") {
		t.Errorf("%v", err)
	}
	o := options(t, from)
	o.Name = "another target"
	if err := errors.Join(errOf(Run(t.Context(), from.source(), openInstance(t, t.TempDir()).target(), o))); err != nil {
		t.Errorf("into another target: %v", err)
	}
}

func errOf(_ Result, err error) error { return err }

func TestWhatTheTargetDoesNotKeepStays(t *testing.T) {
	from, into := openInstance(t, t.TempDir()), openInstance(t, t.TempDir())
	fill(t, from, 30)
	to := into.target()
	to.Logs, to.State, to.Aggregates = nil, nil, nil
	r := mustMove(t, from.source(), to, options(t, from))
	wantEqual(t, r)
	if want := []string{"device_state", "devices", "aggregates", "states of windows", "logs", "archive"}; !slices.Equal(r.Stays, want) {
		t.Errorf("%q stay, want %q", r.Stays, want)
	}
}
