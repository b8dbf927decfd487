package rig

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/test/torture/check"
	"github.com/millrace/millrace/test/torture/ledger"
)

// Report is what a run came to.
type Report struct {
	Seed         uint64
	Set          string
	Acknowledged int
	Interrupted  int
	Faults       []Happened
	Deaths       int
	Sending      time.Duration
	Draining     time.Duration
	Waits        []time.Duration // since the draining began, until each store was whole
	Stores       []check.Verdict
	Books        check.Books
	Breaches     []string // beside those of the stores
	Note         string
	Dir          string
}

// Clean reports whether nothing was lost, doubled or unexpected.
func (r *Report) Clean() bool {
	return len(r.Breaches) == 0 && !slices.ContainsFunc(r.Stores, func(v check.Verdict) bool { return !v.Clean() })
}

// Run does one run. The error says that the run itself could not be done; what it found is in the report.
func Run(ctx context.Context, o Options) (r Report, err error) {
	r = Report{Seed: o.Seed, Set: o.Set}
	dir, err := os.MkdirTemp(o.Dir, fmt.Sprintf("seed-%d-", o.Seed))
	if err != nil {
		return r, fmt.Errorf("run seed %d: %w", o.Seed, err)
	}
	r.Dir = dir
	l, err := ledger.Open(filepath.Join(dir, "ledger"), o.plan(time.Now()))
	if err != nil {
		return r, err
	}
	s, err := open(ctx, o, dir)
	if err != nil {
		return r, errors.Join(fmt.Errorf("seed %d: %w", o.Seed, err), l.Close())
	}
	w := &work{o: o, set: s, ledger: l, report: &r, begun: time.Now(), dice: rand.New(rand.NewPCG(o.Seed, 0x6d696c6c))}
	w.fleet = &ledger.Fleet{Ledger: l, MQTT: s.MQTT, HTTP: s.HTTP, Rate: o.rate()}
	err = w.run(ctx)
	keep := ""
	if err != nil || !r.Clean() || o.Keep {
		keep = filepath.Join(dir, "kept")
	}
	err = errors.Join(err, s.close(ctx, keep), l.Close())
	if err == nil && r.Clean() && !o.Keep {
		err = os.RemoveAll(dir)
	}
	return r, err
}

func open(ctx context.Context, o Options, dir string) (set, error) {
	switch o.Set {
	case "embedded":
		return newEmbedded(ctx, o, dir)
	case "split":
		return newSplit(ctx, o, dir)
	case "nats", "kafka":
		return newCluster(ctx, o, dir)
	}
	return nil, fmt.Errorf("set: %q, want embedded, split, nats or kafka", o.Set)
}

// work is a run under way.
type work struct {
	o      Options
	set    set
	ledger *ledger.Ledger
	fleet  *ledger.Fleet
	report *Report
	begun  time.Time
	dice   *rand.Rand
}

func (w *work) breach(format string, args ...any) {
	w.report.Breaches = append(w.report.Breaches, fmt.Sprintf(format, args...))
}

func (w *work) run(ctx context.Context) error {
	sending, stop := context.WithCancel(ctx)
	defer stop()
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		w.fleet.Run(sending)
	}()
	err := w.breakThings(ctx, finished)
	if err == nil {
		err = w.finish(ctx, finished)
	}
	stop()
	<-finished
	w.report.Sending = time.Since(w.begun)
	w.report.Acknowledged, w.report.Interrupted = w.ledger.Acknowledged(), w.fleet.Interrupted()
	w.report.Deaths, w.report.Note = w.set.Deaths(), w.set.Note()
	for _, odd := range w.fleet.Oddities() {
		w.breach("an answer: %s", odd)
	}
	if err != nil {
		return err
	}
	return w.settle(ctx)
}

// breakThings spreads the faults over the messages, by chance.
func (w *work) breakThings(ctx context.Context, finished <-chan struct{}) error {
	kinds := slices.DeleteFunc(slices.Clone(w.set.Faults()), func(f Fault) bool { return len(w.o.Kinds) > 0 && !slices.Contains(w.o.Kinds, f.Kind) })
	if len(kinds) == 0 {
		return fmt.Errorf("faults: none of %s in the set %s", strings.Join(w.o.Kinds, ", "), w.o.Set)
	}
	at := make([]int, w.o.faults())
	for i := range at {
		at[i] = w.dice.IntN(w.o.Messages)
	}
	slices.Sort(at)
	var deck []Fault
	for _, when := range at {
		if len(deck) == 0 { // each kind once before any comes again
			deck = slices.Clone(kinds)
			w.dice.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		f := deck[0]
		deck = deck[1:]
		if !w.reach(ctx, finished, when) {
			return ctx.Err()
		}
		begun, acknowledged := time.Now(), w.ledger.Acknowledged()
		if err := f.Do(ctx, w.dice); err != nil {
			return fmt.Errorf("%s: %w", f.Kind, err)
		}
		h := Happened{At: begun.Sub(w.begun), Acknowledged: acknowledged, Kind: f.Kind, Took: time.Since(begun)}
		w.report.Faults = append(w.report.Faults, h)
		_, _ = fmt.Fprintln(w.o.Out, " ", h)
		if err := w.set.Ensure(ctx); err != nil {
			return err
		}
	}
	return nil
}

// reach waits until so many messages are acknowledged; false where that will not be.
func (w *work) reach(ctx context.Context, finished <-chan struct{}, count int) bool {
	progress, since := w.ledger.Acknowledged(), time.Now()
	for {
		now := w.ledger.Acknowledged()
		if now >= count {
			return true
		}
		if now > progress {
			progress, since = now, time.Now()
		}
		if time.Since(since) > stallLimit {
			w.breach("sending stands still at %d messages for %v, with nothing broken", now, stallLimit)
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-finished:
			return true // what is left breaks while the stores catch up
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// finish waits until everything is sent.
func (w *work) finish(ctx context.Context, finished <-chan struct{}) error {
	for w.reach(ctx, finished, w.ledger.Acknowledged()+1) {
		select {
		case <-finished:
			return nil
		default:
		}
		if err := w.set.Ensure(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// settle holds every store against the ledger, once it has caught up.
func (w *work) settle(ctx context.Context) error {
	begun := time.Now()
	for _, store := range w.set.Stores(w.ledger) {
		v, err := store.Settle(ctx, settlePatience)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			w.breach("%s cannot be asked: %v", store.Name, err)
		}
		w.report.Stores = append(w.report.Stores, v)
		w.report.Waits = append(w.report.Waits, time.Since(begun))
	}
	books, err := check.Balance(ctx, w.set.Bus(), w.ledger, w.report.Stores)
	if err != nil {
		w.breach("the books cannot be read: %v", err)
	}
	w.report.Books = books
	w.report.Breaches = append(w.report.Breaches, books.Faults...)
	faults, err := check.Audit(ctx, w.set.Source(), books, w.begun.Add(-time.Minute), settlePatience)
	if err != nil {
		w.breach("the audit has no answer: %v", err)
	}
	w.report.Breaches = append(w.report.Breaches, faults...)
	w.report.Draining = time.Since(begun)
	return ctx.Err()
}
