package live

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what is asked.
type metrics struct {
	requests          *prometheus.CounterVec   // by route and code
	seconds           *prometheus.HistogramVec // by route, streams left out
	published, failed prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "millrace", Subsystem: "live", Name: name, Help: help}
	}
	m := &metrics{
		requests: prometheus.NewCounterVec(opts("requests_total", "Requests answered; a stream counts when it ends."), []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "millrace", Subsystem: "live", Name: "request_seconds", Help: "How long an answer took, streams left out.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 12),
		}, []string{"route"}),
		published: prometheus.NewCounter(opts("nats_published_total", "Events published onto NATS subjects.")),
		failed:    prometheus.NewCounter(opts("nats_failed_total", "Events that NATS did not take; they are not sent again.")),
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.published, m.failed} {
		errs = append(errs, reg.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("register the metrics of live: %w", err)
	}
	return m, nil
}
