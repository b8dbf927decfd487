package standalone

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/access"
	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/nats"
	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/connect/stores"
	"github.com/millrace/millrace/pkg/feed"
	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/pkg/store/duckdb"
	"github.com/millrace/millrace/pkg/store/parquet"
	"github.com/millrace/millrace/pkg/worker"
	"github.com/millrace/millrace/services/standalone/internal/damage"
)

// plant is everything that the workers of this process share.
type plant struct {
	cfg     Config
	process *service.Process
	log     *slog.Logger
	metrics prometheus.Registerer
	loops   *worker.Metrics
	reruns  reruns

	server  *nats.Server // nil where the log is elsewhere
	bus     bus.Log
	keys    *access.Keys     // nil: the listeners are open
	history *parquet.History // nil where nothing is embedded
	db      *duckdb.DB       // likewise
	stores  *stores.Set      // the engines that are not embedded
	keep    keepers
	feed    *feed.Hub
	book    *damage.Book
	found   found
	// setAside wakes rebuild; of size 1: it looks at everything each time.
	setAside chan struct{}

	still   bool           // nothing is written, so the stores stay as they are
	closers []func() error // in the order of opening
}

// open opens what the workers of this process need. On an error everything is closed again.
func open(ctx context.Context, cfg Config, p *service.Process) (*plant, error) {
	loops, err := worker.NewMetrics(p.Metrics)
	if err != nil {
		return nil, err
	}
	loops.DrainWithin(p.Drain / 3) // the edge comes before the workers, and closing the stores after them
	loops.KeepInHand(filepath.Join(cfg.Data, "in-hand"))
	pl := &plant{cfg: cfg, process: p, log: p.Log, metrics: p.Metrics, loops: loops, reruns: reruns{reg: p.Metrics}, setAside: make(chan struct{}, 1)}
	for _, step := range []func(context.Context) error{pl.openData, pl.openBook, pl.openKeys, pl.openBus, pl.openEmbedded, pl.openStores, pl.mend, pl.openFeed} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, pl.close())
		}
	}
	return pl, nil
}

// close closes in reverse order: what uses something goes before what it uses.
func (p *plant) close() error {
	var errs []error
	for _, closer := range slices.Backward(p.closers) {
		errs = append(errs, closer())
	}
	p.closers = nil
	return errors.Join(errs...)
}

func (p *plant) openData(context.Context) error {
	if err := os.MkdirAll(p.cfg.Data, 0o750); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}

// openKeys checks every listener and follows the access file where one of them needs it.
func (p *plant) openKeys(ctx context.Context) error {
	var err error
	p.keys, err = p.cfg.Access.Open(ctx, p.process, p.cfg.Data, p.cfg.Insecure, p.cfg.listeners())
	return err
}

// openBus opens the log, within this process unless the configuration names a server.
func (p *plant) openBus(ctx context.Context) error {
	deps := connect.Deps{Log: p.log, Now: p.process.Now, Metrics: p.metrics, Topics: p.cfg.Router.Topics(), Archive: p.cfg.Archive.URL != ""}
	if p.cfg.Bus.URL != connect.Embedded {
		log, err := connect.Patiently(ctx, p.log, "bus", func() (bus.Log, error) { return connect.Bus(ctx, p.cfg.Bus, deps) })
		if err != nil {
			return err
		}
		p.bus = log
		p.closers = append(p.closers, log.Close)
		return nil
	}
	var certificate *tls.Config
	if p.cfg.Bus.ListenTLS.On() {
		var err error
		if certificate, err = p.cfg.Bus.ListenTLS.Config(p.process.Now); err != nil {
			return fmt.Errorf("bus.listen_tls: %w", err)
		}
	}
	server, err := nats.Embedded(ctx, nats.EmbeddedConfig{
		Dir: filepath.Join(p.cfg.Data, "log"), Addr: p.cfg.Bus.Listen, TLS: certificate, Authorize: p.authorizeNATS(), Log: p.log,
	})
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	p.server = server
	p.closers = append(p.closers, func() error { server.Shutdown(); return nil })
	conn, err := server.Connect()
	if err != nil {
		return err
	}
	p.closers = append(p.closers, func() error { conn.Close(); return nil })
	cfg := p.cfg.Bus.NATS(deps)
	cfg.Conn, cfg.Synced, cfg.Ends = conn, true, filepath.Join(p.cfg.Data, endsName)
	log, err := nats.Open(ctx, cfg)
	if err != nil {
		return err
	}
	p.bus = log
	p.closers = append(p.closers, log.Close)
	return nil
}

// authorizeNATS lets API tokens in where the listeners ask for keys: one that may read follows live.>, an admin's may
// do everything, as a worker of another process must.
func (p *plant) authorizeNATS() func(user, password, token string) (nats.Access, bool) {
	if p.keys == nil {
		return nil
	}
	return func(_, password, token string) (nats.Access, bool) {
		if token == "" {
			token = password
		}
		c, err := p.keys.Authenticate(token)
		switch {
		case err != nil:
			return nats.Access{}, false
		case c.May(access.ScopeAdmin):
			return nats.Access{Publish: []string{">"}, Subscribe: []string{">"}}, true
		case c.May(access.ScopeRead):
			return nats.Access{Subscribe: []string{"live.>", "_INBOX.>"}}, true
		}
		return nats.Access{}, false
	}
}

// openEmbedded opens the embedded stores, where a worker of this process writes or asks them.
func (p *plant) openEmbedded(ctx context.Context) error {
	if !p.embeds() {
		return nil
	}
	history := parquet.Config{
		Dir: p.cfg.archive(), Manifest: filepath.Join(p.cfg.Data, manifestName),
		SegmentAge: p.cfg.History.SegmentAge, MemoryBytes: int64(p.cfg.History.Memory), Retention: p.cfg.History.Retention,
		MergeDelay: p.cfg.History.MergeDelay, DiskWarn: p.cfg.History.DiskWarn,
		Metrics: parquet.NewMetrics(p.metrics), Log: p.log, Now: p.process.Now,
	}
	if p.still {
		history.MaintainEvery = -1
	} else {
		history.Aside, history.Found = p.book.Aside(), p.foundInHistory
	}
	var err error
	p.history, err = parquet.Open(ctx, history)
	if err != nil {
		return err
	}
	p.closers = append(p.closers, func() error {
		const grace = 20 * time.Second
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		return p.history.Close(ctx)
	})
	err = p.openDatabase(ctx, duckdb.Config{
		Path: filepath.Join(p.cfg.Data, databaseName), MemoryLimit: int64(p.cfg.DuckDB.Memory), Threads: p.cfg.DuckDB.Threads,
		ArchiveDir: p.cfg.archive(), History: p.history, Queries: p.cfg.DuckDB.Queries, Log: p.log, Now: p.process.Now,
	})
	if err != nil {
		return err
	}
	p.closers = append(p.closers, p.db.Close)
	return nil
}
