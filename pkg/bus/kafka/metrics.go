package kafka

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what the log does. Its methods work on one that was never registered.
type metrics struct {
	frames, records, bytes, trims, stalls, rebalances, freshProducers, originsDropped prometheus.Counter
	faults                                                                            *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return register(registry, prometheus.NewCounter(prometheus.CounterOpts{Namespace: "millrace", Subsystem: "bus", Name: name, Help: help}))
	}
	return &metrics{
		frames:         counter("frames_appended_total", "Frames that the log has acknowledged."),
		records:        counter("records_appended_total", "Records in the frames that the log has acknowledged."),
		bytes:          counter("bytes_appended_total", "Bytes of the frames that the log has acknowledged."),
		trims:          counter("records_trimmed_total", "Records that were deleted because every group has read them."),
		stalls:         counter("reads_stalled_total", "Reads that ended because the broker sent nothing: no answer in time, or no records although it has some."),
		rebalances:     counter("rebalances_total", "Times that a member of a group was given its shares, changed or not."),
		freshProducers: counter("producers_total", "Producer ids taken: one at the start, and one for each append whose outcome stayed unknown."),
		originsDropped: counter("origins_dropped_total", "Origins left out of a commit because they did not fit."),
		faults: register(registry, prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "millrace", Subsystem: "bus", Name: "append_errors_total",
			Help: "Frames that were not acknowledged: refused (full, too large), or of unknown outcome.",
		}, []string{"outcome"})),
	}
}

// register returns the collector of that name that the registry has already, since several logs may share one.
func register[C prometheus.Collector](registry prometheus.Registerer, c C) C {
	if registry == nil {
		return c
	}
	err := registry.Register(c)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if same, ok := already.ExistingCollector.(C); ok {
			return same
		}
	}
	return c
}

func (m *metrics) appended(records, bytes int) {
	m.frames.Inc()
	m.records.Add(float64(records))
	m.bytes.Add(float64(bytes))
}

func (m *metrics) refused() { m.faults.WithLabelValues("refused").Inc() }
func (m *metrics) failed()  { m.faults.WithLabelValues("unknown").Inc() }
