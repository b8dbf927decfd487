// Package ingest is the worker at the edge: it takes messages from devices over MQTT and HTTP, and appends each to the topic
// ingested before it acknowledges it. What is no message goes to the topic dead-letters, with its bytes and the reason.
//
// It promises: an acknowledged message (PUBACK, PUBCOMP, 202) is on disk; nothing that was sent vanishes without an
// answer, a dead letter or, for QoS 0 on a lost connection, a count. Delivery is at least once: who is not answered sends again.
//
// Devices publish to devices/{deviceId}/messages/events/ (with url-encoded properties behind it, if they like) and
// devices/{deviceId}/channels/{channelKey}; over HTTP they post to /v1/messages and /v1/devices/{deviceId}/messages. Dashboards
// subscribe to live/{stream}/{device}/{channel}; who was too slow is told on live/missed, and in MQTT 5 by a user property
// "missed" of the next message. A device's connections are records of the topic sessions.
//
// New makes it, Run serves its listeners, Handler is its HTTP part for another listener. Start reading at Ingest.Run, then
// internal/pipeline.
package ingest

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/access"
	"github.com/millrace/millrace/pkg/books"
	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/feed"
	"github.com/millrace/millrace/pkg/listen"
	"github.com/millrace/millrace/services/ingest/internal/httpedge"
	"github.com/millrace/millrace/services/ingest/internal/memory"
	"github.com/millrace/millrace/services/ingest/internal/mqttedge"
	"github.com/millrace/millrace/services/ingest/internal/permit"
	"github.com/millrace/millrace/services/ingest/internal/pipeline"
)

// recordSlack is what a record may have beside a message of Limits.MessageBytes: tenant, ids, times.
const recordSlack = 4 << 10

// Feed gives live streams to MQTT subscribers; *feed.Hub is one.
type Feed interface {
	Subscribe(ctx context.Context, filter feed.Filter, after string) (*feed.Subscription, error)
}

// Deps are what an Ingest works with.
type Deps struct {
	Bus     bus.Appender
	Access  *access.Keys // nil: everybody who reaches a listener may send for every device
	Feed    Feed         // nil: nothing can be subscribed to over MQTT
	Metrics prometheus.Registerer
	Log     *slog.Logger
	Now     func() time.Time
	// Ready is told nil when the listeners are open, and why not when they close again; it may be nil.
	Ready func(reason error)
	// Mounted says that Handler is served by somebody else: Config.HTTP.Addr is not listened on.
	Mounted bool
	// Listening, which may be nil, is told of each listener that is open: "mqtt", "mqtts" or "http", and its address.
	Listening func(name string, addr net.Addr)
}

// Ingest is the edge of one process.
type Ingest struct {
	cfg    Config
	deps   Deps
	books  *books.Edge
	writer *bus.Writer
	mqtt   *mqttedge.Edge
	http   *httpedge.Edge
}

// New checks cfg and makes the edge. It opens no listener: Run does. ctx gives values only.
func New(ctx context.Context, cfg Config, d Deps) (*Ingest, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	decoder, err := cfg.decoding().Options()
	if err != nil {
		return nil, err
	}
	m, err := pipeline.NewMetrics(d.Metrics)
	if err != nil {
		return nil, err
	}
	counted := books.NewEdge(d.Bus, rand.Text(), d.Log)
	i := &Ingest{
		cfg: cfg, deps: d, books: counted,
		writer: bus.NewWriter(ctx, counted, bus.WriterConfig{PendingBytesMax: int64(cfg.Limits.Inflight)}),
	}
	lane := pipeline.New(pipeline.Config{
		Tenant: cfg.Tenant, Decoder: decoder, MessageBytesMax: int(cfg.Limits.MessageBytes) + recordSlack,
		Rates: cfg.Limits.rates(),
	}, i.writer, m, d.Log, d.Now)
	gateways := make([]permit.Gateway, 0, len(cfg.Gateways))
	for _, g := range cfg.Gateways {
		gateways = append(gateways, permit.Gateway{Device: g.Device, For: g.For})
	}
	rules, bodies := permit.New(gateways), memory.New(int64(cfg.Limits.BodiesInflight))
	mqttDeps := mqttedge.Deps{
		Pipeline: lane, Counters: m.Of("mqtt"), Permit: rules, Memory: bodies, Metrics: d.Metrics, Log: d.Log, Now: d.Now,
	}
	httpDeps := httpedge.Deps{
		Pipeline: lane, Counters: m.Of("http"), Permit: rules, Memory: bodies, Metrics: d.Metrics, Log: d.Log, Now: d.Now,
	}
	if d.Access != nil { // a nil pointer in an interface is not nil
		mqttDeps.Keys, httpDeps.Keys = d.Access, d.Access
	}
	if d.Feed != nil {
		mqttDeps.Feed = d.Feed
	}
	if i.mqtt, err = mqttedge.New(cfg.mqttEdge(), mqttDeps); err != nil {
		return nil, err
	}
	if i.http, err = httpedge.New(httpedge.Config{
		BodyBytesMax: int64(cfg.Limits.BodyBytes),
		BodyTimeout:  cfg.HTTP.ReadTimeout, AnswerTimeout: cfg.HTTP.AnswerTimeout,
	}, httpDeps); err != nil {
		return nil, err
	}
	return i, nil
}

