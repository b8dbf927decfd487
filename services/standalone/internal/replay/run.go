package replay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
	"github.com/millrace/millrace/services/aggregator"
	historywriter "github.com/millrace/millrace/services/history-writer"
	logconsumer "github.com/millrace/millrace/services/log-consumer"
	stateprojector "github.com/millrace/millrace/services/state-projector"
)

// Source is the past: a log, which is only looked at, and perhaps an archive.
type Source struct {
	Log  bus.Log
	Cold *Cold // nil where there is none
}

// Target is the new store; what the worker does not write is nil.
type Target struct {
	State       store.StateWriter
	History     store.Writer[store.MessageRow]
	Archive     store.HistoryWriter
	Aggregates  store.AggregateWriter
	Logs        store.LogWriter
	DeadLetters store.DeadLetterWriter
}

// Options say what is replayed.
type Options struct {
	Worker   string
	Topics   []string       // none: all that the worker reads
	From, To telemetry.Time // when the edge took the messages; To exclusive
	Marker   string         // file beside the new store
	Windows  aggregator.Config
	Tell     func(Progress)
	Log      *slog.Logger
	Now      func() time.Time
}

// Progress is where a replay is.
type Progress struct {
	Records   uint64 // that have passed in this run
	PerSecond float64
	Share     float64       // of the time that passes, 0 to 1
	Left      time.Duration // at the pace until now; 0 where it cannot be told
	Ended     bool
}

// Result says what became of a replay.
type Result struct {
	FromLog, FromArchive uint64 // records that passed in this run
	Refused              uint64 // by the worker: they are dead letters of the live one already
	Notes                []string
	Lacking              bool // the log has records that cannot be replayed: see Notes
}

// Workers returns the workers whose stores can be made anew.
func Workers() []string {
	return []string{historywriter.Worker, historywriter.ArchiveWorker, stateprojector.Worker, aggregator.Worker, logconsumer.Worker}
}

// Topics returns what a worker reads, beside what is given to it once more.
func Topics(worker string) []string {
	switch worker {
	case historywriter.Worker, historywriter.ArchiveWorker:
		return []string{bus.Telemetry, bus.Events}
	case stateprojector.Worker:
		return stateprojector.Topics()
	case aggregator.Worker:
		return aggregator.Topics()
	case logconsumer.Worker:
		return []string{bus.Logs, bus.DeadLetters}
	}
	return nil
}

// Run replays into the new store what that does not have yet. ctx may end it at any time; it then returns ctx's error, and the same call
// goes on.
func Run(ctx context.Context, from Source, to Target, o Options) (Result, error) {
	r, err := newRun(from, to, o)
	if err != nil {
		return Result{}, err
	}
	want := marker{Version: markerVersion, Worker: o.Worker, Topics: r.topics, From: o.From.Std(), To: o.To.Std()}
	begun, err := r.begun(ctx)
	if err != nil {
		return Result{}, err
	}
	m, marked, err := mark(o.Marker, want)
	if err != nil {
		return Result{}, err
	}
	if begun && !marked {
		return Result{}, fmt.Errorf("%s has begun in the new store, but %s does not say with what: empty it, or give another place", WorkerName(o.Worker), o.Marker)
	}
	if from.Cold != nil {
		n, err := from.Cold.foreign(ctx, o.From, o.To, from.Log.Partitions(r.topics[0]))
		if err != nil {
			return Result{}, err
		}
		r.tally.lacks("messages of the archive that stem from another log, such as one that was moved from", uint64(n)) //nolint:gosec // a count
	}
	if err := r.work(ctx); err != nil {
		return r.result(), err
	}
	if err := r.check(ctx); err != nil {
		return r.result(), err
	}
	m.Complete = true
	return r.result(), m.save(o.Marker)
}

// run is one replay under way.
type run struct {
	o      Options
	from   Source
	to     Target
	topics []string
	tally  *tally
	past   *past
	stores map[string]asked                 // by topic: the store that keeps its progress
	before map[bus.PartitionID]bus.Position // what the new store had at the beginning
	began  time.Time
	over   atomic.Bool // everything has passed
}

// asked is the part of a store that knows how far a worker came.
type asked interface {
	Progress(ctx context.Context, worker string, p bus.PartitionID) (bus.Progress, bool, error)
}

