package nats

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/bus"
)

// metrics counts what the log does. Its methods work on one that was never registered.
type metrics struct {
	*bus.AppendMetrics
	trims prometheus.Counter
}

func newMetrics(registry prometheus.Registerer) *metrics {
	return &metrics{
		AppendMetrics: bus.NewAppendMetrics(registry),
		trims:         bus.Counter(registry, "frames_trimmed_total", "Frames that were purged because every group has read them."),
	}
}

func (m *metrics) trimmed(frames uint64) { m.trims.Add(float64(frames)) }
