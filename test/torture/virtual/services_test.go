package virtual

import (
	"context"
	"errors"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/services/aggregator"
	"github.com/millrace/millrace/services/alerting"
	historywriter "github.com/millrace/millrace/services/history-writer"
	logconsumer "github.com/millrace/millrace/services/log-consumer"
	"github.com/millrace/millrace/services/router"
	stateprojector "github.com/millrace/millrace/services/state-projector"
)

// serve runs the real service of a process until ctx ends or it can go on no more.
func (p *process) serve(ctx context.Context) error {
	p.mu.Lock()
	log, keep := p.log, p.keep
	p.mu.Unlock()
	switch p.service {
	case "router":
		return router.Run(ctx, p.sim.routerConfig(), router.Deps{Bus: log, Log: discard(), Now: time.Now})
	case "state-projector":
		return stateprojector.Run(ctx, stateprojector.DefaultConfig(), stateprojector.Deps{Bus: log, Store: keep.State(), Log: discard(), Now: time.Now})
	case "history-writer":
		stop := p.flushNowAndThen(ctx)
		defer stop()
		return historywriter.Run(ctx, historywriter.DefaultConfig(), historywriter.Deps{
			Bus: log, Store: keep.Messages(), Archive: keep.Segments(), Log: discard(), Now: time.Now,
		})
	case "aggregator":
		return aggregator.Run(ctx, aggregatorConfig(), aggregator.Deps{Bus: log, Store: keep.Aggregates(), Log: discard(), Now: time.Now})
	case "alerting":
		return alerting.Run(ctx, alertingConfig(), alerting.Deps{Bus: log, Store: keep.Alarms(), Log: discard(), Now: time.Now})
	default:
		return logconsumer.Run(ctx, logconsumer.DefaultConfig(), logconsumer.Deps{
			Bus: log, Logs: keep.Logs(), DeadLetters: keep.DeadLetters(), Log: discard(), Now: time.Now,
		})
	}
}

// flushNowAndThen closes segments as a store of files does by itself, by their age.
func (p *process) flushNowAndThen(ctx context.Context) (stop func()) {
	const every = 7 * time.Second
	p.mu.Lock()
	segments := p.keep.Segments()
	p.mu.Unlock()
	flushing, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if errors.Is(segments.Flush(flushing), store.ErrFenced) {
					p.stop() // a share in which nothing is written any more would not hear of it
				}
			case <-flushing.Done():
				return
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// routerConfig returns the routes; later ones put events among the telemetry. Without a simulation they stay.
func (s *sim) routerConfig() router.Config {
	c := router.DefaultConfig()
	if s != nil && s.plan.reroute > 0 && time.Since(s.begun) >= s.plan.reroute {
		c.Routes = []router.Route{{Name: "event", Condition: `kind == "event"`, Endpoints: []string{bus.Telemetry}}}
	}
	return c
}

const (
	lateness      = 5 * time.Second
	correctWithin = time.Minute
	silentFor     = 8 * time.Second
)

func windowLengths() []time.Duration { return []time.Duration{10 * time.Second, 20 * time.Second} }

// hops are how often a window of each length begins.
func hops() []time.Duration { return []time.Duration{10 * time.Second, 10 * time.Second} }

func aggregatorConfig() aggregator.Config {
	c := aggregator.DefaultConfig()
	c.Windows = []aggregator.WindowSpec{
		{Kind: "tumbling", Length: windowLengths()[0]},
		{Kind: "hopping", Length: windowLengths()[1], Hop: hops()[1]},
	}
	c.Lateness, c.CorrectWithin, c.RunningEvery = lateness, correctWithin, 5*time.Second
	return c
}

func alertingConfig() alerting.Config {
	c := alerting.DefaultConfig()
	c.Notify, c.Flap = nil, alerting.Flap{}
	c.Rules = []alerting.Rule{
		{Name: "hot", On: alerting.OnMessages, Channel: "temp", Condition: "hasValue && value > 48", Clear: "hasValue && value < 40"},
		{Name: "door", On: alerting.OnMessages, Channel: "door", OnChange: true, Condition: `new == "open"`},
		{Name: "critical", On: alerting.OnCritical},
		{Name: "silent", On: alerting.OnMessages, Silent: silentFor},
		{Name: "window", On: alerting.OnAggregates, Channel: "hum", Window: 10 * time.Second, Condition: "max > 48", Clear: "max < 40"},
	}
	return c
}
