package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/pkg/access"
	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/feed"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/answer"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
)

// Authorizer knows the credentials; *access.Keys is one.
type Authorizer interface {
	Authenticate(secret string) (*access.Credential, error)
	InForce(id string) (*access.Credential, error)
}

// Readiness takes the gate of this worker; *service.Health is one.
type Readiness interface {
	Set(name string, reason error)
	Ready() error
}

// SQL answers queries that someone outside has written: read only, within their limits, with the errors of package answer.
type SQL interface {
	Query(ctx context.Context, q answer.Request) (answer.Result, error)
}

// Group deals the shares of the log out; bus.Log is one.
type Group interface {
	Subscribe(ctx context.Context, group string, topics []string, own func(context.Context, bus.Share) error) error
}

// Deps is what live needs. The caller closes it after Run has returned.
type Deps struct {
	Bus      bus.Appender                            // takes acknowledgements, onto bus.AlarmCommands, and what is put back of dead letters
	Feed     *feed.Hub                               // the caller runs it
	Tables   func(table string) store.Reader         // who keeps a table of package store, nil for one that nobody does: that answers 501 and says why
	SQL      SQL                                     // answers POST /v1/sql; nil: 501
	Publish  func(subject string, data []byte) error // onto NATS; nil publishes nothing. It keeps nothing of data.
	Group    Group                                   // shares publishing out over several processes; nil: this one is alone
	Listened func() bool                             // whether anybody subscribes to live.> on NATS, asked once a second; nil: somebody may
	Auth     Authorizer                              // nil asks nobody for a token
	Health   Readiness                               // may be nil
	Status   func() Status                           // what else is alive in the process; may be nil
	Decoder  *telemetry.Decoder                      // as the edge has it, for bodies that are put back; nil: one with the defaults
	Audit    Auditor                                 // answers GET /v1/audit; nil: 501
	Mounted  bool                                    // Handler is served by the caller: Run opens no listener
	Listener net.Listener                            // to serve on in place of opening http.addr; Run closes it
	Metrics  prometheus.Registerer                   // nil registers nothing
	Log      *slog.Logger
	Now      func() time.Time
}

// Status is what a process tells of itself.
type Status struct {
	Version   string
	Started   time.Time
	Workers   []worker.Status
	Listeners map[string]string // address by name: http, mqtt, nats
	Warnings  []string          // what an operator should see to, such as a disk that fills
}

// Live serves. Make one with New.
type Live struct {
	cfg     Config
	deps    Deps
	metrics *metrics
	rates   rates
	decoder *telemetry.Decoder
	handler http.Handler

	auditing sync.Mutex // held by the one audit that is under way
}

// New checks the configuration and returns what serves it. Nothing is opened before Run.
func New(cfg Config, d Deps) (*Live, error) {
	if err := errors.Join(cfg.Validate(), cfg.Feed.Validate()); err != nil {
		return nil, fmt.Errorf("live: %w", err)
	}
	m, err := newMetrics(d.Metrics)
	if err != nil {
		return nil, err
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	l := &Live{cfg: cfg, deps: d, metrics: m, decoder: d.Decoder}
	if l.decoder == nil {
		l.decoder = telemetry.NewDecoder(telemetry.Options{})
	}
	if l.handler, err = l.newHandler(); err != nil {
		return nil, err
	}
	return l, nil
}

// Handler serves everything of live: the streams, the query API and the page. It works before Run, except that rates in the
// status are zero. Safe for concurrent use.
func (l *Live) Handler() http.Handler { return l.handler }

// Run publishes onto NATS, measures rates and, unless the handler is mounted elsewhere, listens, until ctx ends; then open
// requests have five seconds. It returns an error when it cannot listen.
func (l *Live) Run(ctx context.Context) error {
	all, running := errgroup.WithContext(ctx)
	all.Go(func() error {
		l.measure(running)
		return nil
	})
	if l.cfg.NATS && l.deps.Publish != nil {
		all.Go(func() error {
			l.publish(running)
			return nil
		})
	}
	if !l.deps.Mounted && l.cfg.HTTP.Addr != "" {
		ln, err := l.listen(running)
		if err != nil {
			return errors.Join(fmt.Errorf("live: %w", err), all.Wait())
		}
		all.Go(func() error { return l.serve(running, ln) })
	}
	all.Go(func() error {
		l.announce(running)
		return nil
	})
	if err := all.Wait(); err != nil {
		return fmt.Errorf("live: %w", err)
	}
	return nil
}

// announce opens the gate of readiness once the feed follows the log.
func (l *Live) announce(ctx context.Context) {
	if l.deps.Health == nil {
		return
	}
	select {
	case <-l.deps.Feed.Ready():
		l.deps.Health.Set("live", nil)
	case <-ctx.Done():
	}
}

func (l *Live) listen(ctx context.Context) (net.Listener, error) {
	if l.deps.Listener != nil {
		return l.deps.Listener, nil
	}
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", l.cfg.HTTP.Addr)
}

const (
	headerTimeout  = 5 * time.Second
	bodyTimeout    = 30 * time.Second
	idleTimeout    = time.Minute
	headerBytesMax = 16 << 10
	shutdownGrace  = 5 * time.Second
)

// serve answers on ln until ctx ends. There is no write timeout: streams live long, and set deadlines of their own.
func (l *Live) serve(ctx context.Context, ln net.Listener) error {
	server := &http.Server{
		Handler: l.handler, ReadHeaderTimeout: headerTimeout, ReadTimeout: bodyTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: headerBytesMax,
		ErrorLog:    slog.NewLogLogger(l.deps.Log.Handler(), slog.LevelWarn),
		BaseContext: func(net.Listener) context.Context { return ctx }, // so that streams end with it
	}
	l.deps.Log.InfoContext(ctx, "serving live events and queries", "addr", ln.Addr().String())
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer cancel()
		if err := server.Shutdown(grace); err != nil {
			_ = server.Close() // the grace is over: what is still open is cut
		}
	})
	var err error
	if l.cfg.HTTP.Cert != "" {
		err = server.ServeTLS(ln, l.cfg.HTTP.Cert, l.cfg.HTTP.Key)
	} else {
		err = server.Serve(ln)
	}
	if !stop() {
		<-done
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve %v: %w", ln.Addr(), err)
}
