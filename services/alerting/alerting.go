// Package alerting is the worker that raises alarms, follows them until they are cleared, and tells people and machines of them.
//
// It reads the topics telemetry, aggregates, critical and alarm-commands. Rules say when an alarm is raised and cleared; see
// Rule. Each change of an alarm is a row in the store, written together with the progress and the state of all rules, and a record
// on the topic alarms. That topic is also the outbox of the notifications: each target reads it as a consumer group of its
// own, and its progress moves only behind what was delivered.
//
// Its promise: alarms are a function of the log, so what is read again writes the same rows; each change reaches each target at
// least once, in the order of its device; and what cannot be told, or is refused, is counted, or a dead letter with its reason.
//
// Start reading at Run, then internal/engine.
package alerting

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
	"github.com/millrace/millrace/services/alerting/internal/engine"
	"github.com/millrace/millrace/services/alerting/internal/notify"
)

// Worker is the name of the worker and of its consumer group.
const Worker = "alerting"

// NotifyGroup returns the consumer group of a target.
func NotifyGroup(target string) string { return "notify-" + target }

const (
	// notifyBatch is how many changes one commit of a target has at most.
	notifyBatch = 256
	// notifyDrain is how long a delivery may outlive Run's context; what is not delivered by then is told after the restart.
	notifyDrain = 2 * time.Second
	// readyMax is how long the rules wait for the targets to begin. Another process may own all that they read.
	readyMax = 2 * time.Second
)

// Deps is what alerting needs. The caller closes it after Run has returned.
type Deps struct {
	Bus     bus.Log
	Store   store.AlarmWriter
	Metrics prometheus.Registerer // of this worker alone; nil registers nothing
	Workers *worker.Metrics       // of all workers of the process; nil counts nothing
	Log     *slog.Logger
	Now     func() time.Time
	HTTP    *http.Client // for webhooks; nil is one of its own
}

// Topics are what the worker reads.
func Topics() []string { return engine.Topics() }

// Run works until ctx ends and then finishes what is in hand; see worker.Loop for its errors. When the rules or one target
// end with an error, so do the others.
func Run(ctx context.Context, cfg Config, d Deps) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("%s: %w", Worker, err)
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(d.Metrics, d.Log, d.Now)
	if err != nil {
		return err
	}
	compiled, err := cfg.compiled()
	if err != nil {
		return fmt.Errorf("%s: %w", Worker, err)
	}
	if d.HTTP == nil {
		d.HTTP = newHTTP()
		defer d.HTTP.CloseIdleConnections()
	}
	rules := ruleLoop(cfg, d, m, compiled)
	all, running := errgroup.WithContext(ctx)
	ready := newReadiness(len(cfg.Notify) * max(1, d.Bus.Partitions(bus.Alarms)))
	for i := range cfg.Notify {
		loop, err := notifyLoop(&cfg.Notify[i], d, m, ready)
		if err != nil {
			return fmt.Errorf("%s: notify[%d]: %w", Worker, i, err)
		}
		all.Go(func() error { return runNotify(running, ctx, loop, d.Log) })
	}
	all.Go(func() error {
		ready.wait(running, readyMax)
		return rules.Run(running)
	})
	return all.Wait()
}

// newHTTP returns a client that follows no redirects: one would make a GET of a POST.
func newHTTP() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: 4, IdleConnTimeout: 90 * time.Second, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func ruleLoop(cfg Config, d Deps, m *metrics, compiled []*engine.Rule) *worker.Loop[telemetry.Alarm] {
	shares := max(1, d.Bus.Partitions(bus.Telemetry))
	return &worker.Loop[telemetry.Alarm]{
		Worker: Worker, Topics: engine.Topics(), Bus: d.Bus, Store: d.Store, Checkpoints: d.Store,
		// Nobody is silent because the router is down.
		Upstream: []worker.Upstream{{Group: bus.Router, Topic: bus.Ingested}},
		NewTask: func(share int) (worker.Task[telemetry.Alarm], error) {
			hooks := m.hooks()
			hooks.RuleChanged = m.ruleChanged(share)
			return cfg.engine(compiled, shares, hooks), nil
		},
		CommitEvery: cfg.CommitEvery, Metrics: d.Workers, Log: d.Log, Now: d.Now,
	}
}

// engine returns the rules of one of shares.
func (c Config) engine(compiled []*engine.Rule, shares int, hooks engine.Hooks) *engine.Engine {
	return engine.New(engine.Config{
		Rules: compiled, Flap: engine.Flap{Window: c.Flap.Window, Max: c.Flap.Max},
		TracksMax: (c.MaxTracked + shares - 1) / shares, Hooks: hooks,
	})
}

// notifyLoop reads the topic alarms for one target. Its store is the outbox, so a change is committed once it was delivered. A
// target that is new begins at the end: nobody wants to be told of the past.
func notifyLoop(t *Target, d Deps, m *metrics, ready *readiness) (*worker.Loop[telemetry.Alarm], error) {
	target, err := t.open(d)
	if err != nil {
		return nil, err
	}
	wanted := t.filter()
	decide := func(out *worker.Output[telemetry.Alarm], _ string, r bus.Record) error {
		var a telemetry.Alarm
		if err := telemetry.ParseAlarm(r.Value, &a); err != nil {
			return fmt.Errorf("notify %s: %w", t.Name, err)
		}
		if wanted(&a) {
			out.Rows = append(out.Rows, a)
		}
		return nil
	}
	return &worker.Loop[telemetry.Alarm]{
		Worker: NotifyGroup(t.Name), Topics: []string{bus.Alarms}, Bus: d.Bus,
		Store: notify.NewOutbox(target, m.outcomes(t.Name)), ProgressOnBus: true, Start: bus.Start{Newest: true},
		NewTask: func(int) (worker.Task[telemetry.Alarm], error) {
			return worker.Decide[telemetry.Alarm](decide), nil
		},
		Warm: func(context.Context, worker.Task[telemetry.Alarm], bus.Share, []bus.Progress) error {
			ready.one()
			return nil
		},
		BatchRecords: notifyBatch, Drain: notifyDrain, Metrics: d.Workers, Log: d.Log, Now: d.Now,
	}, nil
}

// runNotify runs a target's loop. That a target could not be told before the process ends is no fault of the process: the log
// keeps it, and it is told after the restart.
func runNotify(running, ctx context.Context, loop *worker.Loop[telemetry.Alarm], log *slog.Logger) error {
	err := loop.Run(running)
	if ctx.Err() == nil {
		return err
	}
	if err != nil {
		log.WarnContext(ctx, "a target was not told of everything, it will be after the restart", "worker", loop.Worker, "error", err)
	}
	return nil
}

// readiness waits for the shares of all targets to have found where they begin: a target that begins at the end must do so
// before the first alarm is raised, or it would miss that one.
type readiness struct {
	mu   sync.Mutex
	left int
	done chan struct{} // closed when none is left
}

func newReadiness(n int) *readiness {
	r := &readiness{left: n, done: make(chan struct{})}
	if n == 0 {
		close(r.done)
	}
	return r
}

func (r *readiness) one() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left--; r.left == 0 {
		close(r.done)
	}
}

func (r *readiness) wait(ctx context.Context, most time.Duration) {
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-r.done:
	case <-t.C:
	case <-ctx.Done():
	}
}
