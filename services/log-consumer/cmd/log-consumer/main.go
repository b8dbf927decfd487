// Command log-consumer is the worker log-consumer as a process of its own.
package main

import (
	"context"
	"errors"

	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/worker"
	logconsumer "github.com/millrace/millrace/services/log-consumer"
)

func main() { service.Main("log-consumer", run, connect.Sections()...) }

func run(ctx context.Context, p *service.Process) (err error) {
	cfg := logconsumer.DefaultConfig()
	if err := p.Config("log_consumer", &cfg); err != nil {
		return err
	}
	rows, err := connect.Store[store.LogWriter]("log-consumer", "logs")
	if err != nil {
		return err
	}
	letters, err := connect.Store[store.DeadLetterWriter]("log-consumer", "dead_letters")
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
	return logconsumer.Run(ctx, cfg, logconsumer.Deps{Bus: log, Logs: rows, DeadLetters: letters, Workers: workers, Log: p.Log, Now: p.Now})
}
