// Command router is the worker router as a process of its own.
package main

import (
	"context"

	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/services/router"
)

func main() { connect.Main("router", run) }

func run(ctx context.Context, w *connect.Worker) error {
	cfg := router.DefaultConfig()
	if err := w.Config("router", &cfg); err != nil {
		return err
	}
	log, err := w.Bus(ctx, cfg.Topics()...)
	if err != nil {
		return err
	}
	return router.Run(ctx, cfg, router.Deps{Bus: log, Metrics: w.Metrics, Workers: w.Loops, Log: w.Log, Now: w.Now})
}
