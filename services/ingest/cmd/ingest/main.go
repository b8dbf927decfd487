// Command ingest is the worker ingest as a process of its own.
package main

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/feed"
	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/services/ingest"
)

func main() { connect.Main("ingest", run) }

func run(ctx context.Context, w *connect.Worker) error {
	w.Health.Set("ingest", service.ErrStarting)
	cfg := ingest.DefaultConfig()
	if err := w.Config("ingest", &cfg); err != nil {
		return err
	}
	var err error
	if cfg.Tenant, err = w.Tenant(cfg.Tenant); err != nil {
		return err
	}
	keys, err := connect.Keys(ctx, w.Process, cfg.Listeners())
	if err != nil {
		return err
	}
	log, err := w.Bus(ctx)
	if err != nil {
		return err
	}
	hub, err := feed.NewHub(feed.DefaultConfig(), feed.Deps{Bus: log, Metrics: w.Metrics, Log: w.Log})
	if err != nil {
		return err
	}
	edge, err := ingest.New(context.WithoutCancel(ctx), cfg, ingest.Deps{
		Bus: log, Access: keys, Feed: hub, Metrics: w.Metrics, Log: w.Log, Now: w.Now,
		Ready: func(reason error) { w.Health.Set("ingest", reason) },
	})
	if err != nil {
		return err
	}
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return hub.Run(ctx) })
	all.Go(func() error { return edge.Run(ctx) })
	return all.Wait()
}
