package worker

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/bus"
)

// Metrics counts what the loops of one process do; make one with NewMetrics and give it to all of them. Safe for concurrent
// use.
type Metrics struct {
	records, refused, doubles, published              *prometheus.CounterVec // by worker and topic
	rows, commits, retries, panics, hangs, isolations *prometheus.CounterVec // by worker
	write                                             *prometheus.HistogramVec

	inHandDir string        // see KeepInHand
	drain     time.Duration // see DrainWithin

	mu      sync.Mutex
	workers []*workerTrack
	down    map[string]string // why workers have ended that do not run again yet
}

// NewMetrics returns metrics registered with reg: the counters millrace_worker_…_total, the histogram
// millrace_worker_write_seconds, and the gauges millrace_worker_lag_seconds, millrace_worker_behind_records and millrace_worker_shares, which are
// computed when they are asked for. It fails where reg has them already: a registerer takes one Metrics.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	m := newMetrics()
	var errs []error
	for _, c := range []prometheus.Collector{
		m.records, m.refused, m.doubles, m.published, m.rows, m.commits, m.retries, m.panics, m.hangs, m.isolations, m.write, newLagCollector(m),
	} {
		errs = append(errs, reg.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("register the metrics of workers: %w", err)
	}
	return m, nil
}

// KeepInHand makes the loops that run from now on keep a note of the record that they have in hand in a file of dir, which the next process
// reads: a record with which the process has died several times becomes a dead letter. The directory must outlive the process, and may be that of
// others on the machine. Call it before any loop runs.
func (m *Metrics) KeepInHand(dir string) { m.inHandDir = dir }

// DrainWithin sets how long work in hand may outlive the context of the loops that run from now on and say nothing of it themselves. It has to be
// less than what the whole process has, so that a write that is slow is not cut short. Call it before any loop runs.
func (m *Metrics) DrainWithin(d time.Duration) { m.drain = d }

func newMetrics() *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "millrace", Subsystem: "worker", Name: name, Help: help,
		}, labels)
	}
	return &Metrics{
		records:    counter("records_total", "Records read, doubles and refused ones included.", "worker", "topic"),
		refused:    counter("refused_total", "Records and rows that became dead letters; of rows topic is empty.", "worker", "topic"),
		doubles:    counter("doubles_total", "Records skipped because their origin was taken before.", "worker", "topic"),
		published:  counter("published_total", "Records published.", "worker", "topic"),
		rows:       counter("rows_total", "Rows given to the store.", "worker"),
		commits:    counter("commits_total", "Commits of rows, progress and state.", "worker"),
		retries:    counter("retries_total", "Steps that went wrong and are tried again.", "worker"),
		panics:     counter("panics_total", "Panics of the worker's task.", "worker"),
		hangs:      counter("hangs_total", "Times that the worker's task did not come back from a record and was given up.", "worker"),
		isolations: counter("isolations_total", "Times that fewer records were taken at once, since the store wrote others and not these.", "worker"),
		write: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "millrace", Subsystem: "worker", Name: "write_seconds", Help: "How long a write of rows, progress and state took.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, []string{"worker"}),
	}
}

func (m *Metrics) enter(worker string, now clock) *workerTrack {
	t := &workerTrack{name: worker, now: now}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.down, worker)
	m.workers = append(m.workers, t)
	return t
}

func (m *Metrics) leave(t *workerTrack) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.workers {
		if m.workers[i] == t {
			m.workers = append(m.workers[:i:i], m.workers[i+1:]...)
			return
		}
	}
}

// Ended says that a worker has ended by an error and is to run again later: it is shown as down until then. A nil err takes that back.
func (m *Metrics) Ended(worker string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		delete(m.down, worker)
		return
	}
	if m.down == nil {
		m.down = make(map[string]string)
	}
	m.down[worker] = "the worker has ended, and is started again: " + err.Error()
}

func (m *Metrics) ended() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.down)
}

func (m *Metrics) running() []*workerTrack {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clip(m.workers)
}

func (m *Metrics) newPartTrack(worker string, id bus.PartitionID) *partTrack {
	return &partTrack{
		id:      id,
		records: m.records.WithLabelValues(worker, id.Topic),
		refused: m.refused.WithLabelValues(worker, id.Topic),
		doubles: m.doubles.WithLabelValues(worker, id.Topic),
	}
}

// lagCollector computes the lag of all partitions when Prometheus asks.
type lagCollector struct {
	metrics             *Metrics
	lag, behind, shares *prometheus.Desc
}

func newLagCollector(m *Metrics) *lagCollector {
	labels := []string{"worker", "topic"}
	return &lagCollector{
		metrics: m,
		lag: prometheus.NewDesc("millrace_worker_lag_seconds",
			"How long the oldest unread record has waited at most, of the partition that is furthest behind; 0 where nothing is unread.", labels, nil),
		behind: prometheus.NewDesc("millrace_worker_behind_records",
			"How many positions of the log are appended and not committed, as of the last look.", labels, nil),
		shares: prometheus.NewDesc("millrace_worker_shares",
			"Shares of the log that this process works on, 0 while it stands by or the worker is down. Over all processes it is the number of partitions; what is missing nobody reads.",
			[]string{"worker"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *lagCollector) Describe(out chan<- *prometheus.Desc) {
	out <- c.lag
	out <- c.behind
	out <- c.shares
}

// Collect implements prometheus.Collector.
func (c *lagCollector) Collect(out chan<- prometheus.Metric) {
	type key struct{ worker, topic string }
	lag, behind, shares := make(map[key]float64), make(map[key]uint64), make(map[string]int)
	for name := range c.metrics.ended() {
		shares[name] = 0
	}
	for _, w := range c.metrics.running() {
		now := w.now().UnixNano()
		owned := w.owned()
		shares[w.name] += len(owned)
		for _, s := range owned {
			for _, p := range s.parts {
				k := key{w.name, p.id.Topic}
				lag[k] = max(lag[k], p.lagSeconds(now, s))
				behind[k] += p.behind()
			}
		}
	}
	for k, v := range lag {
		out <- prometheus.MustNewConstMetric(c.lag, prometheus.GaugeValue, v, k.worker, k.topic)
		out <- prometheus.MustNewConstMetric(c.behind, prometheus.GaugeValue, float64(behind[k]), k.worker, k.topic)
	}
	for name, n := range shares {
		out <- prometheus.MustNewConstMetric(c.shares, prometheus.GaugeValue, float64(n), name)
	}
}
