// Package router is the worker that reads what the edge took, the topic ingested, and sends each message to the topics that routes
// name: channels to telemetry, logs to logs, events to events, and what the configuration adds.
//
// Its promise: every message goes to each endpoint of each route whose condition holds, at most once a topic, in the order of
// its device, under the origin that ingested gave it; what no route wants, and what a condition fails on, goes to the
// fallback; what is no message becomes a dead letter; and what a device sends again within its last message ids is
// dropped, counted. A crash may append messages again, under the same origins, which readers skip; what it had published and not
// committed stays in its home, whatever the routes say by then (see standing). The bytes of a message pass through as they are,
// unless reference data changes it.
//
// It has no store: its progress is the group's commit, and its memory of message ids, and of what is routed already, is read from the log
// again after a start.
//
// Start reading at Run, then task.Add.
package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/worker"
	"github.com/millrace/millrace/services/router/internal/reference"
	"github.com/millrace/millrace/services/router/internal/repeats"
)

// Worker is the name of the worker and of its consumer group.
const Worker = bus.Router

const reloadDefault = time.Second

// Deps is what the router needs. The caller closes it after Run has returned.
type Deps struct {
	Bus     bus.Log               // opened with Config.Topics beside Millrace's own
	Metrics prometheus.Registerer // of this router alone; nil registers nothing
	Workers *worker.Metrics       // of all workers of the process; nil counts nothing
	Log     *slog.Logger
	Now     func() time.Time
}

// Run routes until ctx ends and then finishes what is in hand. It returns an error at once where the configuration is wrong,
// reference data cannot be read for the first time, or the bus does not know an endpoint.
func Run(ctx context.Context, cfg Config, d Deps) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("router: %w", err)
	}
	m, err := newMetrics(d.Metrics, d.Log, d.Now)
	if err != nil {
		return err
	}
	sets, err := openReference(cfg, m)
	if err != nil {
		return fmt.Errorf("router: %w", err)
	}
	t, err := newTable(cfg, sets, m)
	if err != nil {
		return fmt.Errorf("router: %w", err)
	}
	if err := checkTopics(ctx, t.topics, d.Bus); err != nil {
		return fmt.Errorf("router: %w", err)
	}
	loop := newLoop(cfg, d, t)
	all, running := errgroup.WithContext(ctx)
	watching, stop := context.WithCancel(running)
	defer stop()
	for i, set := range sets {
		every := cfg.Reference[i].Reload
		if every == 0 {
			every = reloadDefault
		}
		all.Go(func() error {
			watch(watching, set, every, m)
			return nil
		})
	}
	all.Go(func() error {
		defer stop()
		return loop.Run(running)
	})
	return all.Wait()
}

func newLoop(cfg Config, d Deps, t *table) *worker.Loop[none] {
	partitions := max(d.Bus.Partitions(bus.Ingested), 1)
	devices := (cfg.MaxDevices + partitions - 1) / partitions
	return &worker.Loop[none]{
		Worker: Worker,
		Topics: []string{bus.Ingested},
		Bus:    d.Bus,
		NewTask: func(int) (worker.Task[none], error) {
			if cfg.RepeatWindow == 0 {
				return newTask(t, nil), nil
			}
			return newTask(t, repeats.New(cfg.RepeatWindow, devices)), nil
		},
		Warm: func(ctx context.Context, w worker.Task[none], share bus.Share, progress []bus.Progress) error {
			routing, ok := w.(*task)
			if !ok {
				return nil
			}
			var err error
			if routing.standing, err = t.lookBack(ctx, d.Bus, share.Partitions[0], progress[0].Through); err != nil {
				return err
			}
			if routing.memory == nil {
				return nil
			}
			return warm(ctx, routing.memory, cfg.WarmRecords, share.Partitions[0], progress[0])
		},
		CommitEvery: cfg.CommitEvery,
		Metrics:     d.Workers,
		Log:         d.Log,
		Now:         d.Now,
	}
}

// checkTopics asks the bus whether it knows every endpoint, so that an unknown one is an error now, and not with the first
// message that goes there.
func checkTopics(ctx context.Context, topics []string, log bus.Log) error {
	var errs []error
	for _, topic := range topics {
		if _, err := log.Partition(ctx, bus.PartitionID{Topic: topic}); err != nil {
			errs = append(errs, fmt.Errorf("endpoint %q: %w", topic, err))
		}
	}
	return errors.Join(errs...)
}

func openReference(cfg Config, m *metrics) ([]*reference.Set, error) {
	var sets []*reference.Set
	for _, r := range cfg.Reference {
		set, err := reference.Open(r.from())
		if err != nil {
			return nil, err
		}
		m.referenceRows.WithLabelValues(r.Name).Set(float64(set.Current().Len()))
		sets = append(sets, set)
	}
	return sets, nil
}

// watch follows the file of a set until ctx ends. The faults of a file are logged when they change.
func watch(ctx context.Context, set *reference.Set, every time.Duration, m *metrics) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		changed, err := set.Reload()
		switch {
		case err != nil && err.Error() != said:
			said = err.Error()
			m.referenceFaults.WithLabelValues(set.Name()).Inc()
			m.log.Error("reference data could not be read again, the rows from before stay in use", "reference", set.Name(), "error", err)
		case changed:
			said = ""
			m.referenceRows.WithLabelValues(set.Name()).Set(float64(set.Current().Len()))
			m.log.Info("reference data was read again", "reference", set.Name(), "rows", set.Current().Len())
		}
	}
}
