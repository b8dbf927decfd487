// Command alerting is the worker alerting as a process of its own.
package main

import (
	"context"

	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/connect/stores"
	"github.com/millrace/millrace/services/alerting"
)

func main() { connect.Main("alerting", run) }

func run(ctx context.Context, w *connect.Worker) error {
	cfg := alerting.DefaultConfig()
	if err := w.Config("alerting", &cfg); err != nil {
		return err
	}
	tables, err := stores.Of(w)
	if err != nil {
		return err
	}
	rows, err := tables.Alarms(ctx)
	if err != nil {
		return err
	}
	log, err := w.Bus(ctx)
	if err != nil {
		return err
	}
	return alerting.Run(ctx, cfg, alerting.Deps{Bus: log, Store: rows, Metrics: w.Metrics, Workers: w.Loops, Log: w.Log, Now: w.Now})
}
