package live_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/services/live"
)

// talk appends numbered values of several devices until stop is called, which returns how many each device has said.
func talk(t *testing.T, f *fixture, devices int) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	said := make(chan int)
	go func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			for d := range devices {
				f.say(t, fmt.Sprintf("dev%d", d), "n", fmt.Sprint(n))
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				said <- n + 1
				return
			}
		}
	}()
	var once sync.Once
	n := 0
	stop = func() int {
		once.Do(func() { cancel(); n = <-said })
		return n
	}
	t.Cleanup(func() { stop() })
	return stop
}

func TestOneOfTwoProcessesEndsAndItsSubscribersGoOnAtTheOther(t *testing.T) {
	const devices = 5
	log := mem.New(mem.Config{Partitions: 2, Now: time.Now})
	one, two := startOn(t, log, nil), startOn(t, log.Open(), nil)
	s := one.follow(t, "?streams=state")
	quiet := talk(t, one, devices)
	next, last := [devices]int{}, ""
	take := func(e sse) {
		t.Helper()
		var d, n int
		at := strings.Index(e.data, `"device_id":"dev`)
		value := strings.Index(e.data, `"channel_value":"`)
		if e.name != "state" || at < 0 || value < 0 {
			t.Fatalf("%+v", e)
		}
		if _, err := fmt.Sscanf(e.data[at:], `"device_id":"dev%d"`, &d); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscanf(e.data[value:], `"channel_value":"%d"`, &n); err != nil {
			t.Fatal(err)
		}
		if n != next[d] {
			t.Fatalf("dev%d: %d came where %d should", d, n, next[d])
		}
		next[d], last = n+1, e.id
	}
	for range 200 {
		e, ok := s.next()
		if !ok {
			t.Fatal("the first stream ended")
		}
		take(e)
	}
	one.stop()
	for e, ok := s.next(); ok; e, ok = s.next() {
		take(e) // what was on its way
	}
	s = two.follow(t, "?streams=state", "Last-Event-ID", last)
	said := 0
	for taken := 0; said == 0 || taken < devices*said; {
		e, ok := s.next()
		if !ok {
			t.Fatal("the second stream ended")
		}
		take(e)
		if next[0] == 500 {
			said = quiet()
		}
		taken = 0
		for _, n := range next {
			taken += n
		}
	}
}

// subjects is what subscribers on NATS get, of all processes that publish.
type subjects struct {
	mu  sync.Mutex
	got map[string]int // how often by subject and value
	by  map[string]int // how many by process
}

func (s *subjects) publisher(process string, group live.Group) func(*live.Config, *live.Deps) {
	return func(_ *live.Config, d *live.Deps) {
		d.Group = group
		d.Publish = func(subject string, data []byte) error {
			_, value, _ := strings.Cut(string(data), `"channel_value":"`)
			value, _, _ = strings.Cut(value, `"`)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.got[subject+" "+value]++
			s.by[process]++
			return nil
		}
	}
}

func (s *subjects) count(process string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.by[process]
}

func TestTwoProcessesPublishEachEventOnceAndOneGoesOnWhereTheOtherHasLeft(t *testing.T) {
	const devices = 5
	log := mem.New(mem.Config{Partitions: 2, Now: time.Now})
	s := &subjects{got: map[string]int{}, by: map[string]int{}}
	one := startOn(t, log, s.publisher("one", log))
	until(t, "the first publishes", func() bool {
		one.say(t, "dev0", "first", "x")
		one.say(t, "dev1", "first", "x")
		return s.count("one") > 0
	})
	again := log.Open()
	two := startOn(t, again, s.publisher("two", again))
	quiet := talk(t, one, devices)
	until(t, "both publish", func() bool {
		before := s.count("one")
		return s.count("two") > 100 && s.count("one") >= before && before > 100
	})
	one.stop()
	before := s.count("two")
	until(t, "the other goes on alone", func() bool { return s.count("two") > before+100 })
	third := log.Open()
	startOn(t, third, s.publisher("three", third))
	until(t, "a third has its part", func() bool { return s.count("three") > 100 })
	said := quiet()
	until(t, "the last is published", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for d := range devices {
			if s.got[fmt.Sprintf("live.state.dev%d.n %d", d, said-1)] == 0 {
				return false
			}
		}
		return true
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := range devices {
		for n := range said {
			if times := s.got[fmt.Sprintf("live.state.dev%d.n %d", d, n)]; times != 1 {
				t.Errorf("number %d of dev%d was published %d times", n, d, times)
			}
		}
	}
	_ = two
}

func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick, deadline := time.NewTicker(5*time.Millisecond), time.After(patience)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// silent is a log whose commits are not written any more, as those of a process that dies before its next one.
type silent struct{ live.Group }

type silentPartition struct{ bus.Partition }

func (silentPartition) Commit(context.Context, bus.Progress) error { return nil }

func (s silent) Subscribe(ctx context.Context, group string, topics []string, own func(context.Context, bus.Share) error) error {
	return s.Group.Subscribe(ctx, group, topics, func(ctx context.Context, share bus.Share) error {
		for i := range share.Partitions {
			share.Partitions[i] = silentPartition{share.Partitions[i]}
		}
		return own(ctx, share)
	})
}

func TestWhatADeadProcessDidNotWriteDownIsPublishedOnceMore(t *testing.T) {
	log := mem.New(mem.Config{Partitions: 1, Now: time.Now})
	s := &subjects{got: map[string]int{}, by: map[string]int{}}
	zero := startOn(t, log, s.publisher("zero", log)) // it writes down where it was
	until(t, "the first publishes", func() bool { zero.say1(t, "first"); return s.count("zero") > 0 })
	zero.stop()
	dead := log.Open()
	one := startOn(t, dead, s.publisher("one", silent{dead}))
	one.say1(t, "twice")
	until(t, "the second publishes", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.got["live.state.dev.n twice"] == 1 })
	one.stop()
	one.say1(t, "meanwhile")
	again := log.Open()
	startOn(t, again, s.publisher("two", again))
	until(t, "the heir publishes", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.got["live.state.dev.n twice"] == 2 && s.got["live.state.dev.n meanwhile"] == 1
	})
}

// say1 is say on a log of one partition.
func (f *fixture) say1(t *testing.T, value string) {
	t.Helper()
	f.sayTo(t, 0, "dev", "n", value)
}
