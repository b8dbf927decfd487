// Command live is the worker live as a process of its own: live streams, and queries of the stores that can be reached from here.
package main

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/pkg/access"
	"github.com/millrace/millrace/pkg/books"
	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/connect/stores"
	"github.com/millrace/millrace/pkg/feed"
	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/services/live"
)

func main() { connect.Main("live", run) }

func run(ctx context.Context, w *connect.Worker) error {
	w.Health.Set("live", service.ErrStarting)
	cfg := live.DefaultConfig()
	if err := w.Config("live", &cfg); err != nil {
		return err
	}
	decoder, err := w.Decoder()
	if err != nil {
		return err
	}
	keys, err := connect.Keys(ctx, w.Process, []access.Listener{{Key: "live.http.addr", Addr: cfg.HTTP.Addr, TLS: cfg.HTTP.Cert != ""}})
	if err != nil {
		return err
	}
	tables, err := stores.Of(w)
	if err != nil {
		return err
	}
	log, err := w.Bus(ctx)
	if err != nil {
		return err
	}
	hub, err := feed.NewHub(cfg.Feed, feed.Deps{Bus: log, Metrics: w.Metrics, Log: w.Log})
	if err != nil {
		return err
	}
	deps := live.Deps{
		Bus: log, Feed: hub, Publish: connect.Publish(log), Group: log, Health: w.Health, Decoder: decoder, Metrics: w.Metrics, Log: w.Log, Now: w.Now,
	}
	auditor := books.NewAuditor(log, tables.Reader, tables.Progress)
	auditor.Now = w.Now
	deps.Tables, deps.Audit = tables.Reader, auditor
	if sql := tables.SQL(); sql != nil { // a nil interface in another is not nil
		deps.SQL = sql
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
