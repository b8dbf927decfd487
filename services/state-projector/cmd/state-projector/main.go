// Command state-projector is the worker state-projector as a process of its own.
package main

import (
	"context"

	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/connect/stores"
	stateprojector "github.com/millrace/millrace/services/state-projector"
)

func main() { connect.Main("state-projector", run) }

func run(ctx context.Context, w *connect.Worker) error {
	cfg := stateprojector.DefaultConfig()
	if err := w.Config("state_projector", &cfg); err != nil {
		return err
	}
	tables, err := stores.Of(w)
	if err != nil {
		return err
	}
	rows, err := tables.State(ctx)
	if err != nil {
		return err
	}
	log, err := w.Bus(ctx)
	if err != nil {
		return err
	}
	return stateprojector.Run(ctx, cfg, stateprojector.Deps{Bus: log, Store: rows, Workers: w.Loops, Log: w.Log, Now: w.Now})
}
