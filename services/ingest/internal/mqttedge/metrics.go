package mqttedge

import (
	"errors"
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/mqtt"
)

type metrics struct {
	connects   *prometheus.CounterVec // outcome
	ended      *prometheus.CounterVec // reason
	turnedAway *prometheus.CounterVec // reason
	faults     *prometheus.CounterVec // packet, reason
	pauses     prometheus.Counter
	doubles    prometheus.Counter
	unfollowed prometheus.Counter
	live       prometheus.Counter
	missed     prometheus.Counter
}

func newMetrics(r prometheus.Registerer, open func() float64) (*metrics, error) {
	m := &metrics{
		connects: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_mqtt_connects_total", Help: "CONNECT packets by what came of them.",
		}, []string{"outcome"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_mqtt_connections_ended_total", Help: "Connections that ended, by reason.",
		}, []string{"reason"}),
		turnedAway: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_mqtt_connections_turned_away_total",
			Help: "Connections closed since there were too many: of all, of their address, of their device, or of those without a CONNECT.",
		}, []string{"reason"}),
		faults: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_mqtt_faults_total", Help: "Packets against the protocol, each the end of its connection, by packet and reason code.",
		}, []string{"packet", "reason"}),
		pauses: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "millrace_mqtt_pauses_total", Help: "Pauses in reading from a device over a quota that cannot be told so, or does not heed it.",
		}),
		doubles: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "millrace_mqtt_doubles_total", Help: "Messages of QoS 2 that came again and were not appended again.",
		}),
		unfollowed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "millrace_mqtt_subscriptions_refused_total", Help: "Topic filters of SUBSCRIBE packets that were refused.",
		}),
		live: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "millrace_mqtt_live_messages_total", Help: "Messages sent to subscribers.",
		}),
		missed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "millrace_mqtt_live_missed_total", Help: "Messages that subscribers missed, being slow; they are told.",
		}),
	}
	gauge := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "millrace_mqtt_connections", Help: "Connections that are open.",
	}, open)
	for _, c := range []prometheus.Collector{
		gauge, m.connects, m.ended, m.turnedAway, m.faults, m.pauses, m.doubles, m.unfollowed, m.live, m.missed,
	} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of the MQTT edge: %w", err)
		}
	}
	return m, nil
}

// fault counts err where it is one of the protocol.
func (m *metrics) fault(err error) {
	if fault, ok := errors.AsType[*mqtt.Error](err); ok {
		m.faults.WithLabelValues(fault.Packet.String(), fmt.Sprintf("0x%02x", uint8(fault.Code))).Inc()
	}
}

// labelOf is an ending's reason without what differs from one connection to the next.
func labelOf(e *ending) string {
	why, _, _ := strings.Cut(e.why, ":")
	return strings.ReplaceAll(why, " ", "_")
}
