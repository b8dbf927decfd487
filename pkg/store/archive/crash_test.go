package archive_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/archive"
)

const (
	lifeWrites = 4
	lifeRows   = 9
)

// live writes what is missing of all messages and flushes now and then, several hours each time; until an error.
func live(t *testing.T, a *archive.Archive) error {
	t.Helper()
	at, _, err := a.Progress(t.Context(), worker, commit(0, 0, 1).Spans[0].Partition)
	if err != nil {
		return err
	}
	for i := int(at.Through.Seq); i < lifeWrites; i++ {
		if err := a.Write(t.Context(), commit(0, uint64(i), uint64(i+1)), hours(messages(i*lifeRows, (i+1)*lifeRows))); err != nil {
			return err
		}
		if i%2 == 1 {
			if err := a.Flush(t.Context()); err != nil {
				return err
			}
		}
	}
	return nil
}

// stepsOfALife counts the calls of a life that goes well.
func stepsOfALife(t *testing.T) int {
	t.Helper()
	counted := &faults{Bucket: inFolder(t)}
	if err := live(t, open(t, config(counted))); err != nil {
		t.Fatal(err)
	}
	return counted.count()
}

// watched calls a reader with a glob after each step: it must never see a row twice.
func watched(t *testing.T, f *faults) *faults {
	t.Helper()
	below, ctx := f.Bucket, context.WithoutCancel(t.Context()) // the last steps come when the test has ended
	f.each = func() {
		rows, err := readAll(ctx, below)
		if err != nil {
			t.Errorf("a reader: %v", err)
		}
		seen := map[string]bool{}
		for i := range rows {
			if seen[rows[i].MessageID] {
				t.Errorf("a reader sees message %s twice", rows[i].MessageID)
			}
			seen[rows[i].MessageID] = true
		}
	}
	return f
}

func TestACrashAtAnyStepLosesNothingAndDoublesNothing(t *testing.T) {
	steps := stepsOfALife(t)
	for at := 1; at <= steps; at++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d of %d, after it: %v", at, steps, after), func(t *testing.T) {
				t.Parallel()
				b := inFolder(t)
				promised := uint64(0)
				a, err := archive.Open(t.Context(), config(watched(t, &faults{Bucket: b, at: at, after: after, dead: true})))
				if err == nil {
					if err = live(t, a); err == nil {
						t.Log("the crash came after the last flush")
					}
					promised = seqOf(a)
					crash(t, a)
				}
				next := open(t, config(watched(t, &faults{Bucket: b})))
				if got := progressOf(t, next, 0); got < promised {
					t.Errorf("progress is %d, and %d was promised", got, promised)
				}
				if err := live(t, next); err != nil {
					t.Fatal(err)
				}
				wantOnce(t, b, 0, lifeWrites*lifeRows)
			})
		}
	}
}

// seqOf returns the progress that a held for durable, without asking the bucket.
func seqOf(a *archive.Archive) uint64 {
	return a.Durable(worker, commit(0, 0, 1).Spans[0].Partition).Through.Seq
}

func TestAnErrorAtAnyStepCostsNothing(t *testing.T) {
	steps := stepsOfALife(t)
	for at := 4; at <= steps; at++ { // the first three are the opening's
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d of %d, after it: %v", at, steps, after), func(t *testing.T) {
				t.Parallel()
				b := inFolder(t)
				a := open(t, config(watched(t, &faults{Bucket: b, at: at, after: after})))
				eventually(t, "all is written", func() bool {
					err := resume(t, a)
					if err != nil && !errors.Is(err, errBroken) {
						t.Errorf("an error that is none of the bucket's: %v", err)
					}
					return err == nil
				})
				wantOnce(t, b, 0, lifeWrites*lifeRows)
			})
		}
	}
}

// resume is live that repeats the write which went wrong, as the worker's loop does.
func resume(t *testing.T, a *archive.Archive) error {
	t.Helper()
	for i := range lifeWrites {
		c := commit(0, uint64(i), uint64(i+1))
		err := a.Write(t.Context(), c, hours(messages(i*lifeRows, (i+1)*lifeRows)))
		if err != nil && !errors.Is(err, store.ErrFenced) { // fenced: it is behind us
			return err
		}
		if i%2 == 1 {
			if err := a.Flush(t.Context()); err != nil {
				return err
			}
		}
	}
	return nil
}

// A replica that hangs at any step of a flush is given up for dead; another takes its partition and goes on; then the first wakes.
func TestAZombieThatWakesAtAnyStepDoublesNothing(t *testing.T) {
	steps := stepsOfALife(t)
	for at := 5; at <= steps; at++ { // after the opening and its first look at the progress
		t.Run(fmt.Sprintf("%d of %d", at, steps), func(t *testing.T) {
			t.Parallel()
			b := inFolder(t)
			sleepy := watched(t, &faults{Bucket: b, holdAt: at, hold: make(chan struct{}), held: make(chan struct{})})
			a := open(t, config(sleepy))
			var woken sync.WaitGroup
			woken.Go(func() {
				if err := live(t, a); err != nil && !errors.Is(err, store.ErrFenced) {
					t.Errorf("the zombie: %v", err)
				}
				_ = a.Flush(t.Context())
			})
			<-sleepy.held
			next := open(t, config(watched(t, &faults{Bucket: b})))
			if err := live(t, next); err != nil {
				t.Error(err)
			}
			early := visible(t, b)
			wantNoneTwice(t, early)
			close(sleepy.hold)
			woken.Wait()
			// What the sleeper had committed and not yet brought to its place comes with it.
			wantOnce(t, b, 0, lifeWrites*lifeRows)
		})
	}
}

func TestWhatACrashedReplicaHadCommittedIsBroughtToItsPlaceByTheNext(t *testing.T) {
	b := inFolder(t)
	broken := &faults{Bucket: b}
	a := open(t, config(broken))
	progressOf(t, a, 0)
	write(t, a, commit(0, 0, 1), hours(messages(0, 30)))
	broken.at, broken.dead = broken.count()+1+2+1+1+1, true // a list, two files, the record, a list, and then the first copy
	if err := a.Flush(t.Context()); !errors.Is(err, errBroken) {
		t.Fatalf("flush: %v", err)
	}
	crash(t, a)
	if n := len(visible(t, b)); n != 0 {
		t.Fatalf("%d rows are visible before any copy", n)
	}
	next := open(t, config(b))
	if at := progressOf(t, next, 0); at != 1 {
		t.Errorf("progress is %d, want 1: the record is there", at)
	}
	wantOnce(t, b, 0, 30)
}
