package connect

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/config"
	"github.com/millrace/millrace/pkg/decoding"
	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
)

// Worker is a worker that is a process of its own, with what it opens.
type Worker struct {
	*service.Process
	Loops *worker.Metrics

	closers []func() error // in the order of opening
}

// Main is the main of a worker's binary: service.Main, with the sections of the configuration file known. What run opened
// through the Worker is closed after it has returned.
func Main(name string, run func(ctx context.Context, w *Worker) error) {
	service.Main(name, func(ctx context.Context, p *service.Process) (err error) {
		loops, err := worker.NewMetrics(p.Metrics)
		if err != nil {
			return err
		}
		loops.DrainWithin(p.Drain / 5 * 4) // the rest is for what run does besides, and closing
		w := &Worker{Process: p, Loops: loops}
		defer func() { err = errors.Join(err, w.close()) }()
		if err := w.keepInHand(); err != nil {
			return err
		}
		return run(ctx, w)
	}, Sections()...)
}

// keepInHand has the loops note what they have in hand where the configuration file names a directory for data, which a worker by itself
// needs for nothing else.
func (w *Worker) keepInHand() error {
	var data string
	if err := w.Config("data", &data); err != nil {
		return fmt.Errorf("data: %w", err)
	}
	if data != "" {
		w.Loops.KeepInHand(filepath.Join(data, "in-hand"))
	}
	return nil
}

func (w *Worker) close() error {
	var errs []error
	for _, closer := range slices.Backward(w.closers) {
		errs = append(errs, closer())
	}
	return errors.Join(errs...)
}

// OnClose lets closer be called when the worker has ended, before what was opened earlier is closed.
func (w *Worker) OnClose(closer func() error) { w.closers = append(w.closers, closer) }

// Bus opens the log that the section "bus" of the configuration file names, and the gate "bus" when it is there. topics are
// those beyond bus.Topics.
func (w *Worker) Bus(ctx context.Context, topics ...string) (bus.Log, error) {
	w.Health.Set("bus", service.ErrStarting)
	cfg := DefaultBus()
	if err := w.Config("bus", &cfg); err != nil {
		return nil, err
	}
	archive := DefaultArchive()
	if err := w.Config("archive", &archive); err != nil {
		return nil, err
	}
	deps := Deps{Log: w.Log, Now: w.Now, Metrics: w.Metrics, Topics: topics, Archive: archive.URL != ""}
	log, err := Patiently(ctx, w.Log, "bus", func() (bus.Log, error) { return Bus(ctx, cfg, deps) })
	if err != nil {
		return nil, err
	}
	w.OnClose(log.Close)
	w.Health.Set("bus", nil)
	return log, nil
}

// Tenant reads the key "tenant" of the configuration file.
func (w *Worker) Tenant(otherwise string) (string, error) {
	tenant := otherwise
	if err := w.Config("tenant", &tenant); err != nil {
		return "", fmt.Errorf("tenant: %w", err)
	}
	return tenant, nil
}

// Decoder returns what reads bodies of devices as the edge does, by the keys of the section "ingest" that say how.
func (w *Worker) Decoder() (*telemetry.Decoder, error) {
	cfg := decoding.DefaultConfig()
	src := w.Source("ingest")
	src.Partly = true
	if err := config.Load(src, &cfg); err != nil {
		return nil, err
	}
	return cfg.Decoder()
}
