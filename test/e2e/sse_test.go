package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// stream is one subscription to server-sent events.
type stream struct {
	lines *bufio.Scanner
	close context.CancelFunc
}

type sse struct{ name, id, data string }

// subscribe opens the state stream, after the event with the given id where it is not empty, for as long as patience.
func subscribe(t *testing.T, in *instance, after string) *stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, in.http+"/v1/live?streams=state", nil)
	if err != nil {
		t.Fatal(err)
	}
	if after != "" {
		req.Header.Set("Last-Event-ID", after)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("subscribe: %s", resp.Status)
	}
	return &stream{lines: bufio.NewScanner(resp.Body), close: cancel}
}

// next waits for an event.
func (s *stream) next(t *testing.T) sse {
	t.Helper()
	var e sse
	for s.lines.Scan() {
		field, value, _ := strings.Cut(s.lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			e.name = value
		case "id":
			e.id = value
		case "data":
			e.data += value
		case "":
			if e.data != "" {
				return e
			}
			e = sse{}
		}
	}
	t.Fatalf("the stream ended: %v", s.lines.Err())
	return e
}

// follower follows the state stream on one replica of live after the other, as a dashboard does behind a load balancer.
type follower struct {
	mu     sync.Mutex
	seen   map[string]int // how often each message came, by "device/number"
	missed bool
	moves  int
	done   chan struct{}
	stop   context.CancelFunc
}

// follow begins on replica 0. Whenever a stream ends it goes on at the other replica, from the last event that it saw.
func follow(t *testing.T, d *deployment) *follower {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	f := &follower{seen: map[string]int{}, done: make(chan struct{}), stop: stop}
	ready := make(chan struct{})
	go func() {
		defer close(f.done)
		after, began := "", sync.OnceFunc(func() { close(ready) })
		for i := 0; ctx.Err() == nil; i = 1 - i {
			after = f.read(ctx, d.live(i), after, began)
			f.mu.Lock()
			f.moves++
			f.mu.Unlock()
		}
	}()
	t.Cleanup(stop)
	<-ready
	return f
}

// read follows one replica until the stream ends, and returns the id to go on from.
func (f *follower) read(ctx context.Context, in *instance, after string, began func()) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, in.http+"/v1/live?streams=state&channel=n", nil)
	if err != nil {
		return after
	}
	if after != "" {
		req.Header.Set("Last-Event-ID", after)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		pause(ctx)
		return after
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		pause(ctx)
		return after
	}
	lines := bufio.NewScanner(resp.Body)
	var name, id, data string
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			name = value
		case "id":
			id = value
			began()
		case "data":
			data = value
		case "": // what was cut off before it does not count
			if data != "" {
				f.take(name, data)
			}
			if id != "" {
				after = id
			}
			name, data = "", ""
		}
	}
	return after
}

// pause waits a little before a replica that does not answer is asked again.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(100 * time.Millisecond):
	}
}

func (f *follower) take(name, data string) {
	var e struct {
		Device string  `json:"device_id"`
		Value  float64 `json:"value"`
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case name == "missed":
		f.missed = true
	case json.Unmarshal([]byte(data), &e) == nil:
		f.seen[e.Device+"/"+strconv.Itoa(int(e.Value))]++
	}
}

// check waits until every acknowledged message has come, and finds none that came twice.
func (f *follower) check(t *testing.T, devices []*ledgerDevice) {
	t.Helper()
	eventually(t, "the follower has seen every message", func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, d := range devices {
			for n := range d.count() {
				if f.seen[d.id+"/"+strconv.Itoa(n)] == 0 {
					return fmt.Errorf("%s/%d has not come", d.id, n)
				}
			}
		}
		return nil
	})
	f.stop()
	<-f.done
	if f.missed || f.moves < 2 {
		t.Errorf("events were missed: %t; the follower moved %d times", f.missed, f.moves)
	}
	twice := 0
	for _, n := range f.seen {
		twice += n - 1
	}
	if twice > 0 {
		t.Errorf("%d events came twice", twice)
	}
}
