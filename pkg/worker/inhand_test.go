//go:build unix

package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/filelock"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
)

const (
	inHandDir  = "WORKER_TEST_IN_HAND" // for the process that dies
	inHandDies = "WORKER_TEST_DIES"    // in what: add or write
	diesOf     = 3                     // its exit code
)

// dying is a worker whose process ends with one of the records, without any panic that could be caught.
func dying(t *testing.T) {
	t.Helper()
	metrics, err := worker.NewMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	metrics.KeepInHand(os.Getenv(inHandDir))
	die := func(where string, values ...string) {
		if os.Getenv(inHandDies) == where && slices.Contains(values, "poison") {
			os.Exit(diesOf)
		}
	}
	log, rows := mem.New(mem.Config{Now: time.Now}), newTable[text]()
	rows.before = func(_ context.Context, _ store.Commit, values []text) error {
		die("write", values...)
		return nil
	}
	id := bus.PartitionID{Topic: bus.Telemetry}
	kept := os.Getenv(inHandDir) + "-rows" // what the store has outlives the process
	if b, err := os.ReadFile(kept); err == nil {
		values, progress, _ := strings.Cut(string(b), "|")
		rows.rows = strings.Fields(values)
		if rows.progress[id], err = bus.ParseProgress([]byte(progress)); err != nil {
			t.Fatal(err)
		}
	}
	rows.after = func(_ context.Context, c store.Commit, _ []text) error {
		all := strings.Join(rows.all(), " ") + "|"
		for _, s := range c.Spans {
			if s.Partition == id {
				return os.WriteFile(kept, s.Through.AppendBinary([]byte(all)), 0o600)
			}
		}
		return nil
	}
	var recs []bus.Record
	for i := range 40 {
		value := fmt.Sprint(i)
		if i == 23 {
			value = "poison"
		}
		recs = append(recs, bus.Record{Value: []byte(value), Origin: bus.Origin{Position: bus.Position{Seq: uint64(i + 1)}}})
	}
	if err := log.Append(t.Context(), bus.PartitionID{Topic: bus.Telemetry}, recs); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	loop := worker.Loop[text]{
		Worker: "keeper", Topics: []string{bus.Telemetry}, Bus: log, Store: rows, Metrics: metrics, Now: time.Now,
		NewTask: func(int) (worker.Task[text], error) {
			return worker.Decide[text](func(out *worker.Output[text], topic string, r bus.Record) error {
				die("add", string(r.Value))
				if string(r.Value) == "39" {
					time.AfterFunc(500*time.Millisecond, cancel)
				}
				return keep(out, topic, r)
			}), nil
		},
	}
	if err := loop.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if got := rows.all(); len(got) != 39 || slices.Contains(got, "poison") {
		t.Errorf("rows %q", got)
	}
	letters := log.Records(bus.PartitionID{Topic: bus.DeadLetters})
	var d telemetry.DeadLetter
	if len(letters) != 1 || telemetry.ParseDeadLetter(letters[0].Value, &d) != nil || string(d.Payload) != "poison" || !strings.Contains(d.Reason, "the process died with it in hand") {
		t.Errorf("%d letters, the first %+v", len(letters), d)
	}
}

func TestARecordThatEndsTheProcessIsADeadLetterAfterSomeStarts(t *testing.T) {
	if os.Getenv(inHandDir) != "" {
		dying(t)
		return
	}
	for _, c := range []struct {
		where      string
		deathsMost int
		taken      bool // the share's page, by another process
	}{{"add", 3, false}, {"write", 16, false}, {"add", 3, true}} { // the first is known at once, the second is searched by halves
		t.Run(fmt.Sprintf("%s, page taken %v", c.where, c.taken), func(t *testing.T) {
			where, deathsMost := c.where, c.deathsMost
			dir, others := filepath.Join(t.TempDir(), "in-hand"), 0
			if c.taken {
				takePage(t, dir)
				others = 1
			}
			for deaths := 0; ; deaths++ {
				var out bytes.Buffer
				child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestARecordThatEndsTheProcess", "-test.v")
				child.Env = append(os.Environ(), inHandDir+"="+dir, inHandDies+"="+where)
				child.Stdout, child.Stderr = &out, &out
				err := child.Run()
				var exit *exec.ExitError
				switch {
				case err == nil:
					t.Logf("after %d deaths", deaths)
					if left, err := os.ReadDir(dir); err != nil || len(left) != others {
						t.Errorf("%v: left %v, want %d of others", err, left, others)
					}
					return
				case !errors.As(err, &exit) || exit.ExitCode() != diesOf:
					t.Fatalf("%v\n%s", err, out.String())
				case deaths == deathsMost:
					t.Fatalf("it still dies after %d starts", deaths)
				}
			}
		})
	}
}

// takePage has the page of the share until the test ends, as another replica on the machine would.
func takePage(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	f, err := filelock.Try(filepath.Join(dir, "keeper-0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
}

// late is a task whose first life hangs in its first snapshot, and whose second one in its first record.
type late struct {
	teller
	add, snapshot chan struct{}
}

func (l *late) Add(out *worker.Output[text], topic string, r bus.Record) error {
	<-l.add
	return l.teller.Add(out, topic, r)
}

func (l *late) Snapshot(dst []byte) ([]byte, error) {
	<-l.snapshot
	return l.teller.Snapshot(dst)
}

func TestASnapshotThatComesBackAfterItWasGivenUpTakesNothingOutOfTheNextLifesHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTester(t)
		w.loop.Checkpoints = w.table
		dir := t.TempDir()
		w.loop.Metrics.KeepInHand(dir)
		open, add, snapshot := make(chan struct{}), make(chan struct{}), make(chan struct{})
		close(open)
		lives := 0
		w.loop.NewTask = func(int) (worker.Task[text], error) {
			if lives++; lives == 1 {
				return &late{add: open, snapshot: snapshot}, nil
			}
			return &late{add: add, snapshot: open}, nil
		}
		wantAdding := func() {
			t.Helper()
			page, err := os.ReadFile(filepath.Join(dir, "keeper-0"))
			if err != nil || page[8] != 1 { // the task has a record
				t.Fatalf("%v, page %v", err, page)
			}
		}
		w.start()
		w.send("1")
		settle(80 * time.Second) // the first life is given up after a minute
		wantAdding()
		close(snapshot)
		settle(time.Second)
		wantAdding()
		close(add)
		settle(time.Second)
		w.wantRows(" 1")
		w.wantStop()
	})
}
