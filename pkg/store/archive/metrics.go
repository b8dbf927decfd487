package archive

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are what the archive counts.
type Metrics struct {
	rows, files, bytes, failures, fenced, conflicts prometheus.Counter
	memory                                          prometheus.Gauge
	flushSeconds                                    prometheus.Histogram
}

// NewMetrics registers the archive's metrics with reg; with nil they are only counted.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	make := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return make.NewCounter(prometheus.CounterOpts{Namespace: "millrace", Subsystem: "archive", Name: name, Help: help})
	}
	return &Metrics{
		rows:      counter("rows_total", "Rows written into objects."),
		files:     counter("files_total", "Objects of rows written."),
		bytes:     counter("file_bytes_total", "Bytes of those objects."),
		failures:  counter("flush_failures_total", "Flushes that went wrong and were tried again."),
		fenced:    counter("fenced_total", "Partitions whose rows were dropped from memory since another owner had written them."),
		conflicts: counter("record_conflicts_total", "Records whose number another replica had taken."),
		memory: make.NewGauge(prometheus.GaugeOpts{
			Namespace: "millrace", Subsystem: "archive", Name: "memory_bytes", Help: "Bytes of the rows that are in no object yet.",
		}),
		flushSeconds: make.NewHistogram(prometheus.HistogramOpts{
			Namespace: "millrace", Subsystem: "archive", Name: "flush_seconds", Help: "Time of one flush.",
			Buckets: prometheus.ExponentialBuckets(0.01, 4, 8),
		}),
	}
}
