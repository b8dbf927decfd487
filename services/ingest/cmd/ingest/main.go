// Command ingest is the worker ingest as a process of its own.
package main

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/feed"
	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/services/ingest"
)

func main() { service.Main("ingest", run, connect.Sections()...) }

func run(ctx context.Context, p *service.Process) (err error) {
	p.Health.Set("ingest", service.ErrStarting)
	cfg := ingest.DefaultConfig()
	if err := p.Config("ingest", &cfg); err != nil {
		return err
	}
	if cfg.Tenant, err = connect.Tenant(p, cfg.Tenant); err != nil {
		return err
	}
	keys, err := connect.Keys(ctx, p, cfg.Listeners())
	if err != nil {
		return err
	}
	log, err := connect.Worker(ctx, p, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	hub, err := feed.NewHub(feed.DefaultConfig(), feed.Deps{Bus: log, Metrics: p.Metrics, Log: p.Log})
	if err != nil {
		return err
	}
	edge, err := ingest.New(context.WithoutCancel(ctx), cfg, ingest.Deps{
		Bus: log, Access: keys, Feed: hub, Metrics: p.Metrics, Log: p.Log, Now: p.Now,
		Ready: func(reason error) { p.Health.Set("ingest", reason) },
	})
	if err != nil {
		return err
	}
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return hub.Run(ctx) })
	all.Go(func() error { return edge.Run(ctx) })
	return all.Wait()
}
