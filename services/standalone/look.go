package standalone

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/nats"
	"github.com/millrace/millrace/pkg/config"
	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/service"
)

// OpenLog opens the log of cfg for looking on: nothing of it is created, changed or trimmed. An embedded one is reached through the
// listener of the instance that runs (bus.listen), with token where it asks for keys; where none runs, it is opened in the data
// directory, which keeps an instance from starting meanwhile. The returned function closes it.
func OpenLog(ctx context.Context, cfg Config, p *service.Process, token string) (bus.Log, func() error, error) {
	deps := connect.Deps{Log: p.Log, Now: p.Now, Topics: cfg.Router.Topics(), ReadOnly: true}
	if cfg.Bus.URL != connect.Embedded {
		log, err := connect.Patiently(ctx, p.Log, "bus", func() (bus.Log, error) { return connect.Bus(ctx, cfg.Bus, deps) })
		if err != nil {
			return nil, nil, err
		}
		return log, log.Close, nil
	}
	dir := filepath.Join(cfg.Data, "log")
	if _, err := os.Stat(dir); err != nil {
		return nil, nil, fmt.Errorf("the log of the instance: %w: --data names its directory", err)
	}
	running := runningLog(ctx, cfg, deps, token)
	if running.err == nil && running.log != nil {
		return running.log, running.log.Close, nil
	}
	log, closeLog, err := openStill(ctx, cfg, deps, dir)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open the log of the instance: %w", err), running.explain())
	}
	return log, closeLog, nil
}

// reached is the log of an instance that runs, or why it was not reached.
type reached struct {
	log bus.Log
	at  string // URL of its listener
	err error
}

func (r reached) explain() error {
	if r.at == "" {
		return errors.New("the instance seems to run without a listener for NATS clients: start it with --nats 127.0.0.1:4222, or stop it first")
	}
	return fmt.Errorf("the instance that runs, at %s, is not to be reached either (where it asks for keys, give --token one of an admin): %w", r.at, r.err)
}

func runningLog(ctx context.Context, cfg Config, deps connect.Deps, token string) (r reached) {
	at, err := readEndpoints(cfg.Data)
	if err != nil || at.NATS == "" {
		return reached{err: err}
	}
	const patience = 10 * time.Second
	opening, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c := cfg.Bus
	c.URL = at.NATS
	if token != "" {
		c.Token = config.Secret(token)
	}
	log, err := connect.Bus(opening, c, deps)
	return reached{log: log, at: at.NATS, err: err}
}

// openStill opens the log of an instance that does not run.
func openStill(ctx context.Context, cfg Config, deps connect.Deps, dir string) (bus.Log, func() error, error) {
	server, err := nats.Embedded(ctx, nats.EmbeddedConfig{Dir: dir, Log: deps.Log})
	if err != nil {
		return nil, nil, err
	}
	conn, err := server.Connect()
	if err != nil {
		server.Shutdown()
		return nil, nil, err
	}
	closeServer := func() {
		conn.Close()
		server.Shutdown()
	}
	c := cfg.Bus.NATS(deps)
	c.Conn = conn
	c.ReadOnly = false // the bucket of groups is in memory, so it is gone with the instance; nobody else is there to be disturbed
	log, err := nats.Open(ctx, c)
	if err != nil {
		closeServer()
		return nil, nil, err
	}
	return log, func() error {
		err := log.Close()
		closeServer()
		return err
	}, nil
}

// readEndpoints reads what a running instance has written of itself; the zero Endpoints where none runs.
func readEndpoints(data string) (at Endpoints, err error) {
	b, err := os.ReadFile(filepath.Join(data, endpointsName)) //nolint:gosec // a directory of the configuration
	if errors.Is(err, os.ErrNotExist) {
		return at, nil
	}
	if err != nil {
		return at, fmt.Errorf("where the instance listens: %w", err)
	}
	if err := json.Unmarshal(b, &at); err != nil {
		return at, fmt.Errorf("where the instance listens: %w", err)
	}
	return at, nil
}
