// Command state-projector is the worker state-projector as a process of its own.
package main

import (
	"context"
	"errors"

	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/worker"
	stateprojector "github.com/millrace/millrace/services/state-projector"
)

func main() { service.Main("state-projector", run, connect.Sections()...) }

func run(ctx context.Context, p *service.Process) (err error) {
	cfg := stateprojector.DefaultConfig()
	if err := p.Config("state_projector", &cfg); err != nil {
		return err
	}
	rows, err := connect.Store[store.StateWriter]("state-projector", "device_state and devices")
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
	return stateprojector.Run(ctx, cfg, stateprojector.Deps{Bus: log, Store: rows, Workers: workers, Log: p.Log, Now: p.Now})
}
