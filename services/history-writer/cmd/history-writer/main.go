// Command history-writer is the worker history-writer as a process of its own.
package main

import (
	"context"
	"errors"

	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/worker"
	historywriter "github.com/millrace/millrace/services/history-writer"
)

func main() { service.Main("history-writer", run, connect.Sections()...) }

func run(ctx context.Context, p *service.Process) (err error) {
	cfg := historywriter.DefaultConfig()
	if err := p.Config("history_writer", &cfg); err != nil {
		return err
	}
	rows, err := connect.Store[store.HistoryWriter]("history-writer", "device_messages and the archive")
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
	return historywriter.Run(ctx, cfg, historywriter.Deps{Bus: log, Store: rows, Workers: workers, Log: p.Log, Now: p.Now})
}
