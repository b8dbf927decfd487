// Command live is the worker live as a process of its own: live streams, and no queries, since the stores are embedded in
// another process.
package main

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/pkg/access"
	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/feed"
	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/services/live"
)

func main() { service.Main("live", run, connect.Sections()...) }

func run(ctx context.Context, p *service.Process) (err error) {
	p.Health.Set("live", service.ErrStarting)
	cfg := live.DefaultConfig()
	if err := p.Config("live", &cfg); err != nil {
		return err
	}
	keys, err := connect.Keys(ctx, p, []access.Listener{{Key: "live.http.addr", Addr: cfg.HTTP.Addr, TLS: cfg.HTTP.Cert != ""}})
	if err != nil {
		return err
	}
	log, err := connect.Worker(ctx, p, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	hub, err := feed.NewHub(cfg.Feed, feed.Deps{Bus: log, Metrics: p.Metrics, Log: p.Log})
	if err != nil {
		return err
	}
	deps := live.Deps{
		Bus: log, Feed: hub, Publish: log.Publish, Health: p.Health, Metrics: p.Metrics, Log: p.Log, Now: p.Now,
	}
	if keys != nil { // a nil pointer in an interface is not nil
		deps.Auth = keys
	}
	gate, err := live.New(cfg, deps)
	if err != nil {
		return err
	}
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return hub.Run(ctx) })
	all.Go(func() error { return gate.Run(ctx) })
	return all.Wait()
}
