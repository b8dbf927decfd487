// Command alerting is the worker alerting as a process of its own.
package main

import (
	"context"
	"errors"

	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/worker"
	alerting "github.com/millrace/millrace/services/alerting"
)

func main() { service.Main("alerting", run, connect.Sections()...) }

func run(ctx context.Context, p *service.Process) (err error) {
	cfg := alerting.DefaultConfig()
	if err := p.Config("alerting", &cfg); err != nil {
		return err
	}
	rows, err := connect.Store[store.AlarmWriter]("alerting", "alarms")
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
	return alerting.Run(ctx, cfg, alerting.Deps{Bus: log, Store: rows, Metrics: p.Metrics, Workers: workers, Log: p.Log, Now: p.Now})
}
