package pipeline

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// oddityEvery is how often a device with something odd is named in the log. All are counted; a label for each device would
// be a series for each device.
const oddityEvery = 10 * time.Second

// oddities counts what a decoder found odd. Safe for concurrent use.
type oddities struct {
	log   *slog.Logger
	now   func() time.Time
	count *prometheus.CounterVec
	last  atomic.Int64 // Unix nanoseconds
}

func (o *oddities) note(what, device string) {
	o.count.WithLabelValues(what).Inc()
	now, last := o.now().UnixNano(), o.last.Load()
	if now-last >= int64(oddityEvery) && o.last.CompareAndSwap(last, now) {
		o.log.Info("a device sends something odd", "what", what, "device", device)
	}
}
