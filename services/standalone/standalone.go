package standalone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/millrace/millrace/pkg/listen"
	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/pkg/worker"
	"github.com/millrace/millrace/services/standalone/internal/demo"
)

// Options are what a run has beyond its configuration.
type Options struct {
	Demo     bool      // let a simulated house and plant send
	Out      io.Writer // takes what people read: where everything listens, and the status line
	Terminal bool      // Out is a terminal, so the status line may move in place
}

// How long the steps of a drain may take: first the senders are let go, then the workers get to the end of what is on the
// log, as far as that is quick; whatever is left stays there.
const (
	postsDrain  = 5 * time.Second
	httpDrain   = 2 * time.Second // of streams: they come back by themselves
	settleMax   = 5 * time.Second
	settleQuiet = 200 * time.Millisecond // nobody has taken anything
	settleEvery = 20 * time.Millisecond
)

// Run runs the workers that cfg names until ctx ends, then drains: it stops taking messages, lets the workers catch up,
// closes the stores and the log, and returns nil. A listener that cannot be opened ends it with an error; a worker
// that fails is started again.
func Run(ctx context.Context, cfg Config, p *service.Process, o Options) (err error) {
	for _, gate := range cfg.gates() {
		p.Health.Set(gate, service.ErrStarting)
	}
	// What is shared lives until the workers have drained, which is after ctx has ended.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	pl, err := open(life, cfg, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pl.close()) }()
	return pl.run(ctx, life, o)
}

// gates are what must be open before messages are taken.
func (c *Config) gates() []string {
	gates := []string{"http"}
	for _, w := range []string{"ingest", "live"} {
		if c.runs(w) {
			gates = append(gates, w)
		}
	}
	return gates
}

func (p *plant) run(ctx, life context.Context, o Options) error {
	Endpoints{}.remove(p.cfg.Data) // of an instance that was killed: who waits for the file waits for this one
	f, err := p.newFront(life)
	if err != nil {
		return err
	}
	connections, err := listen.NewMetrics(p.metrics)
	if err != nil {
		return err
	}
	ln, err := listen.Open(life, p.cfg.HTTP.Addr, p.cfg.HTTP.TLS, p.process.Now)
	if err != nil {
		return fmt.Errorf("http.addr: %w", err)
	}
	working, stopWorkers := context.WithCancel(life)
	defer stopWorkers()
	workers := &group{log: p.log, now: p.process.Now, ended: p.loops.Ended}
	units := append(p.readers(), unit{"feed", p.feed.Run})
	if f.live != nil {
		units = append(units, unit{"live", f.live.Run})
	}
	workers.start(working, units)

	taking, stopTaking := context.WithCancel(life)
	defer stopTaking()
	doors := make(chan error, 2) // one for each
	edge := make(chan struct{})
	go func() {
		defer close(edge)
		if f.edge != nil {
			doors <- f.edge.Run(taking)
		}
	}()
	serving, stopServing := context.WithCancel(life)
	defer stopServing()
	served := make(chan struct{})
	go func() {
		defer close(served)
		doors <- listen.Server{Handler: p.handler(ln.Addr(), f), Drain: httpDrain, Streams: true, Log: p.log, Metrics: connections}.Serve(serving, ln)
	}()
	p.process.Health.Set("http", nil)
	attending, stopAttending := context.WithCancel(ctx)
	attended := make(chan struct{})
	go func() {
		defer close(attended)
		p.attend(attending, ln, f, o)
	}()

	var failed error
	select {
	case <-ctx.Done():
	case failed = <-doors: // a door that cannot open, or broke
	}
	stopAttending()
	<-attended
	grace, cancel := context.WithTimeout(life, postsDrain)
	defer cancel()
	if err := f.posts.close(grace); err != nil {
		p.log.Warn("stopping all the same", "error", err)
	}
	stopTaking()
	<-edge
	p.settle(life)
	stopServing()
	stopWorkers()
	workers.wait()
	<-served
	return failed
}

// attend waits until messages are taken, says where everything listens, lets the demo send, and shows the status.
func (p *plant) attend(ctx context.Context, ln net.Listener, f *front, o Options) {
	if !p.awaitReady(ctx) {
		return
	}
	at := p.endpoints(ln, f)
	if err := at.write(p.cfg.Data); err != nil {
		p.log.Warn("where this instance listens is not on disk", "error", err)
	}
	defer at.remove(p.cfg.Data)
	p.greet(o, at)
	simulated := make(chan struct{})
	go func() {
		defer close(simulated)
		if o.Demo && at.MQTT != "" {
			demo.Run(ctx, demo.Options{Addr: at.MQTT, Log: p.log, Now: p.process.Now})
		}
	}()
	p.showStatus(ctx, o)
	<-simulated
}

func (p *plant) awaitReady(ctx context.Context) bool {
	tick := time.NewTicker(settleEvery)
	defer tick.Stop()
	for p.process.Health.Ready() != nil {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

func (p *plant) endpoints(ln net.Listener, f *front) Endpoints {
	scheme := "http://"
	if p.cfg.HTTP.TLS.On() {
		scheme = "https://"
	}
	at := Endpoints{HTTP: scheme + ln.Addr().String(), MQTT: f.addr("mqtt"), MQTTS: f.addr("mqtts"), PID: os.Getpid()}
	if p.server != nil {
		at.NATS = p.server.Addr()
	}
	return at
}

// settle waits until nothing on the log is unread by this process's workers, or for a while at most. What a worker knows of the
// log's end may be seconds old, so they must also have taken nothing for a moment.
func (p *plant) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleMax)
	defer cancel()
	tick := time.NewTicker(settleEvery)
	defer tick.Stop()
	var before uint64
	since := p.process.Now()
	for {
		records, behind := reading(p.loops.Statuses())
		now := p.process.Now()
		if behind || records != before {
			before, since = records, now
		}
		if now.Sub(since) >= settleQuiet {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// reading returns how many records the workers have taken, and whether they know of more.
func reading(workers []worker.Status) (records uint64, behind bool) {
	for _, w := range workers {
		records += w.Records
		behind = behind || (w.Shares > 0 && w.LagSeconds > 0)
	}
	return records, behind
}
