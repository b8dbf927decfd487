// Command aggregator is the worker aggregator as a process of its own.
package main

import (
	"context"
	"errors"

	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/worker"
	aggregator "github.com/millrace/millrace/services/aggregator"
)

func main() { service.Main("aggregator", run, connect.Sections()...) }

func run(ctx context.Context, p *service.Process) (err error) {
	cfg := aggregator.DefaultConfig()
	if err := p.Config("aggregator", &cfg); err != nil {
		return err
	}
	rows, err := connect.Store[store.AggregateWriter]("aggregator", "aggregates")
	if err != nil {
		return err
	}
	log, err := connect.Worker(ctx, p, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	workers, err := worker.NewMetrics(p.Metrics)
	if err != nil {
		return err
	}
	return aggregator.Run(ctx, cfg, aggregator.Deps{Bus: log, Store: rows, Metrics: p.Metrics, Workers: workers, Log: p.Log, Now: p.Now})
}
