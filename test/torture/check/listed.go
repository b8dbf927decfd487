package check

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/test/torture/ledger"
)

// Logs holds the table logs against the ledger.
func Logs(ctx context.Context, s Source, l *ledger.Ledger) (Verdict, error) {
	return listed(ctx, s, l, ledger.Log, "/v1/logs?limit=10000", "logs", func(row map[string]any) (d, n int, ok bool) {
		text, _ := row["message"].(string)
		n, err := strconv.Atoi(text)
		d, ok = deviceOf(l.Plan, row)
		return d, n, ok && err == nil
	})
}

// Letters holds dead_letters against the ledger.
func Letters(ctx context.Context, s Source, l *ledger.Ledger) (Verdict, error) {
	return listed(ctx, s, l, ledger.Broken, "/v1/dead-letters?limit=10000", "dead_letters", func(row map[string]any) (d, n int, ok bool) {
		payload, _ := row["payload"].(string)
		return l.Plan.Letter(payload)
	})
}

// listed holds a table of the messages of a kind against the ledger; which says of whom a row is, and which message.
func listed(ctx context.Context, s Source, l *ledger.Ledger, kind ledger.Kind, path, table string, which func(row map[string]any) (d, n int, ok bool)) (Verdict, error) {
	v := Verdict{Store: table}
	has := make([]map[int]int, l.Plan.Devices)
	err := s.List(ctx, path, table, func(row map[string]any) {
		if d, n, ok := which(row); ok {
			count(has, d, n)
		} else {
			v.Unexpected++
			v.tell("%s: %v", table, row)
		}
	})
	if err != nil {
		return v, err
	}
	for d := range has {
		v.messages(l, d, func(n int) bool { return l.Plan.Kind(n) == kind }, has[d])
	}
	return v, nil
}

func count(has []map[int]int, d, n int) {
	if has[d] == nil {
		has[d] = map[int]int{}
	}
	has[d][n]++
}

func deviceOf(p ledger.Plan, row map[string]any) (d int, ok bool) {
	id, _ := row["device_id"].(string)
	number, ok := strings.CutPrefix(id, p.Name+"-")
	d, err := strconv.Atoi(number)
	return d, ok && err == nil && d < p.Devices
}

// Rules are the alarms that Alarms expects, as a section of the configuration: one each time a device's numbers pass into the upper half
// of a cycle, one of each device whose first window closes, one of each that logs a critical line.
const Rules = `
alerting:
  flap: {max: 0}
  rules:
    - {name: wave, channel: n, condition: "hasValue && int(value) % 400 >= 200", severity: warning}
    - {name: heard, on: aggregates, channel: n, window: 10s, condition: "count > 0.0", severity: info}
    - {name: critical, on: critical, severity: critical}
  notify: []
`

const cycle = 400

// alarm is one that the data call for: a rule, a device, and of the rule wave which cycle.
type alarm struct {
	rule  string
	d, at int
}

// Alarms holds the table alarms against what the acknowledged messages call for.
func Alarms(ctx context.Context, s Source, l *ledger.Ledger) (Verdict, error) {
	v := Verdict{Store: "alarms"}
	has := map[alarm][]string{}
	err := s.List(ctx, "/v1/alarms?limit=10000", "alarms", func(row map[string]any) {
		d, ok := deviceOf(l.Plan, row)
		rule, _ := row["rule"].(string)
		text, _ := row["raised_at"].(string)
		raised, err := time.Parse(time.RFC3339Nano, text)
		if !ok || err != nil {
			v.Unexpected++
			v.tell("alarms: %v", row)
			return
		}
		a := alarm{rule: rule, d: d}
		if rule == "wave" {
			a.at = l.Plan.Number(raised) / cycle
		}
		has[a] = append(has[a], fmt.Sprintf("%v raised at %s, %v at %v, revision %v, value %v, before %v", row["alarm_id"], text, row["state"], row["cleared_at"], row["revision"], row["value"], row["previous_value"]))
	})
	if err != nil {
		return v, err
	}
	for a, certain := range called(l) {
		rows := has[a]
		delete(has, a)
		switch {
		case certain:
			v.Expected++
			if len(rows) > 0 {
				v.Found++
			} else {
				v.Lost++
				v.tell("alarms: %s of %s (cycle %d) is not there", a.rule, l.Plan.Device(a.d), a.at)
			}
		case len(rows) > 0:
			v.Unknown++
		}
		if len(rows) > 1 {
			v.Doubled += len(rows) - 1
			v.tell("alarms: %s of %s (cycle %d) is there %d times: %s", a.rule, l.Plan.Device(a.d), a.at, len(rows), strings.Join(rows, "; "))
		}
	}
	for a, rows := range has {
		v.Unexpected += len(rows)
		v.tell("alarms: nothing calls for %s of %s (cycle %d): %s", a.rule, l.Plan.Device(a.d), a.at, strings.Join(rows, "; "))
	}
	return v, nil
}

// called returns the alarms that messages call for; true where one that was acknowledged does.
func called(l *ledger.Ledger) map[alarm]bool {
	all := map[alarm]bool{}
	for d := range l.Plan.Devices {
		for n := range l.Plan.Each {
			s := l.State(d, n)
			if s.Sent == 0 {
				continue
			}
			add := func(a alarm, certain bool) { all[a] = all[a] || certain }
			switch l.Plan.Kind(n) {
			case ledger.Channel:
				add(alarm{rule: "heard", d: d}, s.Answered)
				if n%cycle >= cycle/2 && !l.Plan.Displaced(n) {
					add(alarm{"wave", d, n / cycle}, s.Answered)
				}
			case ledger.Log:
				if l.Plan.Critical(n) {
					add(alarm{rule: "critical", d: d}, s.Answered)
				}
			case ledger.Broken:
			}
		}
	}
	return all
}
