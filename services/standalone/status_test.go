package standalone

import (
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/pkg/worker"
)

func TestTheStatusLine(t *testing.T) {
	for _, c := range []struct {
		name   string
		rate   float64
		alarms int64
		want   string
		worker.Status
	}{
		{"nothing unread", 12.4, 0, "12 messages/s | lag state 0 | 0 alarms", worker.Status{Worker: "state-projector", Shares: 4}},
		{"a little", 0, 3, "0 messages/s | lag history 25ms | 3 alarms", worker.Status{Worker: "history-writer", Shares: 4, LagSeconds: 0.025}},
		{"much", 0, -1, "0 messages/s | lag windows 12.5s", worker.Status{Worker: "aggregator", Shares: 4, LagSeconds: 12.5}},
		{"a standby", 0, -1, "0 messages/s | lag router standby", worker.Status{Worker: "router"}},
		{"trouble", 0, -1, "0 messages/s | lag logs RETRYING", worker.Status{Worker: "log-consumer", Shares: 4, Retrying: "write: no"}},
		{"long trouble", 0, -1, "0 messages/s | lag logs RETRYING 126s", worker.Status{Worker: "log-consumer", Shares: 4, Retrying: "write: no", LagSeconds: 125.6}},
		{"one that ended", 0, -1, "0 messages/s | lag logs DOWN", worker.Status{Worker: "log-consumer", Retrying: "the worker has ended"}},
		{"targets are not shown", 0, -1, "0 messages/s | lag", worker.Status{Worker: "notify-log", Shares: 4, LagSeconds: 9}},
	} {
		if got := statusLine(c.rate, []worker.Status{c.Status}, c.alarms); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestTheRateOfARouterThatWasStartedAgain(t *testing.T) {
	for _, c := range []struct {
		before, after uint64
		within        time.Duration
		want          float64
	}{
		{100, 300, 2 * time.Second, 100},
		{300, 50, time.Second, 50}, // it counts from 0 again
		{300, 300, time.Second, 0},
		{0, 1, 0, 1000}, // no time has passed: not infinitely many
	} {
		if got := rate(c.before, c.after, c.within); got != c.want {
			t.Errorf("from %d to %d within %v: %v, want %v", c.before, c.after, c.within, got, c.want)
		}
	}
}

func TestTheGreetingShowsCommandsThatWork(t *testing.T) {
	process, err := service.New("millrace", service.Options{})
	if err != nil {
		t.Fatal(err)
	}
	greet := func(at Endpoints) string {
		var out strings.Builder
		p := &plant{process: process, cfg: Config{Data: "data"}}
		p.greet(Options{Out: &out, Demo: true}, at)
		return out.String()
	}
	usual := greet(Endpoints{HTTP: "http://127.0.0.1:8080", MQTT: "127.0.0.1:1883"})
	for _, want := range []string{"mosquitto_pub -t devices/", `bin/millrace sql "SELECT`, "bin/millrace tail \n", "A simulated house"} {
		if !strings.Contains(usual, want) {
			t.Errorf("%q is missing in:\n%s", want, usual)
		}
	}
	elsewhere := greet(Endpoints{HTTP: "http://127.0.0.1:1", MQTT: "127.0.0.1:2", MQTTS: "127.0.0.1:3", NATS: "nats://127.0.0.1:4"})
	for _, want := range []string{"mosquitto_pub -h 127.0.0.1 -p 2 -t", "sql --url http://127.0.0.1:1 ", "tail --url http://127.0.0.1:1 ", "127.0.0.1:3", "nats://127.0.0.1:4"} {
		if !strings.Contains(elsewhere, want) {
			t.Errorf("%q is missing in:\n%s", want, elsewhere)
		}
	}
	if without := greet(Endpoints{HTTP: "http://127.0.0.1:8080"}); strings.Contains(without, "mosquitto") || strings.Contains(without, "simulated") {
		t.Errorf("without an edge nobody sends over MQTT:\n%s", without)
	}
}

func TestWhenWorkersHaveReadEverything(t *testing.T) {
	records, behind := reading([]worker.Status{
		{Worker: "router", Shares: 4, Records: 7}, {Worker: "aggregator", Records: 2, LagSeconds: 3}, // a standby's lag is another's
	})
	if records != 9 || behind {
		t.Errorf("%d records, behind %t; want 9 and not", records, behind)
	}
	if _, behind := reading([]worker.Status{{Worker: "router", Shares: 1, LagSeconds: 0.001}}); !behind {
		t.Error("a worker with something unread counts as done")
	}
}
