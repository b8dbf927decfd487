package pipeline

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/telemetry"
)

// Metrics counts what both edges take and refuse.
type Metrics struct {
	messages *prometheus.CounterVec // protocol, outcome
	rejected *prometheus.CounterVec // protocol, reason
	bytes    *prometheus.CounterVec // protocol
	odd      *prometheus.CounterVec // what
	failed   *prometheus.CounterVec // protocol
	quota    *prometheus.CounterVec // protocol, quota, action
	latency  *prometheus.HistogramVec
}

// NewMetrics registers them.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_ingest_messages_total",
			Help: "Messages that devices sent: accepted, rejected (to dead letters or to the sender), or over their rate.",
		}, []string{"protocol", "outcome"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_ingest_rejected_total",
			Help: "Records that were not taken, by reason.",
		}, []string{"protocol", "reason"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_ingest_received_bytes_total",
			Help: "Bytes of the bodies that devices sent, decompressed.",
		}, []string{"protocol"}),
		odd: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_ingest_oddities_total",
			Help: "Messages that were taken with something odd about them, such as a clock that runs ahead.",
		}, []string{"what"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_ingest_failed_records_total",
			Help: "Records that the log did not take, or whose outcome is unknown. Their senders got no acknowledgement; QoS 0 expects none, and is lost.",
		}, []string{"protocol"}),
		quota: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_ingest_over_quota_total",
			Help: "Messages of devices over a quota: refused to their sender, or taken and the sender, which cannot be told, read more slowly.",
		}, []string{"protocol", "quota", "action"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "millrace_ingest_ack_seconds",
			Help:    "From a message's arrival until the log has it on disk; of several that one append took, the one that waited longest.",
			Buckets: prometheus.ExponentialBuckets(0.000_25, 2, 16),
		}, []string{"protocol"}),
	}
	for _, c := range []prometheus.Collector{m.messages, m.rejected, m.bytes, m.odd, m.failed, m.quota, m.latency} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of the pipeline: %w", err)
		}
	}
	return m, nil
}

// Of returns the counters of one protocol, "mqtt" or "http".
func (m *Metrics) Of(protocol string) *Counters {
	c := &Counters{
		accepted: m.messages.WithLabelValues(protocol, "accepted"),
		refused:  m.messages.WithLabelValues(protocol, "rejected"),
		limited:  m.messages.WithLabelValues(protocol, "over_rate"),
		bytes:    m.bytes.WithLabelValues(protocol),
		failed:   m.failed.WithLabelValues(protocol),
		Latency:  m.latency.WithLabelValues(protocol),
		reasons:  m.rejected.MustCurryWith(prometheus.Labels{"protocol": protocol}),
	}
	for q := range quotas {
		if q != QuotaNone {
			c.over[q] = m.quota.WithLabelValues(protocol, q.String(), "refused")
			c.paused[q] = m.quota.WithLabelValues(protocol, q.String(), "slowed")
		}
	}
	return c
}

// Counters are those of one protocol. Safe for concurrent use.
type Counters struct {
	accepted, refused, limited, bytes, failed prometheus.Counter
	reasons                                   *prometheus.CounterVec
	over, paused                              [quotas]prometheus.Counter
	// Latency takes the seconds from a message's arrival to its place on disk.
	Latency prometheus.Observer
}

// Refuse counts n records that an edge refused by itself, such as those of a topic that does not exist.
func (c *Counters) Refuse(reason string, n int) {
	c.refused.Add(float64(n))
	c.reasons.WithLabelValues(reason).Add(float64(n))
}

// refuse counts messages of a device that is over a quota.
func (c *Counters) refuse(q Quota, messages int) {
	c.limited.Add(float64(messages))
	c.over[q].Add(float64(messages))
}

// RefuseUnread counts a request that was refused unread, since its device is over a quota.
func (c *Counters) RefuseUnread(q Quota) { c.refuse(q, 1) }

// Fail counts n records that were submitted and are not known to be on disk.
func (c *Counters) Fail(n int) { c.failed.Add(float64(n)) }

// reasonOf is the label of a decoder's refusal.
func reasonOf(err error) string {
	switch {
	case errors.Is(err, telemetry.ErrForeignDevice):
		return "foreign_device"
	case TooLarge(err):
		return "too_large"
	default:
		return "malformed"
	}
}

// Foreign reports whether a record was rejected because its sender may not speak for its device.
func Foreign(err error) bool { return errors.Is(err, telemetry.ErrForeignDevice) }

// TooLarge reports whether a record was rejected because of its size.
func TooLarge(err error) bool {
	return errors.Is(err, telemetry.ErrRecordTooLarge) || errors.Is(err, errMessageTooLarge)
}