func newRun(from Source, to Target, o Options) (*run, error) {
	reads := Topics(o.Worker)
	if reads == nil {
		return nil, fmt.Errorf("worker %q: want one of %s", o.Worker, strings.Join(Workers(), ", "))
	}
	topics := o.Topics
	if len(topics) == 0 {
		topics = reads
	}
	for _, t := range topics {
		if !slices.Contains(reads, t) {
			return nil, fmt.Errorf("topic %q: %s does not read it, want some of %s", t, o.Worker, strings.Join(reads, ", "))
		}
	}
	if o.From >= o.To {
		return nil, fmt.Errorf("from %s to %s: want a time that does not end before it begins", o.From.Std(), o.To.Std())
	}
	topics = append(slices.Clone(topics), bus.Redelivered)
	r := &run{o: o, from: from, to: to, topics: topics, tally: newTally(), stores: map[string]asked{}, before: map[bus.PartitionID]bus.Position{}}
	for _, t := range topics {
		r.stores[t] = map[string]asked{
			historywriter.Worker: to.History, historywriter.ArchiveWorker: to.Archive, stateprojector.Worker: to.State,
			aggregator.Worker: to.Aggregates, logconsumer.Worker: to.Logs,
		}[o.Worker]
		if t == bus.DeadLetters {
			r.stores[t] = to.DeadLetters
		}
	}
	return r, nil
}

// readerOf returns the name of the loop that reads a topic for a worker.
func (r *run) readerOf(topic string) string {
	switch {
	case topic == bus.DeadLetters:
		return logconsumer.DeadLetterWorker
	case r.o.Worker == historywriter.ArchiveWorker:
		return historywriter.Worker
	}
	return r.o.Worker
}

// begun reports whether the new store has some of a replay. It refuses one into which the worker itself writes.
func (r *run) begun(ctx context.Context) (begun bool, err error) {
	for topic, s := range r.stores {
		for n := range r.from.Log.Partitions(topic) {
			id := bus.PartitionID{Topic: topic, Number: n}
			for _, name := range []string{r.readerOf(topic), r.o.Worker} {
				if _, live, err := s.Progress(ctx, name, id); err != nil {
					return false, fmt.Errorf("ask the new store how far %s is: %w", name, err)
				} else if live {
					return false, fmt.Errorf("%s itself writes into that store (it has read %v): want another place", name, id)
				}
			}
			has, there, err := s.Progress(ctx, WorkerName(r.readerOf(topic)), id)
			if err != nil {
				return false, fmt.Errorf("ask the new store how far the replay is: %w", err)
			}
			r.before[id] = has.Through
			begun = begun || there
		}
	}
	return begun, nil
}

const (
	lookEvery = 250 * time.Millisecond
	// restMin is how long a worker must have had nothing to do at the end, so that windows which the clock closes are closed.
	restMin = 3 * time.Second
)

// work lets the worker read the past to its end, and ends it.
func (r *run) work(ctx context.Context) error {
	loops, err := worker.NewMetrics(prometheus.NewRegistry())
	if err != nil {
		return err
	}
	life, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	working, stop := context.WithCancel(life)
	defer stop()
	r.past = &past{
		log: r.from.Log, cold: r.from.Cold, worker: r.readerOf(bus.Redelivered), topics: r.topics, when: span{r.o.From, r.o.To}, tally: r.tally, fail: fail,
		before: r.before,
	}
	r.began = r.o.Now()
	done := make(chan error, 1)
	go func() { done <- r.worker(working, loops) }()
	err, ended := r.attend(working, loops, done)
	stop()
	if !ended {
		err = <-done
	}
	r.past.running.Wait()
	if cause := context.Cause(life); cause != nil && ctx.Err() == nil {
		return cause
	}
	if ctx.Err() != nil {
		return errors.Join(ctx.Err(), err)
	}
	return err
}

// attend tells how far it is until all has passed and the worker has nothing left to do. ended says that the worker has.
func (r *run) attend(ctx context.Context, loops *worker.Metrics, done <-chan error) (err error, ended bool) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var rest time.Time
	for {
		select {
		case <-ctx.Done():
			return nil, false
		case err := <-done:
			if err == nil {
				err = errors.New("the worker ended before the past did")
			}
			return err, true
		case <-tick.C:
		}
		r.tell(false)
		now := r.o.Now()
		switch {
		case !r.past.ended() || !r.caughtUp(ctx, loops.Statuses()):
			rest = time.Time{}
		case rest.IsZero():
			r.over.Store(true)
			rest = now
		case now.Sub(rest) >= restMin || r.o.Worker != aggregator.Worker:
			r.tell(true)
			return nil, false
		}
	}
}

