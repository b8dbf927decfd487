// Package listen opens listeners and serves HTTP on them with the limits and the TLS that every edge of Millrace has.
package listen

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// TLS says with which certificate a listener proves itself. The zero TLS is none.
type TLS struct {
	Cert     string `yaml:"cert" doc:"File of the certificate chain in PEM; read again within a minute of a change."`
	Key      string `yaml:"key" doc:"File of the certificate's key in PEM."`
	ClientCA string `yaml:"client_ca" doc:"File of the CAs whose client certificates are asked for; empty asks for none."`
}

// On reports whether the listener speaks TLS.
func (t TLS) On() bool { return t.Cert != "" }

// Validate reports every fault by its key.
func (t TLS) Validate() error {
	if (t.Cert == "") != (t.Key == "") {
		return errors.New("key: cert and key belong together")
	}
	if t.ClientCA != "" && t.Cert == "" {
		return errors.New("client_ca: it needs cert and key as well")
	}
	return nil
}

// Config returns the TLS configuration of a server: TLS 1.2 at least, the certificate read again when its file changes, so
// that a renewal needs no restart. now is the clock by which that is looked after, at most once a minute.
func (t TLS) Config(now func() time.Time) (*tls.Config, error) {
	c := &certificate{TLS: t, now: now}
	if _, err := c.get(nil); err != nil {
		return nil, err
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
	if t.ClientCA != "" {
		pem, err := os.ReadFile(t.ClientCA)
		if err != nil {
			return nil, fmt.Errorf("client_ca: %w", err)
		}
		if cfg.ClientCAs = x509.NewCertPool(); !cfg.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("client_ca: %s holds no certificate in PEM", t.ClientCA)
		}
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return cfg, nil
}

// certificate keeps the newest readable certificate of a file.
type certificate struct {
	TLS
	now func() time.Time

	mu      sync.Mutex
	pair    *tls.Certificate
	written time.Time // of the file that pair came from
	looked  time.Time
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	const lookEvery = time.Minute
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if c.pair != nil && now.Sub(c.looked) < lookEvery {
		return c.pair, nil
	}
	c.looked = now
	info, err := os.Stat(c.Cert)
	if err == nil && c.pair != nil && info.ModTime().Equal(c.written) {
		return c.pair, nil
	}
	var pair tls.Certificate
	if err == nil {
		pair, err = tls.LoadX509KeyPair(c.Cert, c.Key)
	}
	if err != nil {
		if c.pair != nil {
			return c.pair, nil // a renewal that is half written: the old certificate still holds
		}
		return nil, fmt.Errorf("certificate: %w", err)
	}
	c.pair, c.written = &pair, info.ModTime()
	return c.pair, nil
}

// Open listens on addr (host:port), with TLS where t is on.
func Open(ctx context.Context, addr string, t TLS, now func() time.Time) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if !t.On() {
		return ln, nil
	}
	cfg, err := t.Config(now)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", addr, err), ln.Close())
	}
	return tls.NewListener(ln, cfg), nil
}

// Limits of every HTTP listener.
const (
	readHeaderTimeout = 5 * time.Second
	idleTimeout       = 2 * time.Minute
	headerBytesMax    = 16 << 10
)

// Server serves HTTP with the limits above.
type Server struct {
	Handler http.Handler
	// ReadTimeout bounds a request with its body, WriteTimeout the time until its answer is written. 0 bounds nothing, for
	// handlers that set deadlines of their own, such as those of live streams.
	ReadTimeout, WriteTimeout time.Duration
	// Drain is how long requests under way may take to finish once Serve's context has ended.
	Drain time.Duration
	// Streams ends the context of every request with Serve's: for handlers whose answers have no end of their own.
	Streams bool
	Log     *slog.Logger
	// Connections are those that may be open, AddressConnections those from one address; more are closed at once. 0 means 10,000,
	// and half of them.
	Connections, AddressConnections int
	Metrics                         *Metrics // may be nil
}

// Serve serves on ln until ctx ends, then stops accepting, waits for the requests under way, and returns nil. It closes ln.
func (s Server) Serve(ctx context.Context, ln net.Listener) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	if s.Streams {
		defer context.AfterFunc(ctx, cancel)()
	}
	d := newDoors(&s)
	server := &http.Server{
		Handler: d.note(s.Handler), ConnContext: d.enter, ConnState: d.changed, ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: headerBytesMax,
		ReadTimeout: s.ReadTimeout, WriteTimeout: s.WriteTimeout,
		ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug), BaseContext: func(net.Listener) context.Context { return base },
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve http on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	grace, stop := context.WithTimeout(context.WithoutCancel(ctx), s.Drain)
	defer stop()
	if err := server.Shutdown(grace); err != nil {
		cancel()
		_ = server.Close() // the grace is over: what is still open is cut
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve http on %s: %w", ln.Addr(), err)
	}
	return nil
}
