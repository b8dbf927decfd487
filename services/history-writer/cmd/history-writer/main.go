// Command history-writer is the worker history-writer as a process of its own.
package main

import (
	"context"

	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/connect/archives"
	"github.com/millrace/millrace/pkg/connect/stores"
	historywriter "github.com/millrace/millrace/services/history-writer"
)

func main() { connect.Main("history-writer", run) }

func run(ctx context.Context, w *connect.Worker) error {
	cfg := historywriter.DefaultConfig()
	if err := w.Config("history_writer", &cfg); err != nil {
		return err
	}
	tables, err := stores.Of(w)
	if err != nil {
		return err
	}
	rows, err := tables.History(ctx)
	if err != nil {
		return err
	}
	archive, err := archives.Of(ctx, w)
	if err != nil {
		return err
	}
	log, err := w.Bus(ctx)
	if err != nil {
		return err
	}
	return historywriter.Run(ctx, cfg, historywriter.Deps{Bus: log, Store: rows, Archive: archive, Workers: w.Loops, Log: w.Log, Now: w.Now})
}
