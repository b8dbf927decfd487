package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/mqtt"
)

// pressureConfig has the smallest log there is: 16 MiB for a partition of a topic. Devices may flood it: who sends the same body again at once,
// whatever Retry-After says, would be over its rate within seconds on a fast machine.
const pressureConfig = `
bus: {url: %s, synced: true, retention: {bytes: 64MiB}}
workers: [state-projector, history-writer, aggregator, alerting, log-consumer, live]
ingest:
  mqtt: {addr: "127.0.0.1:0"}
  http: {addr: "127.0.0.1:0"}
  limits: {bytes_per_second: 0}
live: {nats: false}
history: {segment_age: 2s}
aggregator: {windows: [{length: 1m}]}
alerting: {rules: [], notify: []}
`

const (
	// goMemory is the soft limit of Go's memory of the edge and the router, and memoryMax what either may take as a whole. What waits for
	// a store is several times as much.
	goMemory  = "96MiB"
	memoryMax = 256 << 20
	fillBody  = 25 // messages of a request
	fillers   = 16 // devices that send at a time, a few for each partition
)

// filler sends large messages that no compression makes smaller, over HTTP, again as long as they are not accepted.
type filler struct {
	base string
	pad  []byte
	n    atomic.Int64 // messages begun, of all senders
	ok   atomic.Int64 // accepted

	stuck      atomic.Int64 // senders whose present request was answered 503
	retryAfter atomic.Value // of the first such answer
	wrong      atomic.Value // an answer that is neither 202 nor 503
}

func newFiller(t *testing.T, base string) *filler {
	t.Helper()
	raw := make([]byte, 64<<10)
	if _, err := rand.Read(raw); err != nil {
		t.Fatal(err)
	}
	return &filler{base: base, pad: []byte(hex.EncodeToString(raw))}
}

// send sends as one device until ctx ends, a request every pause at most, and finishes the one in hand; or until an answer is wrong.
func (f *filler) send(ctx context.Context, device string, pause time.Duration) {
	const size = 8 << 10
	tick := time.NewTicker(max(pause, time.Millisecond))
	defer tick.Stop()
	for ctx.Err() == nil {
		var body bytes.Buffer
		for range fillBody {
			n := f.n.Add(1)
			at := int(n*7919) % (len(f.pad) - size)
			fmt.Fprintf(&body, `{"DeviceId":"fill-%s","MessageId":"%d","n":%d,"pad":"%d%s"}`+"\n", device, n, n, n, f.pad[at:at+size])
		}
		if !f.post(body.Bytes()) && !f.again(body.Bytes(), tick.C) {
			return
		}
		<-tick.C
	}
}

// again repeats a request that was not accepted until it is. It returns false when an answer is wrong.
func (f *filler) again(body []byte, tick <-chan time.Time) bool {
	f.stuck.Add(1)
	defer f.stuck.Add(-1)
	for f.wrong.Load() == nil {
		<-tick
		if f.post(body) {
			return true
		}
	}
	return false
}

