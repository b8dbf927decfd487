package ingest_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/access"
	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/mqtt"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/ingest"
)

// rig is an edge that runs, with the log behind it.
type rig struct {
	t       testing.TB
	log     *mem.Log
	ingest  *ingest.Ingest
	metrics *prometheus.Registry
	access  string // file of credentials
	addrs   map[string]string
	stop    func() error
}

// setup changes what a rig is made of.
type setup struct {
	cfg     func(*ingest.Config)
	bus     bus.Appender // instead of the rig's log
	mem     mem.Config
	keys    bool
	feed    ingest.Feed
	mounted bool
	now     func() time.Time
}

func start(tb testing.TB, s setup) *rig {
	tb.Helper()
	if s.mem.Partitions == 0 {
		s.mem.Partitions = 4
	}
	if s.now == nil {
		s.now = time.Now
	}
	r := &rig{t: tb, log: mem.New(s.mem), metrics: prometheus.NewRegistry(), addrs: map[string]string{}}
	cfg := ingest.DefaultConfig()
	cfg.MQTT.Addr, cfg.HTTP.Addr = "127.0.0.1:0", "127.0.0.1:0"
	if s.cfg != nil {
		s.cfg(&cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	open := make(chan struct{})
	var once sync.Once
	d := ingest.Deps{
		Bus: r.log, Feed: s.feed, Metrics: r.metrics, Now: s.now, Mounted: s.mounted,
		Log:       slog.New(slog.NewTextHandler(writer{tb}, &slog.HandlerOptions{Level: slog.LevelError})),
		Listening: func(name string, a net.Addr) { r.addrs[name] = a.String() },
		Ready:     func(error) { once.Do(func() { close(open) }) },
	}
	if s.bus != nil {
		d.Bus = s.bus
	}
	if s.keys {
		r.access = filepath.Join(tb.TempDir(), "access.json")
		keys, err := access.Open(ctx, r.access, d.Log, s.now)
		if err != nil {
			tb.Fatal(err)
		}
		d.Access = keys
	}
	var err error
	if r.ingest, err = ingest.New(ctx, cfg, d); err != nil {
		tb.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- r.ingest.Run(ctx) }()
	select {
	case <-open:
	case err := <-ended:
		tb.Fatal(err)
	}
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	tb.Cleanup(func() {
		if err := r.stop(); err != nil {
			tb.Errorf("Run: %v", err)
		}
	})
	return r
}

// writer shows a log in the test's output.
type writer struct{ t testing.TB }

func (w writer) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// key makes a credential and returns its secret once the edge knows it.
func (r *rig) key(req access.Request) (secret string, made access.Credential) {
	r.t.Helper()
	secret, made, err := access.Create(r.access, req, time.Now())
	if err != nil {
		r.t.Fatal(err)
	}
	return secret, made
}

// dial connects; a test that expects a refusal calls mqtt.Dial.
func (r *rig) dial(o mqtt.ClientOptions) *mqtt.Client {
	r.t.Helper()
	if o.Addr == "" {
		o.Addr = r.addrs["mqtt"]
	}
	c, err := mqtt.Dial(context.Background(), o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = c.Close()
		<-c.Done()
	})
	return c
}

// records returns what a topic holds.
func (r *rig) records(topic string) []bus.Record {
	r.t.Helper()
	var all []bus.Record
	for n := range r.log.Partitions(topic) {
		p, err := r.log.Partition(context.Background(), bus.PartitionID{Topic: topic, Number: n})
		if err != nil {
			r.t.Fatal(err)
		}
		end, err := p.End(context.Background())
		if err != nil {
			r.t.Fatal(err)
		}
		if end.IsZero() {
			continue
		}
		for batch, err := range p.After(context.Background(), bus.Start{}) {
			if err != nil {
				r.t.Fatal(err)
			}
			all = append(all, batch.Records...)
			if batch.Last().Compare(end) >= 0 {
				break
			}
		}
	}
	return all
}

func (r *rig) messages(topic string) []telemetry.Message {
	r.t.Helper()
	var all []telemetry.Message
	for _, rec := range r.records(topic) {
		var m telemetry.Message
		if err := telemetry.ParseMessage(rec.Value, &m); err != nil {
			r.t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func (r *rig) letters() []telemetry.DeadLetter {
	r.t.Helper()
	var all []telemetry.DeadLetter
	for _, rec := range r.records(bus.DeadLetters) {
		var d telemetry.DeadLetter
		if err := telemetry.ParseDeadLetter(rec.Value, &d); err != nil {
			r.t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

// values returns "device/channel=value" of what was ingested, by partition and order.
func (r *rig) values() []string {
	r.t.Helper()
	var all []string
	for _, m := range r.messages(bus.Ingested) {
		all = append(all, fmt.Sprintf("%s/%s=%s", m.DeviceID, m.ChannelKey, m.ChannelValue))
	}
	return all
}

// eventually waits for a condition, generously.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			tb.Fatalf("not in a minute: %s", what)
		}
	}
}

// metric returns the sum of a metric over its labels.
func (r *rig) metric(name string) float64 {
	r.t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

func (r *rig) url(path string) string { return "http://" + r.addrs["http"] + path }

// client makes no connections that outlive the test.
func client(tb testing.TB) *http.Client {
	tb.Helper()
	tr := &http.Transport{}
	tb.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}
