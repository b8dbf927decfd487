package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/mqtt"
	"github.com/millrace/millrace/services/ingest"
)

// sluggish is a log that needs some time for every append and keeps nothing, so that a flood is more than it takes.
type sluggish struct {
	null
	every time.Duration
	bytes atomic.Int64
}

func (s *sluggish) Append(ctx context.Context, _ bus.PartitionID, recs []bus.Record) error {
	for i := range recs {
		s.bytes.Add(int64(len(recs[i].Value)))
	}
	t := time.NewTimer(s.every)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

const honestDevices = 50

// One device floods over both protocols, by all ways there are; fifty others send a message now and then.
func TestOneDeviceThatFloodsStarvesNobody(t *testing.T) {
	const quick = 4 * time.Millisecond
	for _, tt := range []struct {
		name   string
		every  time.Duration // that the log needs for an append
		limits func(*ingest.Limits)
		over   []string // quotas by which the flood is refused or slowed
	}{
		{"held to its messages", quick, func(l *ingest.Limits) { l.MessagesPerSecond, l.MessagesBurst = 500, 500 }, []string{"device_messages"}},
		{"held to its bytes", quick, func(l *ingest.Limits) { l.BytesPerSecond, l.BytesBurst = 100_000, 100_000 }, []string{"device_bytes"}},
		{"held to the tenant's messages", quick, func(l *ingest.Limits) { l.TenantMessages = 1000 }, []string{"tenant_messages"}},
		// In the order in which they come, a message would wait for the 16 MiB before it: 1.6 s.
		{"held to nothing but its turn", 50 * time.Millisecond, func(l *ingest.Limits) { l.MessagesPerSecond, l.BytesPerSecond = 0, 0 }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			log := &sluggish{null: null{2}, every: tt.every}
			r := start(t, setup{bus: log, cfg: func(c *ingest.Config) {
				c.Limits.Inflight = 16 << 20
				tt.limits(&c.Limits)
			}})
			alone, ended := r.honest(t), time.Now().Unix()
			stop := r.flood(t)
			eventually(t, "the flood is on", func() bool {
				return r.metric("millrace_ingest_over_quota_total") > 0 || len(tt.over) == 0 && log.bytes.Load() > 8<<20
			})
			eventually(t, "another second has begun, with a share of the tenant's for each", func() bool { return time.Now().Unix() > ended })
			flooded := r.honest(t)
			stop()
			t.Logf("acknowledged alone within %v (median) and %v (99 of 100), under the flood within %v and %v",
				alone[len(alone)/2], alone[len(alone)*99/100], flooded[len(flooded)/2], flooded[len(flooded)*99/100])
			// A busy machine is slow without a flood, too.
			if most, normal := flooded[len(flooded)*99/100], alone[len(alone)*99/100]; most > 2*time.Second+5*normal {
				t.Errorf("of a hundred honest messages one waited %v; without the flood %v", most, normal)
			}
			r.checkQuotas(tt.over)
		})
	}
}

// checkQuotas checks that the flood was counted, by these quotas and no more labels than there are.
func (r *rig) checkQuotas(want []string) {
	r.t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	counted := map[string]bool{}
	for _, f := range families {
		if f.GetName() != "millrace_ingest_over_quota_total" {
			continue
		}
		if n := len(f.GetMetric()); n > 16 {
			r.t.Errorf("%d series, want at most 16", n)
		}
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if m.GetCounter().GetValue() > 0 {
				counted[labels["quota"]+" "+labels["protocol"]+" "+labels["action"]] = true
			}
		}
	}
	for _, quota := range want {
		for _, how := range []string{"http refused", "mqtt refused", "mqtt slowed"} {
			if !counted[quota+" "+how] {
				r.t.Errorf("nothing counts %s %s; counted: %v", quota, how, counted)
			}
		}
	}
	if len(want) == 0 && len(counted) > 0 {
		r.t.Errorf("%v without a quota", counted)
	}
}

// flood sends as one device, as fast as it may, over MQTT 5 with and 3.1.1 without heed of refusals, QoS 0, and HTTP.
func (r *rig) flood(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	body := []byte(strings.Repeat("x", 1000))
	for i, o := range []mqtt.ClientOptions{{Version: mqtt.Version5}, {Version: mqtt.Version5}, {Version: mqtt.Version311}, {Version: mqtt.Version311}} {
		o.Addr, o.ClientID, o.MaxInflight = r.addrs["mqtt"], fmt.Sprint("flood", i), 10_000
		c, err := mqtt.Dial(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		group.Go(func() {
			for ctx.Err() == nil && c.PublishAsync("devices/flood/channels/n", body, byte(1-i%2), nil, nil) == nil {
			}
		})
		group.Go(func() {
			<-ctx.Done()
			_ = c.Close()
			<-c.Done()
		})
	}
	many := strings.Repeat(`{"n":"`+strings.Repeat("x", 1000)+"\"}\n", 200)
	web := client(t)
	for range 4 {
		group.Go(func() {
			for ctx.Err() == nil {
				if status, err := post(ctx, web, r.url("/v1/devices/flood/messages"), many); err == nil && status != 202 && status != 429 && status != 503 {
					t.Errorf("the flood was answered %d", status)
					return
				}
			}
		})
	}
	return func() {
		cancel()
		group.Wait()
	}
}

func post(ctx context.Context, web *http.Client, url, body string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	res, err := web.Do(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, errors.Join(err, res.Body.Close())
}

// honest lets fifty devices send ten messages each, half of them over HTTP, and returns how long each took to be acknowledged,
// sorted. One that is not is a fault.
func (r *rig) honest(t *testing.T) []time.Duration {
	t.Helper()
	const each = 10
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	web := client(t)
	var mu sync.Mutex
	var took []time.Duration
	var group sync.WaitGroup
	for n := range honestDevices {
		group.Go(func() {
			send, done := r.sender(ctx, t, web, n)
			defer done()
			for range each {
				began := time.Now()
				if err := send(); err != nil {
					t.Errorf("device %d, after %v: %v", n, time.Since(began), err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if len(took) != honestDevices*each {
		t.Fatalf("%d of %d honest messages were acknowledged", len(took), honestDevices*each)
	}
	slices.Sort(took)
	return took
}

// sender returns what sends one message of a device and waits for its acknowledgement.
func (r *rig) sender(ctx context.Context, t *testing.T, web *http.Client, n int) (send func() error, done func()) {
	t.Helper()
	if n%2 == 0 {
		return func() error {
			status, err := post(ctx, web, r.url(fmt.Sprintf("/v1/devices/honest%d/messages", n)), `{"n":1}`)
			if err == nil && status != http.StatusAccepted {
				err = fmt.Errorf("answered %d", status)
			}
			return err
		}, func() {}
	}
	c, err := mqtt.Dial(ctx, mqtt.ClientOptions{Addr: r.addrs["mqtt"], ClientID: fmt.Sprint("honest", n), CleanStart: true})
	if err != nil {
		return func() error { return err }, func() {}
	}
	return func() error { return c.Publish(ctx, fmt.Sprintf("devices/honest%d/channels/n", n), []byte("1"), 1) },
		func() { _ = c.Close(); <-c.Done() }
}
