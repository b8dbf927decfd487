package standalone

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/worker"
)

// greet says where everything listens and what to try.
func (p *plant) greet(o Options, at Endpoints) {
	var b strings.Builder
	fmt.Fprintf(&b, "\nMillrace %s takes messages. Everything it keeps is in %s.\n\n", p.process.Version, p.cfg.Data)
	fmt.Fprintf(&b, "  page, API, SQL   %s\n", at.HTTP)
	if at.MQTT != "" {
		fmt.Fprintf(&b, "  devices (MQTT)   %s\n", at.MQTT)
	}
	if at.MQTTS != "" {
		fmt.Fprintf(&b, "  devices (MQTTS)  %s\n", at.MQTTS)
	}
	if at.NATS != "" {
		fmt.Fprintf(&b, "  live (NATS)      %s, subjects live.<stream>.<device>.<channel>\n", at.NATS)
	}
	b.WriteString("\nTry, in another terminal:\n\n")
	if host, port, err := net.SplitHostPort(at.MQTT); err == nil {
		where := ""
		if host != "127.0.0.1" || port != "1883" {
			where = fmt.Sprintf("-h %s -p %s ", host, port)
		}
		fmt.Fprintf(&b, "  mosquitto_pub %s-t devices/dev1/channels/temperature -m 21.5 -q 1\n", where)
	}
	url := ""
	if at.HTTP != "http://127.0.0.1:8080" {
		url = "--url " + at.HTTP + " "
	}
	fmt.Fprintf(&b, "  bin/millrace sql %s\"SELECT device_id, channel_key, channel_value, event_time FROM device_state\"\n", url)
	fmt.Fprintf(&b, "  bin/millrace tail %s\n\n", url)
	if o.Demo && at.MQTT != "" {
		b.WriteString("A simulated house and laboratory are sending. ")
	}
	b.WriteString("Ctrl-C finishes what is in hand and stops.\n\n")
	_, _ = fmt.Fprint(o.Out, b.String())
}

// showStatus prints the status line until ctx ends: in place on a terminal, now and then elsewhere.
func (p *plant) showStatus(ctx context.Context, o Options) {
	every := 30 * time.Second
	if o.Terminal {
		every = time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	before, at := p.taken(), p.process.Now()
	for {
		select {
		case <-ctx.Done():
			if o.Terminal {
				_, _ = fmt.Fprintln(o.Out)
			}
			return
		case <-tick.C:
		}
		taken, now := p.taken(), p.process.Now()
		line := statusLine(rate(before, taken, now.Sub(at)), p.loops.Statuses(), p.raisedAlarms(ctx))
		before, at = taken, now
		if o.Terminal {
			_, _ = fmt.Fprintf(o.Out, "\r\x1b[K%s", line)
		} else {
			_, _ = fmt.Fprintln(o.Out, line)
		}
	}
}

// rate is per second; a router that was started again counts from 0.
func rate(before, after uint64, within time.Duration) float64 {
	if after < before {
		before = 0
	}
	return float64(after-before) / max(within.Seconds(), 1e-3)
}

// taken returns how many messages the router has taken, which is what the edge accepted, a moment later.
func (p *plant) taken() uint64 {
	for _, s := range p.loops.Statuses() {
		if s.Worker == "router" {
			return s.Records
		}
	}
	return 0
}

// raisedAlarms counts the alarms that are not cleared; -1 where this process cannot know.
func (p *plant) raisedAlarms(ctx context.Context) int64 {
	const patience = time.Second
	if p.db == nil {
		return -1
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer, err := p.db.Rows(ctx, "SELECT count(*) FROM alarms WHERE state <> 'cleared'")
	if err != nil {
		return -1
	}
	defer answer.Close() //nolint:contextcheck // it ends a transaction, whatever has become of ctx
	for row, err := range answer.Rows() {
		if err != nil {
			return -1
		}
		if n, ok := row[0].(int64); ok {
			return n
		}
	}
	return -1
}

// statusLine is one line for people: rate, lag of each worker, alarms.
func statusLine(perSecond float64, workers []worker.Status, alarms int64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%.0f messages/s | lag", perSecond)
	for _, w := range workers {
		if strings.HasPrefix(w.Worker, "notify-") {
			continue
		}
		fmt.Fprintf(&b, " %s %s", short(w.Worker), lag(w))
	}
	if alarms >= 0 {
		fmt.Fprintf(&b, " | %d alarms", alarms)
	}
	return b.String()
}

func lag(w worker.Status) string {
	switch {
	case w.Retrying != "" && w.Shares == 0:
		return "DOWN"
	case w.Retrying != "" && w.LagSeconds >= 1:
		return fmt.Sprintf("RETRYING %.0fs", w.LagSeconds)
	case w.Retrying != "":
		return "RETRYING"
	case w.Shares == 0:
		return "standby"
	case w.LagSeconds < 0.0005:
		return "0"
	case w.LagSeconds < 1:
		return fmt.Sprintf("%.0fms", w.LagSeconds*1000)
	}
	return fmt.Sprintf("%.1fs", w.LagSeconds)
}

// short names keep the line on one line.
func short(worker string) string {
	switch worker {
	case "state-projector":
		return "state"
	case "history-writer":
		return "history"
	case "aggregator":
		return "windows"
	case "log-consumer":
		return "logs"
	case "dead-letter-writer":
		return "dead"
	}
	return worker
}
