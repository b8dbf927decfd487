package standalone

import (
	"context"
	"time"

	"github.com/millrace/millrace/pkg/store/duckdb"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/aggregator"
	"github.com/millrace/millrace/services/alerting"
	historywriter "github.com/millrace/millrace/services/history-writer"
	logconsumer "github.com/millrace/millrace/services/log-consumer"
	"github.com/millrace/millrace/services/router"
	stateprojector "github.com/millrace/millrace/services/state-projector"
)

// readers returns the workers of this process that read the log, besides live, and the upkeep of the stores.
func (p *plant) readers() []unit {
	c := &p.cfg
	all := []unit{
		{"router", func(ctx context.Context) error {
			return router.Run(ctx, c.Router, router.Deps{Bus: p.bus, Metrics: p.reruns.fresh("router"), Workers: p.loops, Log: p.log, Now: p.process.Now})
		}},
		{"state-projector", func(ctx context.Context) error {
			return stateprojector.Run(ctx, c.StateProjector, stateprojector.Deps{Bus: p.bus, Store: p.keep.state, Workers: p.loops, Log: p.log, Now: p.process.Now})
		}},
		{"history-writer", func(ctx context.Context) error {
			return historywriter.Run(ctx, c.HistoryWriter, historywriter.Deps{Bus: p.bus, Store: p.keep.history, Archive: p.keep.archive, Workers: p.loops, Log: p.log, Now: p.process.Now})
		}},
		{"aggregator", func(ctx context.Context) error {
			return aggregator.Run(ctx, c.Aggregator, aggregator.Deps{Bus: p.bus, Store: p.keep.aggregates, Metrics: p.reruns.fresh("aggregator"), Workers: p.loops, Log: p.log, Now: p.process.Now})
		}},
		{"alerting", func(ctx context.Context) error {
			return alerting.Run(ctx, c.Alerting, alerting.Deps{Bus: p.bus, Store: p.keep.alarms, Metrics: p.reruns.fresh("alerting"), Workers: p.loops, Log: p.log, Now: p.process.Now})
		}},
		{"log-consumer", func(ctx context.Context) error {
			return logconsumer.Run(ctx, c.LogConsumer, logconsumer.Deps{Bus: p.bus, Logs: p.keep.logs, DeadLetters: p.keep.letters, Workers: p.loops, Log: p.log, Now: p.process.Now})
		}},
	}
	var mine []unit
	for _, u := range all {
		if c.runs(u.name) {
			mine = append(mine, u)
		}
	}
	if p.db != nil {
		mine = append(mine, unit{"upkeep", p.trimTables}, unit{"rebuild", p.rebuild})
	}
	return mine
}

// trimTables drops rows that are older than the configuration keeps them.
func (p *plant) trimTables(ctx context.Context) error {
	const every = time.Hour
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		now := p.process.Now()
		var keep duckdb.Retention
		if p.cfg.DuckDB.LogsFor > 0 {
			keep.Logs = telemetry.At(now.Add(-p.cfg.DuckDB.LogsFor))
		}
		if p.cfg.DuckDB.LettersFor > 0 {
			keep.DeadLetters = telemetry.At(now.Add(-p.cfg.DuckDB.LettersFor))
		}
		dropped, err := p.db.Trim(ctx, keep)
		if err != nil && ctx.Err() == nil {
			p.log.Warn("old rows stay for now", "error", err)
		}
		if dropped > 0 {
			p.log.Info("dropped old rows", "rows", dropped)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
