package alerting

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/services/alerting/internal/engine"
	"github.com/millrace/millrace/services/alerting/internal/notify"
)

// metrics counts what alerting decides, for all shares of the process. Safe for concurrent use.
type metrics struct {
	changes, faults, untracked, late *prometheus.CounterVec // by rule
	notifications                    *prometheus.CounterVec // by target and outcome

	log  *slog.Logger
	now  func() time.Time
	mu   sync.Mutex
	said map[string]time.Time // when a fault of a rule was last logged
}

func newMetrics(reg prometheus.Registerer, log *slog.Logger, now func() time.Time) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "millrace", Subsystem: "alerting", Name: name, Help: help}, labels)
	}
	m := &metrics{
		changes:       counter("alarm_changes_total", "Changes of alarms: raised, acknowledged, cleared, updated.", "rule", "change"),
		faults:        counter("condition_faults_total", "Messages on which a rule's condition could not be told.", "rule"),
		untracked:     counter("untracked_total", "Messages of devices' channels that are not followed, since max_tracked are.", "rule"),
		late:          counter("late_total", "Messages that a rule did not look at, since it had judged a later one.", "rule"),
		notifications: counter("notifications_total", "Attempts to tell a target: sent, refused, failed, repeated.", "target", "outcome"),
		log:           log, now: now, said: make(map[string]time.Time),
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.changes, m.faults, m.untracked, m.late, m.notifications} {
		errs = append(errs, reg.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("register alerting's metrics: %w", err)
	}
	return m, nil
}

func (m *metrics) hooks() engine.Hooks {
	return engine.Hooks{
		Changed: func(rule, change string) { m.changes.WithLabelValues(rule, change).Inc() },
		Ignored: func(rule string) { m.late.WithLabelValues(rule).Inc() },
		Fault: func(rule, device, channel string, err error) {
			m.faults.WithLabelValues(rule).Inc()
			m.say("fault "+rule, "a rule's condition could not be told, which neither raises nor clears",
				"rule", rule, "device", device, "channel", channel, "reason", err.Error())
		},
		Untracked: func(rule, device, channel string) {
			m.untracked.WithLabelValues(rule).Inc()
			m.say("untracked "+rule, "max_tracked devices' channels are followed and none is idle, this one is not followed",
				"rule", rule, "device", device, "channel", channel)
		},
	}
}

// ruleChanged returns what tells of a share's rules that are not those of its checkpoint.
func (m *metrics) ruleChanged(share int) func(rule string, there bool, alarms, kept int) {
	return func(rule string, there bool, alarms, kept int) {
		what := "a rule of the checkpoint is gone: its alarms are cleared, and what it knew is dropped"
		if there {
			what = "a rule is not that of the checkpoint: its alarms are cleared, and it begins anew with what was heard of the channels that it still looks at"
		}
		m.log.Warn(what, "rule", rule, "share", share, "alarms_cleared", alarms, "channels_kept", kept)
	}
}

func (m *metrics) outcomes(target string) func(notify.Outcome) {
	return func(o notify.Outcome) { m.notifications.WithLabelValues(target, string(o)).Inc() }
}

// sayEvery is how often one sort of trouble of one rule is logged; the counters have it all.
const sayEvery = time.Minute

func (m *metrics) say(what, message string, attrs ...any) {
	now := m.now()
	m.mu.Lock()
	last, said := m.said[what]
	if !said || now.Sub(last) >= sayEvery {
		m.said[what], said = now, false
	}
	m.mu.Unlock()
	if !said {
		m.log.Warn(message, attrs...)
	}
}
