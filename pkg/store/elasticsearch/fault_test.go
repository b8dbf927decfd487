package elasticsearch_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/elasticsearch"
	"github.com/millrace/millrace/pkg/store/storetest"
	"github.com/millrace/millrace/pkg/telemetry"
)

// gate is a proxy before the real server that loses one request or one answer, or holds a request back.
type gate struct {
	mu      sync.Mutex
	count   int // changing requests so far
	lose    int // the request that does not arrive; 0 for none
	mute    int // the request whose answer does not arrive
	hold    int // the request that waits for release
	held    chan struct{}
	release chan struct{}
	bodyMax int64 // of a request, if not 0
}

func (g *gate) set(f func(g *gate)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count, g.lose, g.mute, g.hold = 0, 0, 0, 0
	f(g)
}

// changes reports whether a request changes anything.
func changes(r *http.Request) bool {
	return r.Method == http.MethodPut || strings.HasSuffix(r.URL.Path, "/_bulk")
}

func (g *gate) before(r *http.Request) (lose, mute, hold bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !changes(r) {
		return false, false, false
	}
	g.count++
	return g.count == g.lose, g.count == g.mute, g.count == g.hold
}

// through returns a configuration that goes through a gate.
func (s *site) through(t *testing.T) (*gate, elasticsearch.Config) {
	t.Helper()
	to, err := url.Parse(s.cfg.URL)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{held: make(chan struct{}), release: make(chan struct{})}
	proxy := httputil.NewSingleHostReverseProxy(to)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lose, mute, hold := g.before(r)
		switch {
		case g.bodyMax > 0 && r.ContentLength > g.bodyMax:
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			return
		case lose:
			panic(http.ErrAbortHandler)
		case hold:
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(strings.NewReader(string(body)))
			g.held <- struct{}{}
			<-g.release
		}
		if mute {
			proxy.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	cfg := s.cfg
	cfg.URL = server.URL
	return g, cfg
}

func openWith(t *testing.T, cfg elasticsearch.Config) *elasticsearch.DB {
	t.Helper()
	db, err := elasticsearch.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func spanOf(number, after, through int) store.Span {
	s := store.Span{
		Partition: bus.PartitionID{Topic: "telemetry", Number: number},
		Through:   bus.Progress{Through: bus.Position{Seq: uint64(through)}},
	}
	if after > 0 {
		s.After = bus.Position{Seq: uint64(after)}
	}
	return s
}

func commitOf(worker string, number, after, through int) store.Commit {
	return store.Commit{Worker: worker, Spans: []store.Span{spanOf(number, after, through)}}
}

// countingWindow is what the aggregator does: it reads a window's state, adds to it, and writes it.
func correct(ctx context.Context, db *elasticsearch.DB, step int) error {
	key := store.WindowKey{Tenant: "default", DeviceID: "d", ChannelKey: "c", WindowStart: 1e18, WindowLength: 1e10}
	rows, err := db.Aggregates().Windows(ctx, []store.WindowKey{key})
	if err != nil {
		return err
	}
	r := rows[0]
	if string(r.State) != fmt.Sprint(r.Count) && r.Count > 0 {
		return fmt.Errorf("the state is %q beside count %d", r.State, r.Count)
	}
	r.Tenant, r.DeviceID, r.ChannelKey, r.WindowStart, r.WindowLength, r.Final = key.Tenant, key.DeviceID, key.ChannelKey, key.WindowStart, key.WindowLength, true
	r.Count++
	r.Revision++
	r.State, r.StateUntil = fmt.Append(nil, r.Count), 2e18
	c := commitOf("aggregator", 0, step, step+1)
	c.Task, c.Checkpoint = "0", fmt.Append(nil, step+1)
	return db.Aggregates().Write(ctx, c, []store.AggregateRow{r})
}

// TestACorrectionCountsOnceWhereverACrashCameBetween lets each request of a commit be lost in turn, or its answer, kills the
// process there, and goes on as a worker does: from the progress that is stored.
func TestACorrectionCountsOnceWhereverACrashCameBetween(t *testing.T) {
	s := newSite(t, open)
	g, cfg := s.through(t)
	done := 0
	for _, way := range []string{"request", "answer"} {
		for k := 1; ; k++ {
			g.set(func(g *gate) {
				if way == "request" {
					g.lose = k
				} else {
					g.mute = k
				}
			})
			doomed := openWith(t, cfg)
			err := correct(t.Context(), doomed, done)
			g.mu.Lock()
			whole := g.count < k // nothing was lost: the commit has fewer requests
			g.mu.Unlock()
			g.set(func(*gate) {})
			next := openWith(t, s.cfg)
			p, _, errP := next.Aggregates().Progress(t.Context(), "aggregator", spanOf(0, 0, 0).Partition)
			if errP != nil {
				t.Fatal(errP)
			}
			switch int(p.Through.Seq) {
			case done:
				if err == nil {
					t.Fatalf("%s %d lost: the write was acknowledged and is not there", way, k)
				}
				if err := correct(t.Context(), next, done); err != nil {
					t.Fatalf("%s %d lost: %v", way, k, err)
				}
			case done + 1:
			default:
				t.Fatalf("%s %d lost: progress is %v after %d", way, k, p.Through, done)
			}
			done++
			wantWindow(t, next, done, fmt.Sprintf("%s %d lost", way, k))
			if whole {
				break
			}
		}
	}
	if done < 8 {
		t.Errorf("only %d commits, want one for each request and each answer", done)
	}
}

func wantWindow(t *testing.T, db *elasticsearch.DB, count int, when string) {
	t.Helper()
	rows, err := db.Aggregates().Windows(t.Context(), []store.WindowKey{{Tenant: "default", DeviceID: "d", ChannelKey: "c", WindowStart: 1e18, WindowLength: 1e10}})
	if err != nil {
		t.Fatal(err)
	}
	if int(rows[0].Count) != count || string(rows[0].State) != fmt.Sprint(count) {
		t.Errorf("%s: the window counts %d with state %q, want %d", when, rows[0].Count, rows[0].State, count)
	}
	state, ok, err := db.Aggregates().Checkpoint(t.Context(), "aggregator", "0")
	if err != nil || !ok || string(state) != fmt.Sprint(count) {
		t.Errorf("%s: the checkpoint is %q (%v, %v), want %d", when, state, ok, err, count)
	}
}

// TestAZombieChangesNothing holds a write back at each of its requests, lets the next owner write meanwhile, and then lets go.
func TestAZombieChangesNothing(t *testing.T) {
	s := newSite(t, open)
	g, cfg := s.through(t)
	done := 0
	for k := 1; k <= 4; k++ { // parcels, mark, rows, what is deleted after
		g.set(func(g *gate) { g.hold = k })
		zombie := openWith(t, cfg)
		result := make(chan error, 1)
		go func() { result <- correct(context.WithoutCancel(t.Context()), zombie, done) }()
		select {
		case <-g.held:
		case err := <-result:
			t.Fatalf("request %d was never made: %v", k, err)
		}
		next := openWith(t, s.cfg)
		p, _, err := next.Aggregates().Progress(t.Context(), "aggregator", spanOf(0, 0, 0).Partition)
		if err != nil {
			t.Fatal(err)
		}
		counted := int(p.Through.Seq)
		for i := range 2 {
			if err := correct(t.Context(), next, counted+i); err != nil {
				t.Fatal(err)
			}
		}
		g.release <- struct{}{}
		err = <-result
		if counted == done && !errors.Is(err, store.ErrFenced) {
			t.Errorf("held at request %d: the zombie's write is %v, want ErrFenced", k, err)
		}
		done = counted + 2
		wantWindow(t, next, done, fmt.Sprintf("zombie held at request %d", k))
	}
}

// writeAsAWorker writes state, and tries again what fails: an index that was just made has no shard for a moment on a busy machine.
func writeAsAWorker(t *testing.T, db *elasticsearch.DB, commit store.Commit, rows []store.MessageRow) {
	t.Helper()
	const tries, wait = 50, 200 * time.Millisecond
	var err error
	for range tries {
		if err = db.State().Write(t.Context(), commit, rows); err == nil {
			return
		}
		t.Log(err)
		select {
		case <-time.After(wait):
		case <-t.Context().Done():
		}
	}
	t.Error(err)
}

// TestLatestStateWhoeverWrites lets processes write the same channels at once, with few event times, so that most are ties.
func TestLatestStateWhoeverWrites(t *testing.T) {
	s := newSite(t, open)
	const processes, writes, channels, each = 3, 12, 5, 8
	var mu sync.Mutex
	latest := make(map[string]store.MessageRow)
	var wg sync.WaitGroup
	for p := range processes {
		db := s.open(t)
		chance := rand.New(rand.NewPCG(7, uint64(p)))
		wg.Go(func() {
			for w := range writes {
				rows := make([]store.MessageRow, each)
				for i := range rows {
					m := storetest.Message(1)
					m.ChannelKey = fmt.Sprint(chance.IntN(channels))
					m.EventTime = 1e18 + telemetry.Time(w/3) + telemetry.Time(chance.IntN(2))
					m.IngestTime = m.EventTime
					m.Origin = bus.Origin{Partition: int32(chance.IntN(3)), Position: bus.Position{Seq: chance.Uint64N(1000), Index: uint32(p)}}
					m.MessageID = fmt.Sprint(p, w, i)
					rows[i] = m
				}
				mu.Lock()
				for _, m := range rows {
					if have, ok := latest[m.ChannelKey]; !ok || later(m, have) {
						latest[m.ChannelKey] = m
					}
				}
				mu.Unlock()
				writeAsAWorker(t, db, commitOf(fmt.Sprint("worker-", p), 0, w, w+1), rows)
			}
		})
	}
	wg.Wait()
	for _, got := range readStates(t, s.open(t)) {
		want := latest[got.ChannelKey]
		if got.EventTime != want.EventTime || got.Origin != want.Origin {
			t.Errorf("channel %s is %v %v, want %v %v", got.ChannelKey, got.EventTime, got.Origin, want.EventTime, want.Origin)
		}
		delete(latest, got.ChannelKey)
	}
	if len(latest) > 0 {
		t.Errorf("%d channels are missing", len(latest))
	}
}

// later orders two rows of one channel; two with the same origin cannot be told apart, and the first stays.
func later(a, b store.MessageRow) bool {
	if a.EventTime != b.EventTime {
		return a.EventTime > b.EventTime
	}
	if a.Origin.Partition != b.Origin.Partition {
		return a.Origin.Partition > b.Origin.Partition
	}
	return a.Origin.Compare(b.Origin.Position) > 0
}

func TestARequestTooLargeForAProxyIsCut(t *testing.T) {
	s := newSite(t, open)
	g, cfg := s.through(t)
	g.bodyMax = 20_000
	db := openWith(t, cfg)
	rows := make([]store.MessageRow, 500)
	for i := range rows {
		rows[i] = storetest.LogLine(i)
	}
	if err := db.Logs().Write(t.Context(), commitOf("w", 0, 0, 1), rows); err != nil {
		t.Fatal(err)
	}
	if got := len(readLogs(t, s.open(t))); got != len(rows) {
		t.Errorf("%d rows, want %d", got, len(rows))
	}
	rows[3].Text = strings.Repeat("x", 30_000)
	rows[3].Origin.Seq += 1000
	err := db.Logs().Write(t.Context(), commitOf("w", 0, 1, 2), rows)
	var refused *store.Refused
	if !errors.As(err, &refused) || len(refused.Rows) != 1 || refused.Rows[0] != 3 {
		t.Errorf("a row that is too large by itself: %v, want it refused", err)
	}
}

func TestAWriteWhoseAnswerIsLostIsRepeatedHarmlessly(t *testing.T) {
	s := newSite(t, open)
	g, cfg := s.through(t)
	cfg.RequestBytes = 4000 // several requests
	for k := 1; k <= 6; k++ {
		rows := make([]store.MessageRow, 60)
		for i := range rows {
			rows[i] = storetest.LogLine(k*100 + i)
		}
		g.set(func(g *gate) { g.mute = k })
		db := openWith(t, cfg)
		c := commitOf("w", 0, k-1, k)
		deadline := time.Now().Add(time.Minute)
		for err := errors.New("first"); err != nil; {
			if err = db.Logs().Write(t.Context(), c, rows); err != nil && time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
		g.set(func(*gate) {})
		if got := len(readLogs(t, db)); got != k*len(rows) {
			t.Fatalf("%d rows after %d writes, want %d", got, k, k*len(rows))
		}
	}
}
