package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// text is a row: what the record said.
type text = string

// keep makes a row of every record; one that says "bad" is refused.
func keep(out *worker.Output[text], _ string, r bus.Record) error {
	out.Rows = append(out.Rows, string(r.Value))
	if string(r.Value) == "bad" {
		return errors.New("value: bad, want anything else")
	}
	return nil
}

// tester is a loop over a log and a table in virtual time.
type tester struct {
	t     *testing.T
	log   *mem.Log
	table *table[text]
	loop  *worker.Loop[text]
	next  uint64 // of the origins
	stop  func() error
}

func newTester(t *testing.T) *tester {
	t.Helper()
	metrics, err := worker.NewMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	log, table := mem.New(mem.Config{Now: time.Now}), newTable[text]()
	return &tester{t: t, log: log, table: table, loop: &worker.Loop[text]{
		Worker: "keeper", Topics: []string{bus.Telemetry}, Bus: log, Store: table,
		NewTask:     func(int) (worker.Task[text], error) { return worker.Decide[text](keep), nil },
		CommitEvery: 200 * time.Millisecond, Metrics: metrics, Now: time.Now, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}}
}

// start runs the loop; w.stop ends it and returns its error.
func (w *tester) start() {
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.loop.Run(ctx) }()
	w.stop = func() error {
		cancel()
		return <-ended
	}
}

// crash ends the loop as a kill -9 would, and gets it a new process.
func (w *tester) crash() {
	w.log.Crash()
	_ = w.stop()
	w.log = w.log.Open()
	w.loop.Bus = w.log
}

// send appends values to partition 0 of Telemetry, each with the next origin, as another process than the loop's would.
func (w *tester) send(values ...string) {
	w.t.Helper()
	var recs []bus.Record
	for _, v := range values {
		w.next++
		recs = append(recs, bus.Record{Value: []byte(v), Origin: bus.Origin{Position: bus.Position{Seq: w.next}}})
	}
	if err := w.log.Open().Append(w.t.Context(), bus.PartitionID{Topic: bus.Telemetry}, recs); err != nil {
		w.t.Fatal(err)
	}
}

// settle lets d pass, and waits until nothing moves.
func settle(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (w *tester) wantRows(want ...string) {
	w.t.Helper()
	if got := w.table.all(); !slices.Equal(got, want) {
		w.t.Fatalf("rows %q, want %q", got, want)
	}
}

func (w *tester) wantStop() {
	w.t.Helper()
	if err := w.stop(); err != nil {
		w.t.Fatalf("stop: %v", err)
	}
}

func (w *tester) letters() []telemetry.DeadLetter {
	w.t.Helper()
	var all []telemetry.DeadLetter
	for _, r := range w.log.Records(bus.PartitionID{Topic: bus.DeadLetters}) {
		var d telemetry.DeadLetter
		if err := telemetry.ParseDeadLetter(r.Value, &d); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

func (w *tester) committed() bus.Position {
	w.t.Helper()
	var at bus.Position
	ctx, cancel := context.WithCancel(w.t.Context())
	err := w.log.Subscribe(ctx, w.loop.Worker, w.loop.Topics, func(ctx context.Context, s bus.Share) error {
		defer cancel()
		p, _, err := s.Partitions[0].Committed(ctx)
		at = p.Through
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return at
}

func TestRecordsBecomeRowsOnceAcrossARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.start()
		w.send("a", "b")
		settle(time.Second)
		w.wantRows("a", "b")
		w.wantStop()
		w.send("c")
		w.start()
		settle(time.Second)
		w.wantRows("a", "b", "c")
		w.wantStop()
	})
}

func TestARecordAfterAPauseIsWrittenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.loop.CommitEvery = time.Minute
		w.start()
		settle(time.Second)
		w.send("a")
		synctest.Wait()
		w.wantRows("a")
		w.send("b")
		settle(59 * time.Second)
		w.wantRows("a")
		settle(2 * time.Second)
		w.wantRows("a", "b")
		w.wantStop()
	})
}

func TestWhatATaskRefusesIsADeadLetterBeforeTheCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.start()
		w.send("a", "bad", "b")
		settle(time.Second)
		w.wantStop()
		w.wantRows("a", "b")
		letters := w.letters()
		if len(letters) != 1 {
			t.Fatalf("%d dead letters, want 1", len(letters))
		}
		d := letters[0]
		if string(d.Payload) != "bad" || d.Worker != "keeper" || d.Topic != bus.Telemetry || d.Position != "1.1" ||
			d.Reason != "value: bad, want anything else" || d.ReceivedAt == 0 {
			t.Fatalf("dead letter %+v", d)
		}
	})
}

func TestADoubleIsSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.start()
		w.send("a", "b")
		w.next = 0
		w.send("a", "b", "c")
		settle(time.Second)
		w.wantStop()
		w.next = 1
		w.start()
		w.send("b", "c", "d")
		settle(time.Second)
		w.wantRows("a", "b", "c", "d")
		w.wantStop()
	})
}

func TestAMillionthRecordIsNotOneTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.loop.BatchRecords = 7
		w.start()
		var want []string
		for i := range 40 {
			var values []string
			for j := range 25 {
				values = append(values, fmt.Sprintf("%d", i*25+j))
			}
			want = append(want, values...)
			w.send(values...)
		}
		settle(time.Second)
		w.wantRows(want...)
		if n := w.table.commitCount(); n < len(want)/7 {
			t.Fatalf("%d commits of at most 7 rows", n)
		}
		w.wantStop()
	})
}

func TestALoopThatLacksAFieldSaysWhich(t *testing.T) {
	err := (&worker.Loop[text]{Worker: "w", Topics: []string{bus.Logs}}).Run(t.Context())
	for _, field := range []string{"Bus", "NewTask", "Now"} {
		if err == nil || !strings.Contains(err.Error(), field+": missing") {
			t.Errorf("%v, want it to name %s", err, field)
		}
	}
}
