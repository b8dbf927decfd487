package nats

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/millrace/millrace/pkg/filelock"
)

const (
	defaultServerPayloadMax = 1 << 20
	embeddedMemoryMax       = 256 << 20 // leases and the consumers of readers are all that is kept in memory
	embeddedUser            = "millrace"
	startMax                = 5 * time.Minute // a large log is looked through on start
)

// EmbeddedConfig says where the embedded server keeps its data and who may connect.
type EmbeddedConfig struct {
	Dir  string // the server's own, locked while it runs; created where it is missing
	Addr string // where clients may connect, "host:port" with port 0 for any; "" for nobody but this process
	TLS  *tls.Config
	// Authorize decides about a client that connects to Addr with the user, password and token that it gave, and says what it
	// may do. nil lets everybody do everything: for loopback only.
	Authorize func(user, password, token string) (Access, bool)
	BytesMax  int64 // of all streams; 0 leaves the limit to each one's
	Log       *slog.Logger
}

// Access is what a client may do: subjects, with NATS wildcards, that it may publish to and subscribe to. An empty list is
// none.
type Access struct {
	Publish   []string
	Subscribe []string
}

// Server is a NATS server in this process that syncs every append. When it could not write, as on a full disk, it is
// started again in place once the disk takes writes: connections are made again by themselves.
type Server struct {
	srv      atomic.Pointer[server.Server]
	cfg      EmbeddedConfig // its Addr with the port that was found
	bridge   *serverLog
	password string
	lock     *os.File     // of the folder
	own      atomic.Int64 // connections that Connect made and that are not closed
	stop     context.CancelFunc
	running  sync.WaitGroup
}

// Embedded starts a server and returns when it is ready. ctx limits the start only. It handles no signals; the caller ends it
// with Shutdown, after all that use it.
func Embedded(ctx context.Context, cfg EmbeddedConfig) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{password: rand.Text(), cfg: cfg}
	if _, err := s.options(); err != nil {
		return nil, fmt.Errorf("start the embedded NATS server: %w", err)
	}
	var err error
	if s.lock, err = lockDir(cfg.Dir); err != nil {
		return nil, fmt.Errorf("start the embedded NATS server: %w", err)
	}
	s.bridge = &serverLog{log: cfg.Log.With("part", "nats-server"), unwritten: make(chan struct{}, 1)}
	if err := s.start(ctx); err != nil {
		_ = s.lock.Close()
		return nil, fmt.Errorf("start the embedded NATS server in %s: %w", cfg.Dir, err)
	}
	var life context.Context
	life, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.running.Go(func() { s.reopen(life) })
	return s, nil
}

// start starts a server and returns when it is ready; on an error none is left.
func (s *Server) start(ctx context.Context) error {
	opts, err := s.options()
	if err != nil {
		return err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	s.bridge.begin()
	srv.SetLoggerV2(s.bridge, false, false, false)
	srv.Start()
	if err := awaitReady(ctx, srv, s.bridge); err != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
		return err
	}
	s.srv.Store(srv)
	return nil
}

func (s *Server) options() (*server.Options, error) {
	cfg := s.cfg
	if cfg.Dir == "" {
		return nil, errors.New("dir: empty, want a directory")
	}
	opts := &server.Options{
		ServerName: "millrace", JetStream: true, StoreDir: cfg.Dir,
		SyncAlways:         syncAlways,
		JetStreamMaxStore:  cfg.BytesMax,
		JetStreamMaxMemory: embeddedMemoryMax,
		MaxPayload:         defaultServerPayloadMax,
		NoSigs:             true, DontListen: cfg.Addr == "",
		TLSConfig: cfg.TLS, TLS: cfg.TLS != nil, TLSTimeout: 5,
		CustomClientAuthentication: &gate{password: s.password, authorize: cfg.Authorize},
	}
	if opts.JetStreamMaxStore <= 0 {
		opts.JetStreamMaxStore = math.MaxInt64 / 2 // each stream has its own limit, and their sum may be more than the disk
	}
	if cfg.Addr == "" {
		return opts, nil
	}
	host, port, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("addr: %w", err)
	}
	if opts.Port, err = strconv.Atoi(port); err != nil || opts.Port < 0 || opts.Port > math.MaxUint16 {
		return nil, fmt.Errorf("addr: port %q, want 0 to 65535", port)
	}
	opts.Host = host
	if opts.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	return opts, nil
}

// awaitReady waits until the server serves, gives up by itself, or ctx ends.
func awaitReady(ctx context.Context, srv *server.Server, bridge *serverLog) error {
	const step = 50 * time.Millisecond
	for deadline := time.NewTimer(startMax); ; {
		if srv.ReadyForConnections(step) {
			if srv.JetStreamEnabled() {
				return nil
			}
			return fmt.Errorf("JetStream is not running: %s", bridge.lastFault())
		}
		if fault := bridge.fatal(); fault != "" {
			deadline.Stop()
			return errors.New(fault)
		}
		select {
		case <-ctx.Done():
			deadline.Stop()
			return ctx.Err()
		case <-deadline.C:
			return fmt.Errorf("not ready after %v", startMax)
		default:
		}
	}
}

// Addr returns where clients may connect, as a URL; "" where they may not.
func (s *Server) Addr() string {
	srv := s.srv.Load()
	if srv.Addr() == nil {
		return ""
	}
	return srv.ClientURL()
}

// Connect returns a connection of this process to the server, past the network and Authorize. The caller closes it.
func (s *Server) Connect() (*nats.Conn, error) {
	conn, err := nats.Connect("", nats.InProcessServer(s), nats.Name("millrace"), nats.UserInfo(embeddedUser, s.password),
		nats.ReconnectBufSize(-1), nats.ReconnectWait(100*time.Millisecond), nats.MaxReconnects(-1), nats.ClosedHandler(func(*nats.Conn) { s.own.Add(-1) }))
	s.own.Add(1)
	if err != nil {
		s.own.Add(-1)
		return nil, fmt.Errorf("connect to the embedded NATS server: %w", err)
	}
	return conn, nil
}

// InProcessConn implements nats.InProcessConnProvider: a connection to the server that runs now.
func (s *Server) InProcessConn() (net.Conn, error) { return s.srv.Load().InProcessConn() }

// Shutdown stops the server and returns when all its data is written and its files are closed.
func (s *Server) Shutdown() {
	s.stop()
	s.running.Wait()
	srv := s.srv.Load()
	srv.Shutdown()
	srv.WaitForShutdown()
	_ = s.lock.Close()
}

// lockDir keeps a second server out of dir, which would ruin what the first one writes.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	return filelock.Try(filepath.Join(dir, "lock"))
}

// gate asks Authorize, except for this process's own connections.
type gate struct {
	password  string
	authorize func(user, password, token string) (Access, bool)
}

// Check implements server.Authentication.
func (g *gate) Check(c server.ClientAuthentication) bool {
	o := c.GetOpts()
	if o.Username == embeddedUser && subtle.ConstantTimeCompare([]byte(o.Password), []byte(g.password)) == 1 {
		return true
	}
	if g.authorize == nil {
		return true
	}
	access, ok := g.authorize(o.Username, o.Password, o.Token)
	if !ok {
		return false
	}
	c.RegisterUser(&server.User{Username: o.Username, Permissions: &server.Permissions{
		Publish: permission(access.Publish), Subscribe: permission(access.Subscribe),
	}})
	return true
}

func permission(subjects []string) *server.SubjectPermission {
	if len(subjects) == 0 {
		return &server.SubjectPermission{Deny: []string{">"}}
	}
	return &server.SubjectPermission{Allow: subjects}
}
