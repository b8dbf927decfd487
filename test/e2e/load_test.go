package e2e

import (
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/loadtest"
	"github.com/millrace/millrace/pkg/mqtt"
)

// messages returns how many messages the load tests send: MILLRACE_E2E_MESSAGES, else a million, less with -short.
func messages(t *testing.T) int {
	t.Helper()
	if s := os.Getenv("MILLRACE_E2E_MESSAGES"); s != "" {
		return number(t, s)
	}
	if testing.Short() {
		return 50_000
	}
	return 1_000_000
}

// TestAMillionMessagesAreAllThereOnce sends from 1,000 devices as fast as messages are taken, half over MQTT and half over
// HTTP, and then looks at every store.
func TestAMillionMessagesAreAllThereOnce(t *testing.T) {
	in := run(t, t.TempDir())
	const devices = 1000
	each := messages(t) / devices
	// Three hours ago, so that every window has ended; ten messages a second of each device.
	begin := time.Now().UTC().Truncate(time.Hour).Add(-3 * time.Hour)
	at := func(n int) time.Time { return begin.Add(time.Duration(n) * 100 * time.Millisecond) }
	started := time.Now()
	var all sync.WaitGroup
	const senders = 10
	for s := range senders {
		own := func(i int) int { return s*devices/senders + i }
		all.Go(func() {
			if s%2 == 0 {
				sendMQTT(t, in, "sender-"+strconv.Itoa(s), devices/senders, each, own, at)
			} else {
				sendHTTP(t, in, devices/senders, each, own, at)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	t.Logf("%d messages acknowledged after %v", devices*each, time.Since(started).Round(time.Millisecond))
	total := strconv.Itoa(devices * each)
	in.wantRows(t, "SELECT count(*) FROM device_messages", []string{total})
	t.Logf("visible to SQL after %v", time.Since(started).Round(time.Millisecond))
	in.wantRows(t, "SELECT count(DISTINCT (device_id, event_time)), count(DISTINCT device_id) FROM device_messages", []string{total, strconv.Itoa(devices)})
	sum := 0
	for n := range each {
		sum += n % 1000
	}
	in.wantRows(t, "SELECT sum(value)::BIGINT FROM device_messages", []string{strconv.Itoa(devices * sum)})
	in.wantRows(t, "SELECT count(*), min(value)::BIGINT, max(value)::BIGINT, count(DISTINCT event_time) FROM device_state",
		[]string{strconv.Itoa(devices), strconv.Itoa((each - 1) % 1000), strconv.Itoa((each - 1) % 1000), "1"})
	in.wantRows(t, "SELECT count(*) FROM dead_letters", []string{"0"})
	for _, window := range []string{"10", "60", "3600"} {
		in.wantRows(t, windowsDiffer(window), []string{"0"})
	}
}

func sendMQTT(t *testing.T, in *instance, client string, devices, each int, own func(int) int, at func(int) time.Time) {
	t.Helper()
	c, err := mqtt.Dial(t.Context(), mqtt.ClientOptions{Addr: in.mqtt, ClientID: client, CleanStart: true, MaxInflight: 2000})
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = c.Close() }()
	var body, topic []byte
	done := func(err error) {
		if err != nil {
			t.Errorf("%s: %v", client, err)
		}
	}
	for n := range each {
		for i := range devices {
			body = loadtest.Message(body[:0], own(i), n, at(n))
			topic = append(loadtest.AppendDevice(append(topic[:0], "devices/"...), own(i)), "/messages/events/"...)
			if err := c.PublishAsync(string(topic), body, 1, nil, done); err != nil {
				t.Errorf("%s: %v", client, err)
				return
			}
		}
	}
	if err := c.Drain(t.Context()); err != nil {
		t.Errorf("%s: %v", client, err)
	}
}

func sendHTTP(t *testing.T, in *instance, devices, each int, own func(int) int, at func(int) time.Time) {
	t.Helper()
	const batch = 10 // messages of each device in a request
	var body []byte
	for n := 0; n < each; n += batch {
		body = body[:0]
		for m := n; m < min(n+batch, each); m++ {
			for i := range devices {
				body = append(loadtest.Message(body, own(i), m, at(m)), '\n')
			}
		}
		if code, answer := in.post(t, "/v1/messages", "application/x-ndjson", string(body)); code != 202 {
			t.Errorf("%d %s", code, answer)
			return
		}
	}
}
