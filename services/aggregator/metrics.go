package aggregator

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/services/aggregator/internal/window"
)

// metrics counts for all shares of the process. Safe for concurrent use.
type metrics struct {
	windows              window.Stats
	corrected, forgotten prometheus.Counter
}

// newMetrics registers with reg, unless that is nil.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	const namespace, subsystem = "millrace", "aggregator"
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}
	}
	m := &metrics{
		corrected: prometheus.NewCounter(counter("corrected_total", "Windows that late records changed.")),
		forgotten: prometheus.NewCounter(counter("forgotten_total",
			"Records that came for a window whose state is no longer kept: only history has them.")),
	}
	if reg == nil {
		return m, nil
	}
	reading := func(name, help string, read func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(counter(name, help), func() float64 { return float64(read()) })
	}
	beyond := func(limit string, read func() uint64) prometheus.Collector {
		opts := counter("beyond_limit_total", "Records that were merged into stored windows one by one since a limit was reached.")
		opts.ConstLabels = prometheus.Labels{"limit": limit}
		return prometheus.NewCounterFunc(opts, func() float64 { return float64(read()) })
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.corrected, m.forgotten,
		reading("late_total", "Records that came after their window had closed, by record and window.", m.windows.Late),
		reading("too_late_total", "Records that came too late for their window, by record and window: only history has them.", m.windows.TooLate),
		beyond("devices_max", m.windows.BeyondDevices),
		beyond("channels_max", m.windows.BeyondChannels),
		beyond("windows_max", m.windows.BeyondWindows),
	} {
		errs = append(errs, reg.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("register the aggregator's metrics: %w", err)
	}
	return m, nil
}
