package bus

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// AppendMetrics counts what a driver's Append does, under the same names for every driver. Its methods work on one that was never
// registered, and are safe for concurrent use.
type AppendMetrics struct {
	frames, records, bytes prometheus.Counter
	faults                 *prometheus.CounterVec
}

// NewAppendMetrics registers the counters; nil registers nothing.
func NewAppendMetrics(registry prometheus.Registerer) *AppendMetrics {
	return &AppendMetrics{
		frames:  Counter(registry, "frames_appended_total", "Frames that the log has acknowledged."),
		records: Counter(registry, "records_appended_total", "Records in the frames that the log has acknowledged."),
		bytes:   Counter(registry, "bytes_appended_total", "Bytes of the frames that the log has acknowledged."),
		faults: registered(registry, prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "millrace", Subsystem: "bus", Name: "append_errors_total",
			Help: "Frames that were not acknowledged: refused (full, too large), or of unknown outcome.",
		}, []string{"outcome"})),
	}
}

// Appended counts a frame that the log has acknowledged.
func (m *AppendMetrics) Appended(records, bytes int) {
	m.frames.Inc()
	m.records.Add(float64(records))
	m.bytes.Add(float64(bytes))
}

// Refused counts a frame that the log does not take: it is full, or the frame too large.
func (m *AppendMetrics) Refused() { m.faults.WithLabelValues("refused").Inc() }

// Failed counts a frame of which nobody knows whether the log has it.
func (m *AppendMetrics) Failed() { m.faults.WithLabelValues("unknown").Inc() }

// Counter returns the counter millrace_bus_NAME, the one that registry has already where there is one, since several logs may share
// a registry; nil registers nothing.
func Counter(registry prometheus.Registerer, name, help string) prometheus.Counter {
	return registered(registry, prometheus.NewCounter(prometheus.CounterOpts{Namespace: "millrace", Subsystem: "bus", Name: name, Help: help}))
}

func registered[C prometheus.Collector](registry prometheus.Registerer, c C) C {
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
