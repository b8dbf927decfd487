package standalone

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// lines gathers a log. Safe for concurrent use.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestAWorkerThatFailsIsStartedAgain(t *testing.T) {
	for name, fail := range map[string]func() error{
		"an error": func() error { return errors.New("the store is gone") },
		"a panic":  func() error { panic("the store is gone") },
		"no error": func() error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				said := &lines{}
				g := &group{log: slog.New(slog.NewTextHandler(said, nil)), now: time.Now}
				runs, other := 0, 0
				down := map[string]error{}
				g.ended = func(name string, err error) {
					said.mu.Lock() // of the test's things
					defer said.mu.Unlock()
					if down[name] = err; err == nil {
						delete(down, name)
					}
				}
				g.start(ctx, []unit{
					{"broken", func(ctx context.Context) error {
						if runs++; runs <= 3 {
							return fail()
						}
						<-ctx.Done()
						return nil
					}},
					{"other", func(ctx context.Context) error {
						other++
						<-ctx.Done()
						return nil
					}},
				})
				synctest.Wait()
				if len(down) != 1 || down["broken"] == nil {
					t.Errorf("down are %v, want the broken one until it runs again", down)
				}
				<-time.After(time.Minute) // of the bubble
				synctest.Wait()
				if len(down) != 0 {
					t.Errorf("down are %v though all run", down)
				}
				if runs != 4 || other != 1 {
					t.Errorf("%d and %d runs, want 4 and 1", runs, other)
				}
				stop()
				g.wait()
				if got := strings.Count(said.String(), "starting it again"); got != 3 || !strings.Contains(said.String(), "worker=broken") {
					t.Errorf("said %d times, want 3:\n%s", got, said)
				}
			})
		})
	}
}

func TestAPanicIsToldWithItsStack(t *testing.T) {
	err := safely(t.Context(), unit{"u", func(context.Context) error { panicsHere(); return nil }})
	if err == nil || !strings.Contains(err.Error(), "panic: oops") || !strings.Contains(err.Error(), "panicsHere") {
		t.Errorf("%v, want the panic and where it was", err)
	}
}

func panicsHere() { panic("oops") }

func TestAWorkerThatRanForLongIsStartedAgainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		g := &group{log: slog.New(slog.DiscardHandler), now: time.Now}
		var pauses []time.Duration
		ended := time.Now()
		runs := 0
		g.start(ctx, []unit{{"u", func(context.Context) error {
			pauses = append(pauses, time.Since(ended))
			if runs++; runs > 20 { // by then the pause is at its longest
				<-time.After(time.Hour)
			}
			ended = time.Now()
			return errors.New("no")
		}}})
		<-time.After(6 * time.Hour)
		stop()
		g.wait()
		if longest := pauses[20]; longest < 10*time.Second || longest > pauseMax*2 {
			t.Errorf("after 20 failures the pause was %v", longest)
		}
		if last := pauses[len(pauses)-1]; last > time.Second {
			t.Errorf("after an hour of work the pause was %v", last)
		}
	})
}

func TestTheEndDoesNotWaitForAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		g := &group{log: slog.New(slog.DiscardHandler), now: time.Now}
		g.start(ctx, []unit{{"u", func(context.Context) error { return errors.New("no") }}})
		synctest.Wait()
		began := time.Now()
		stop()
		g.wait()
		if took := time.Since(began); took > 0 {
			t.Errorf("took %v", took)
		}
	})
}
