// Command log-consumer is the worker log-consumer as a process of its own.
package main

import (
	"context"

	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/connect/stores"
	logconsumer "github.com/millrace/millrace/services/log-consumer"
)

func main() { connect.Main("log-consumer", run) }

func run(ctx context.Context, w *connect.Worker) error {
	cfg := logconsumer.DefaultConfig()
	if err := w.Config("log_consumer", &cfg); err != nil {
		return err
	}
	tables, err := stores.Of(w)
	if err != nil {
		return err
	}
	rows, err := tables.Logs(ctx)
	if err != nil {
		return err
	}
	letters, err := tables.DeadLetters(ctx)
	if err != nil {
		return err
	}
	log, err := w.Bus(ctx)
	if err != nil {
		return err
	}
	return logconsumer.Run(ctx, cfg, logconsumer.Deps{Bus: log, Logs: rows, DeadLetters: letters, Workers: w.Loops, Log: w.Log, Now: w.Now})
}