func (f *filler) post(body []byte) (accepted bool) {
	resp, err := http.Post(f.base+"/v1/messages", "application/x-ndjson", bytes.NewReader(body))
	if err != nil {
		f.wrong.CompareAndSwap(nil, err.Error())
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(resp.Body)
	switch resp.StatusCode {
	case http.StatusAccepted:
		f.ok.Add(fillBody)
		return true
	case http.StatusServiceUnavailable:
		f.retryAfter.CompareAndSwap(nil, resp.Header.Get("Retry-After"))
	default:
		f.wrong.CompareAndSwap(nil, resp.Status+" "+string(text))
	}
	return false
}

// TestAStoreThatIsDownUnderFullLoad stops the process of the stores in its tracks while the edge is flooded. The log takes what it has room
// for, then the edge refuses: 503 with Retry-After, and no PUBACK. Memory stays within its bound, and the lag that the router tells is
// what the log says. When the stores go on, all is drained faster than it came, and everything that was accepted is there once.
func TestAStoreThatIsDownUnderFullLoad(t *testing.T) {
	dir, config, url := overServer(t, pressureConfig)
	worker := func(name string) *process {
		return start(t, name, []string{"GOMEMLIMIT=" + goMemory}, "--config", config, "--log-format", "json")
	}
	router, edge := worker("router"), worker("ingest")
	stores := run(t, dir, "--config", config)
	f := newFiller(t, "http://"+edge.logged(t, "listening", "protocol", "http"))
	addr := edge.logged(t, "listening", "protocol", "mqtt")
	log := openLog(t, url)

	// Before, a device gets its answers, and all is read.
	c, err := mqtt.Dial(t.Context(), mqtt.ClientOptions{Addr: addr, ClientID: "before", CleanStart: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Publish(t.Context(), "devices/before/channels/n", []byte("1"), 1); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	stores.wantRows(t, "SELECT count(*) FROM device_messages WHERE device_id = 'before'", []string{"1"})

	freeze(t, stores.process)
	ctx, stop := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	for i := range fillers {
		sending.Go(func() { f.send(ctx, strconv.Itoa(i), 0) })
	}
	began := time.Now()
	eventually(t, "the edge refuses what any device sends", func() error {
		if stuck := f.stuck.Load(); stuck < fillers {
			return fmt.Errorf("%d messages accepted, %d devices of %d get 503, %v", f.ok.Load(), stuck, fillers, f.wrong.Load())
		}
		return nil
	})
	held := f.ok.Load()
	t.Logf("%d messages, %d MiB, were accepted in %v before the log was full", held, held*8>>10, time.Since(began).Round(time.Millisecond))
	if after, _ := f.retryAfter.Load().(string); after == "" {
		t.Error("503 without Retry-After")
	}
	wantNoPuback(t, addr)
	wantTrueLag(t, router, log)
	for _, p := range []*process{edge, router} {
		rss := memory(t, p)
		t.Logf("%s takes %d MiB", p.name, rss>>20)
		if rss > memoryMax {
			t.Errorf("%s takes %d MiB, want at most %d", p.name, rss>>20, memoryMax>>20)
		}
	}

	// It comes back, and drains while devices go on at the pace of a fifth of what it was flooded with.
	stop() // of the flood; what is in hand is sent until it is accepted
	ctx, stop = context.WithCancel(t.Context())
	defer stop()
	arrival := time.Since(began) / time.Duration(max(1, held)) * fillBody * 5
	thaw(t, stores.process)
	sending.Go(func() { f.send(ctx, "after", arrival) })
	began = time.Now()
	eventually(t, "the backlog is read", func() error {
		n, err := filled(ctx, stores)
		if err == nil && n < held {
			err = fmt.Errorf("%d of %d", n, held)
		}
		return err
	})
	came := f.ok.Load() - held
	took := time.Since(began)
	t.Logf("drained in %v: %.0f messages/s, while %.0f/s came", took.Round(time.Millisecond), float64(held)/took.Seconds(), float64(came)/took.Seconds())
	stop()
	sending.Wait()
	if wrong := f.wrong.Load(); wrong != nil {
		t.Errorf("the edge answered %v, want 202 or 503", wrong)
	}
	want := strconv.FormatInt(f.ok.Load(), 10)
	stores.wantRows(t, "SELECT count(*), count(DISTINCT value) FROM device_messages WHERE device_id LIKE 'fill-%' AND channel_key = 'n'", []string{want, want})
	stores.wantRows(t, "SELECT count(*) FROM dead_letters", []string{"0"})
}

func filled(ctx context.Context, in *instance) (int64, error) {
	rows, err := in.query(ctx, "SELECT count(*) FROM device_messages WHERE device_id LIKE 'fill-%' AND channel_key = 'n'")
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(rows[0][0], 10, 64)
}

// wantNoPuback publishes to a log that is full: there is no PUBACK; the edge ends the connection, or is silent. A partition may have
// room for one more, so it is asked again until it has not.
func wantNoPuback(t *testing.T, addr string) {
	t.Helper()
	body := make([]byte, 32<<10)
	_, _ = rand.Read(body)
	eventually(t, "a message is not acknowledged", func() error {
		c, err := mqtt.Dial(t.Context(), mqtt.ClientOptions{Addr: addr, ClientID: "refused", CleanStart: true})
		if err != nil {
			return nil // even better
		}
		defer func() { _ = c.Close() }()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := c.Publish(ctx, "devices/refused/channels/n", []byte(hex.EncodeToString(body)), 1); err == nil {
			return errors.New("PUBACK though the log is full")
		}
		return nil
	})
}

// wantTrueLag holds what the router's metrics say against the log itself.
func wantTrueLag(t *testing.T, router *process, log bus.Log) {
	t.Helper()
	address := "http://" + router.logged(t, "serving metrics and health", "", "")
	eventually(t, "the router tells how far it is behind", func() error {
		behind, err := gauge(t.Context(), address, `millrace_worker_behind_records{topic="ingested",worker="router"}`)
		if err != nil {
			return err
		}
		lag, err := gauge(t.Context(), address, `millrace_worker_lag_seconds{topic="ingested",worker="router"}`)
		if err != nil {
			return err
		}
		ends, err := partitionEnds(log, bus.Ingested)(t.Context())
		if err != nil {
			return err
		}
		var all uint64
		for _, end := range ends {
			all += end
		}
		if behind <= 0 || lag <= 0 || behind > float64(all) {
			return fmt.Errorf("it is behind by %v positions and %v s, of %d positions", behind, lag, all)
		}
		t.Logf("the router says that it is behind by %v of %d positions, and %.1f s", behind, all, lag)
		return nil
	})
}

// gauge reads one metric.
func gauge(ctx context.Context, base, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("%s is not there", name)
}

// memory returns how many bytes of memory a process holds.
func memory(t *testing.T, p *process) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Skipf("this system does not tell: %v", err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// freeze stops a process in its tracks until thaw.
func freeze(t *testing.T, p *process) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
}

func thaw(t *testing.T, p *process) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}