func (c Config) mqttEdge() mqttedge.Config {
	l := c.Limits
	return mqttedge.Config{
		PacketBytesMax: int(l.MessageBytes), ConnectBytesMax: int(l.ConnectBytes), ConnectTimeout: l.ConnectTimeout,
		PacketTimeout: l.PacketTimeout, WriteTimeout: l.WriteTimeout, KeepAliveMax: c.MQTT.KeepAliveMax, Drain: c.Drain,
		ConnectionsMax: l.Connections, AddressConnectionsMax: l.AddressConnections, DeviceConnectionsMax: l.DeviceConnections,
		HandshakesMax: l.Handshakes, InflightBytesMax: int(l.ConnectionInflight), ReadBufferBytes: int(l.ReadBuffer),
		SessionExpiryMax: c.MQTT.SessionExpiryMax, SessionsMax: l.Sessions,
		SubscriptionsMax: l.Subscriptions, SubscriberInflight: l.SubscriberInflight, Tenant: c.Tenant,
	}
}

// Handler serves POST /v1/messages and POST /v1/devices/{deviceId}/messages. It takes messages from New on until Close; the
// server that it is mounted on sets timeouts for reading and must have ended its requests before Run's context ends.
func (i *Ingest) Handler() http.Handler { return i.http }

// Run opens the listeners and serves until ctx ends; then it takes no more, acknowledges what is under way, and returns nil
// when the log has it all. Errors: a listener cannot be opened, or breaks.
func (i *Ingest) Run(ctx context.Context) error {
	counting, stop := context.WithCancel(context.WithoutCancel(ctx))
	var counter sync.WaitGroup
	counter.Go(func() { i.books.Run(counting) })
	err := i.serve(ctx)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), i.cfg.Drain)
	defer cancel()
	err = errors.Join(err, i.writer.Close(grace))
	stop()
	counter.Wait()
	if unwritten := i.books.Write(grace); unwritten != nil { // no message is lost by it
		i.deps.Log.WarnContext(ctx, "the last account of the books could not be written", "error", unwritten)
	}
	return err
}

func (i *Ingest) serve(ctx context.Context) error {
	open, err := i.listen(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 2) // one for each edge
	go func() { done <- i.mqtt.Serve(ctx, open.mqtt...) }()
	go func() { done <- i.serveHTTP(ctx, open.http) }()
	i.ready(nil)
	first := <-done
	i.ready(errStopped)
	cancel() // one that breaks ends the other
	return errors.Join(first, <-done)
}

var errStopped = errors.New("listeners are closed")

func (i *Ingest) ready(reason error) {
	if i.deps.Ready != nil {
		i.deps.Ready(reason)
	}
}

// serveHTTP serves the edge's own listener; without one it waits for the end.
func (i *Ingest) serveHTTP(ctx context.Context, ln net.Listener) error {
	if ln == nil {
		<-ctx.Done()
		return nil
	}
	const slack = 5 * time.Second // for the answer itself
	metrics, err := listen.NewMetrics(i.deps.Metrics)
	if err != nil {
		return err
	}
	return listen.Server{
		Handler: i.http, ReadTimeout: i.cfg.HTTP.ReadTimeout, WriteTimeout: i.cfg.HTTP.ReadTimeout + i.cfg.HTTP.AnswerTimeout + slack,
		Drain: i.cfg.Drain, Log: i.deps.Log, Metrics: metrics,
	}.Serve(ctx, ln)
}