// caughtUp reports whether each loop has taken what there is, and holds no trouble. By the aggregator's clock nothing has waited for
// long, so that one must have committed what there is as well: before that its clock must not go to the end.
func (r *run) caughtUp(ctx context.Context, all []worker.Status) bool {
	ownClock := r.o.Worker == aggregator.Worker
	for _, s := range all {
		if s.Shares == 0 || s.LagSeconds > 0 || s.Retrying != "" || ownClock && s.Behind > 0 {
			return false
		}
	}
	return len(all) > 0 && (!ownClock || r.over.Load() || r.check(ctx) == nil)
}

func (r *run) tell(ended bool) {
	if r.o.Tell == nil {
		return
	}
	p := Progress{Records: r.tally.passed.Load(), Share: r.tally.share(r.past.when, r.from.Log.Partitions(r.topics[0])), Ended: ended}
	took := r.o.Now().Sub(r.began)
	p.PerSecond = float64(p.Records) / max(took.Seconds(), 1e-3)
	switch {
	case ended:
		p.Share = 1
	case p.Share > 0:
		p.Left = time.Duration(float64(took) * (1 - p.Share) / p.Share)
	}
	r.o.Tell(p)
}

// clock is the aggregator's: while the past passes it stands long before its end, so that no window closes because nothing came for a
// while, and then at its end, so that those close which closed by then.
func (r *run) clock() time.Time {
	if r.over.Load() {
		return r.o.To.Std()
	}
	const before = 100 * 24 * time.Hour
	return r.o.To.Std().Add(r.o.Now().Sub(r.began) - before)
}

func (r *run) worker(ctx context.Context, loops *worker.Metrics) error {
	log, now := r.o.Log, r.o.Now
	switch r.o.Worker {
	case historywriter.Worker:
		return historywriter.Run(ctx, historywriter.DefaultConfig(), historywriter.Deps{
			Bus: r.past, Store: rename(r.to.History), Workers: loops, Log: log, Now: now,
		})
	case historywriter.ArchiveWorker:
		return historywriter.Run(ctx, historywriter.DefaultConfig(), historywriter.Deps{
			Bus: r.past, Store: rename[store.MessageRow](r.to.Archive), Workers: loops, Log: log, Now: now,
		})
	case stateprojector.Worker:
		return stateprojector.Run(ctx, stateprojector.DefaultConfig(), stateprojector.Deps{
			Bus: r.past, Store: rename(r.to.State), Workers: loops, Log: log, Now: now,
		})
	case logconsumer.Worker:
		return logconsumer.Run(ctx, logconsumer.DefaultConfig(), logconsumer.Deps{
			Bus: r.past, Logs: rename(r.to.Logs), DeadLetters: rename(r.to.DeadLetters), Workers: loops, Log: log, Now: now,
		})
	case aggregator.Worker:
		cfg := r.o.Windows
		cfg.RunningEvery = 0 // nobody reads them
		return aggregator.Run(ctx, cfg, aggregator.Deps{
			Bus: r.past, Store: windows{r.to.Aggregates, r.past.when}, Workers: loops, Log: log, Now: r.clock,
		})
	}
	return fmt.Errorf("worker %q: want one of %s", r.o.Worker, strings.Join(Workers(), ", "))
}

// check compares what the store says it has with what has passed.
func (r *run) check(ctx context.Context) error {
	for _, l := range r.past.lanes() {
		end, err := l.End(ctx)
		if err != nil || end.IsZero() {
			continue // nothing passed
		}
		has, _, err := r.stores[l.id.Topic].Progress(ctx, WorkerName(r.readerOf(l.id.Topic)), l.id)
		if err != nil {
			return fmt.Errorf("ask the new store how far it is: %w", err)
		}
		if has.Through.Compare(end) < 0 {
			return fmt.Errorf("the new store has %v up to %v, though it ends at %v: run the same again", l.id, has.Through, end)
		}
	}
	return nil
}

func (r *run) result() Result {
	return Result{
		FromLog: r.tally.log.Load(), FromArchive: r.tally.cold.Load(), Refused: r.tally.refusals(), Notes: r.tally.notes(r.from.Cold),
		Lacking: r.tally.lacking(),
	}
}
