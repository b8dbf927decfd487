package kafka

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/bus"
)

// metrics counts what the log does. Its methods work on one that was never registered.
type metrics struct {
	*bus.AppendMetrics
	trims, stalls, rebalances, freshProducers, originsDropped prometheus.Counter
}

func newMetrics(registry prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter { return bus.Counter(registry, name, help) }
	return &metrics{
		AppendMetrics:  bus.NewAppendMetrics(registry),
		trims:          counter("records_trimmed_total", "Records that were deleted because every group has read them."),
		stalls:         counter("reads_stalled_total", "Reads that ended because the broker sent nothing: no answer in time, or no records although it has some."),
		rebalances:     counter("rebalances_total", "Times that a member of a group was given its shares, changed or not."),
		freshProducers: counter("producers_total", "Producer ids taken: one at the start, and one for each append whose outcome stayed unknown."),
		originsDropped: counter("origins_dropped_total", "Origins left out of a commit because they did not fit."),
	}
}
