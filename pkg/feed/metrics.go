package feed

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what a hub does.
type metrics struct {
	subscribers         prometheus.Gauge
	events              *prometheus.CounterVec // by stream
	missed, undecodable prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "millrace", Subsystem: "feed", Name: name, Help: help}
	}
	m := &metrics{
		subscribers: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "millrace", Subsystem: "feed", Name: "subscribers", Help: "Who follows live now.",
		}),
		events:      prometheus.NewCounterVec(opts("events_total", "Events that at least one subscriber got."), []string{"stream"}),
		missed:      prometheus.NewCounter(opts("missed_total", "Events that a subscriber missed because it was too slow, or the log had trimmed them.")),
		undecodable: prometheus.NewCounter(opts("undecodable_total", "Records that are not what their topic holds.")),
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.subscribers, m.events, m.missed, m.undecodable} {
		errs = append(errs, reg.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("register the metrics of the live feed: %w", err)
	}
	return m, nil
}
