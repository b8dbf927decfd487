package ingest_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/mqtt"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/ingest"
)

// A small log whose reader stands still fills up; then HTTP gets 503 with Retry-After, PUBACK is withheld, and each MQTT connection
// ends a second later, with 0x89 in MQTT 5. Memory stays as it is however long that lasts, and when the reader goes on so do the devices:
// what they were told is there, once for each time that they sent it.
func TestAFullLogRefusesUntilThereIsRoomAgain(t *testing.T) {
	const group, room = "slow", 1 << 20
	r := start(t, setup{
		mem: mem.Config{Partitions: 2, BytesMax: room, Readers: map[string][]string{bus.Ingested: {group}}},
		cfg: func(c *ingest.Config) { c.Limits.Inflight, c.Limits.BodiesInflight = 2<<20, 4<<20 },
	})
	fleet := newFleet(t, r)
	eventually(t, "both protocols are refused", func() bool {
		return fleet.unavailable.Load() > 50 && fleet.cut.Load() > 6
	})
	acked := fleet.acked.Load()
	heap := heapInUse()
	refused := fleet.unavailable.Load()
	eventually(t, "they go on asking", func() bool { return fleet.unavailable.Load() > refused+200 })
	if got := fleet.acked.Load(); got > acked+20 { // a last message that just fits
		t.Errorf("%d messages were acknowledged by a log that is full", got-acked)
	}
	if grown := heapInUse() - heap; grown > 32<<20 {
		t.Errorf("the heap has grown by %d MiB while the log was full", grown>>20)
	}
	if r.metric("millrace_ingest_http_unavailable_total") < 50 || r.metric("millrace_ingest_failed_records_total") < 50 {
		t.Error("refusals are not counted")
	}

	ctx, cancel := context.WithCancel(t.Context())
	read := r.readOn(ctx, t, group)
	acked = fleet.acked.Load()
	eventually(t, "the devices go on", func() bool { return fleet.acked.Load() > acked+200 })
	fleet.stop()
	eventually(t, "everything that was acknowledged is on the log", func() bool { return read.missing(fleet.sent()) == "" })
	cancel()
	<-read.done
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

// fleet is devices of both protocols, each of which sends numbered messages and counts up when one is acknowledged.
type fleet struct {
	acked, unavailable, cut atomic.Int64
	stop                    func()

	mu    sync.Mutex
	known []string // "device value", acknowledged
}

func newFleet(t *testing.T, r *rig) *fleet {
	t.Helper()
	f := &fleet{}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for n := range 6 {
		group.Go(func() { f.http(ctx, t, r, fmt.Sprint("h", n)) })
		group.Go(func() { f.mqtt(ctx, r, fmt.Sprint("m", n), []mqtt.Version{mqtt.Version311, mqtt.Version5}[n%2]) })
	}
	f.stop = sync.OnceFunc(func() {
		cancel()
		group.Wait()
	})
	t.Cleanup(f.stop)
	return f
}

func (f *fleet) took(device string, n int) {
	f.acked.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known = append(f.known, fmt.Sprint(device, " ", n))
}

func (f *fleet) sent() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.known...)
}

func (f *fleet) http(ctx context.Context, t *testing.T, r *rig, device string) {
	t.Helper()
	web, pad := client(t), strings.Repeat("x", 2000)
	for n := 0; ctx.Err() == nil; {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url("/v1/devices/"+device+"/messages"),
			strings.NewReader(fmt.Sprintf(`{"n":%d,"pad":%q}`, n, pad)))
		if err != nil {
			t.Error(err)
			return
		}
		res, err := web.Do(req)
		if err != nil {
			continue
		}
		_ = res.Body.Close()
		switch {
		case res.StatusCode == http.StatusAccepted:
			f.took(device, n)
			n++
		case res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "":
			t.Errorf("answered %d, Retry-After %q", res.StatusCode, res.Header.Get("Retry-After"))
			return
		default:
			f.unavailable.Add(1)
		}
	}
}

func (f *fleet) mqtt(ctx context.Context, r *rig, device string, v mqtt.Version) {
	for n := 0; ctx.Err() == nil; {
		c, err := mqtt.Dial(ctx, mqtt.ClientOptions{Addr: r.addrs["mqtt"], Version: v, ClientID: device, CleanStart: true})
		if err != nil {
			continue
		}
		for ctx.Err() == nil {
			if err := c.Publish(ctx, "devices/"+device+"/channels/n", fmt.Append(nil, n), 1); err != nil {
				f.cut.Add(1)
				break
			}
			f.took(device, n)
			n++
		}
		_ = c.Close()
		<-c.Done()
	}
}

// reading is a group that reads and commits.
type reading struct {
	done chan struct{}
	mu   sync.Mutex
	seen map[string]bool // "device value"
}

// missing returns one of these messages that was not read, or "".
func (g *reading) missing(messages []string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range messages {
		if !g.seen[m] {
			return m
		}
	}
	return ""
}

// readOn lets the group read and commit, so that the log is trimmed.
func (r *rig) readOn(ctx context.Context, t *testing.T, group string) *reading {
	t.Helper()
	g := &reading{done: make(chan struct{}), seen: map[string]bool{}}
	go func() {
		defer close(g.done)
		err := r.log.Subscribe(ctx, group, []string{bus.Ingested}, func(ctx context.Context, s bus.Share) error {
			p := s.Partitions[0]
			for batch, err := range p.After(ctx, bus.Start{}) {
				if err != nil {
					return err
				}
				if err := g.take(batch.Records); err != nil {
					return err
				}
				if err := p.Commit(ctx, bus.Progress{Through: batch.Last()}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil && ctx.Err() == nil {
			t.Errorf("read the log: %v", err)
		}
	}()
	return g
}

func (g *reading) take(recs []bus.Record) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, rec := range recs {
		var m telemetry.Message
		if err := telemetry.ParseMessage(rec.Value, &m); err != nil {
			return err
		}
		g.seen[m.DeviceID+" "+string(m.ChannelValue)] = true
	}
	return nil
}
