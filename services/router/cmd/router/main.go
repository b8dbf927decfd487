// Command router is the worker router as a process of its own.
package main

import (
	"context"
	"errors"

	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/pkg/worker"
	"github.com/millrace/millrace/services/router"
)

func main() { service.Main("router", run, connect.Sections()...) }

func run(ctx context.Context, p *service.Process) (err error) {
	cfg := router.DefaultConfig()
	if err := p.Config("router", &cfg); err != nil {
		return err
	}
	log, err := connect.Worker(ctx, p, cfg.Topics())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	workers, err := worker.NewMetrics(p.Metrics)
	if err != nil {
		return err
	}
	return router.Run(ctx, cfg, router.Deps{Bus: log, Metrics: p.Metrics, Workers: workers, Log: p.Log, Now: p.Now})
}
