// Command aggregator is the worker aggregator as a process of its own.
package main

import (
	"context"

	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/connect/stores"
	"github.com/millrace/millrace/services/aggregator"
)

func main() { connect.Main("aggregator", run) }

func run(ctx context.Context, w *connect.Worker) error {
	cfg := aggregator.DefaultConfig()
	if err := w.Config("aggregator", &cfg); err != nil {
		return err
	}
	tables, err := stores.Of(w)
	if err != nil {
		return err
	}
	rows, err := tables.Aggregates(ctx)
	if err != nil {
		return err
	}
	log, err := w.Bus(ctx)
	if err != nil {
		return err
	}
	return aggregator.Run(ctx, cfg, aggregator.Deps{Bus: log, Store: rows, Metrics: w.Metrics, Workers: w.Loops, Log: w.Log, Now: w.Now})
}
