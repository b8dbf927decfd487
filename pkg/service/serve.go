package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof" // mounted by hand, on loopback alone; nobody serves the default mux
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	headerTimeout  = 5 * time.Second
	idleTimeout    = time.Minute
	writeTimeout   = 2 * time.Minute // a CPU profile takes 30 s by default
	headerBytesMax = 16 << 10
	scrapeTimeout  = 10 * time.Second
	scrapesMax     = 4 // at a time; more get 503
	shutdownGrace  = 5 * time.Second
)

// Serve listens on addr and serves /healthz, /readyz and /metrics until ctx ends, then finishes the requests in hand
// (5 s at most) and returns nil. On a loopback address it serves Go's profiles under /debug/pprof/ as well.
// There is no authentication: whoever reaches the address reads the metrics.
func (p *Process) Serve(ctx context.Context, addr string) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("serve metrics and health: %w", err)
	}
	return p.ServeOn(ctx, ln)
}

// ServeOn is Serve on a listener, which it closes.
func (p *Process) ServeOn(ctx context.Context, ln net.Listener) error {
	server := &http.Server{
		Handler:           p.Handler(ln.Addr()),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       headerTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerBytesMax,
		ErrorLog:          slog.NewLogLogger(p.Log.Handler(), slog.LevelWarn),
	}
	p.Log.InfoContext(ctx, "serving metrics and health", "addr", ln.Addr().String())
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer cancel()
		if err := server.Shutdown(grace); err != nil {
			_ = server.Close() // the grace is over: what is still open is cut
		}
	})
	err := server.Serve(ln)
	if !stop() {
		<-done
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics and health on %v: %w", ln.Addr(), err)
	}
	return nil
}

// Handler serves what Serve does, to be mounted on a listener at addr that the caller has opened; the profiles only where
// addr is loopback.
func (p *Process) Handler(addr net.Addr) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", p.Health.Handler())
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.Metrics, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(p.Log.Handler(), slog.LevelError),
		ErrorHandling:       promhttp.ContinueOnError, // one collector's fault does not hide the others
		MaxRequestsInFlight: scrapesMax,
		Timeout:             scrapeTimeout,
	}))
	if isLoopback(addr) {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// isLoopback is false for the unspecified address, which others reach.
func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
