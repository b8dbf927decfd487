package router

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/telemetry"
)

// metrics counts what the router decides, for all shares of the process. Safe for concurrent use.
type metrics struct {
	routed, faults                         *prometheus.CounterVec // by route
	repeats, fallback, enriched, forgotten prometheus.Counter
	stranded                               prometheus.Counter
	behind                                 prometheus.Histogram
	referenceRows                          *prometheus.GaugeVec // by reference
	referenceFaults                        *prometheus.CounterVec

	log  *slog.Logger
	now  func() time.Time
	mu   sync.Mutex
	said map[*route]time.Time // when a fault of its condition was last logged
}

func newMetrics(reg prometheus.Registerer, log *slog.Logger, now func() time.Time) (*metrics, error) {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "millrace", Subsystem: "router", Name: name, Help: help}
	}
	m := &metrics{
		routed:    prometheus.NewCounterVec(opts("routed_total", "Messages that a route wanted."), []string{"route"}),
		faults:    prometheus.NewCounterVec(opts("condition_faults_total", "Messages on which a route's condition failed."), []string{"route"}),
		repeats:   prometheus.NewCounter(opts("repeats_total", "Messages dropped because their device had sent them before.")),
		fallback:  prometheus.NewCounter(opts("fallback_total", "Messages that no route wanted or a condition failed on.")),
		enriched:  prometheus.NewCounter(opts("enriched_total", "Messages changed by reference data.")),
		forgotten: prometheus.NewCounter(opts("devices_forgotten_total", "Devices whose message ids gave way to those of others.")),
		stranded:  prometheus.NewCounter(opts("stranded_total", "Times a message could not go to a topic because routes changed across a crash: dead letters.")),
		behind: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "millrace", Subsystem: "router", Name: "out_of_order_seconds",
			Help:    "Messages that came after a newer one of their device: by how much their event time is before its.",
			Buckets: []float64{1, 10, 60, 600, 3600, 86_400},
		}),
		referenceRows: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "millrace", Subsystem: "router", Name: "reference_rows", Help: "Rows of reference data in use.",
		}, []string{"reference"}),
		referenceFaults: prometheus.NewCounterVec(opts("reference_faults_total", "Reads of reference data that failed."), []string{"reference"}),
		log:             log,
		now:             now,
		said:            make(map[*route]time.Time),
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.routed, m.faults, m.repeats, m.fallback, m.enriched, m.forgotten, m.stranded, m.behind, m.referenceRows, m.referenceFaults,
	} {
		errs = append(errs, reg.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("register the router's metrics: %w", err)
	}
	return m, nil
}

// faultEvery is how often one route's faults are logged; the counter has them all.
const faultEvery = time.Minute

// fault counts a condition that failed, and logs it now and then.
func (m *metrics) fault(r *route, h *telemetry.Header, fault error) {
	r.faults.Inc()
	now := m.now()
	m.mu.Lock()
	last, said := m.said[r]
	say := !said || now.Sub(last) >= faultEvery
	if say {
		m.said[r] = now
	}
	m.mu.Unlock()
	if say {
		m.log.Warn("a route's condition failed, the message goes to the fallback", "route", r.name, "reason", fault.Error(),
			"device", h.DeviceID, "channel", h.ChannelKey)
	}
}
