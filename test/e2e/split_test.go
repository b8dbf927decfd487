package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/bus/nats"
)

// splitConfig is one file for all processes, as deploy/split has it, on free ports.
const splitConfig = `
bus:
  url: %s
  synced: true
workers: [state-projector, history-writer, aggregator, alerting, log-consumer, live]
ingest:
  mqtt: {addr: "127.0.0.1:0"}
  http: {addr: "127.0.0.1:0"}
live:
  http: {addr: "127.0.0.1:0"}
`

// split is a deployment of several processes over one NATS server.
type split struct {
	edge   *instance // ingest: where devices send
	stores *instance // millrace run with the rest: where SQL is
	live   *instance // live: where dashboards subscribe
	router *process
}

// overServer starts a NATS server for a test, and writes a configuration into a folder of its own: format, in which %s stands for the
// server's URL.
func overServer(t *testing.T, format string) (dir, config, url string) {
	t.Helper()
	server, err := nats.Embedded(t.Context(), nats.EmbeddedConfig{Dir: t.TempDir(), Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	dir, url = t.TempDir(), server.Addr()
	config = filepath.Join(dir, "millrace.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, format, url), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, config, url
}

func runSplit(t *testing.T) *split {
	t.Helper()
	dir, config, _ := overServer(t, splitConfig)
	s := &split{}
	worker := func(name string) *process { return start(t, name, nil, "--config", config, "--log-format", "json") }
	s.router = worker("router")
	edge, live := worker("ingest"), worker("live")
	s.stores = run(t, dir, "--config", config, "--set", "live.nats=false")
	s.edge = &instance{process: edge, mqtt: edge.logged(t, "listening", "protocol", "mqtt"), http: "http://" + edge.logged(t, "listening", "protocol", "http")}
	s.live = &instance{process: live, http: "http://" + live.logged(t, "serving live events and queries", "", "")}
	return s
}

// logged waits until the process has logged a line with the message and, where key is not empty, the field, and returns the
// line's addr.
func (p *process) logged(t *testing.T, msg, key, value string) (addr string) {
	t.Helper()
	eventually(t, p.name+" says "+msg, func() error {
		select {
		case <-p.exited:
			t.Fatalf("%s ended: %v\n%s", p.name, p.err, p.output.tail(5000))
		default:
		}
		lines := bufio.NewScanner(strings.NewReader(p.output.tail(1 << 20)))
		for lines.Scan() {
			var fields map[string]any
			if json.Unmarshal(lines.Bytes(), &fields) != nil || fields["msg"] != msg || key != "" && fields[key] != value {
				continue
			}
			addr, _ = fields["addr"].(string)
			return nil
		}
		return fmt.Errorf("not yet")
	})
	return addr
}

// sendASample sends the two messages of a gateway and some telemetry over both protocols.
func sendASample(t *testing.T, edge *instance) {
	t.Helper()
	c := dial(t, edge, "homecontroller")
	for _, body := range []string{channelMessage, logMessage} {
		if err := c.Publish(t.Context(), "devices/homecontroller/messages/events/", []byte(body), 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Publish(t.Context(), "devices/homecontroller/channels/door", []byte("open"), 1); err != nil {
		t.Fatal(err)
	}
	var body strings.Builder
	for n := range 120 {
		fmt.Fprintf(&body, `{"DeviceId":"dev%d","temperature":%d,"timestamp":"2026-05-04T10:%02d:%02dZ"}`+"\n", n%2, n, n/60, n%60)
	}
	// A device's own clock closes its windows; without these two they would wait for half a minute of silence.
	body.WriteString(`{"DeviceId":"dev0","temperature":120,"timestamp":"2026-05-04T10:05:00Z"}` + "\n")
	body.WriteString(`{"DeviceId":"dev1","temperature":121,"timestamp":"2026-05-04T10:05:00Z"}` + "\n")
	body.WriteString(`{"DeviceId":"dev1","temperature":`)
	if code, answer := edge.post(t, "/v1/messages", "application/x-ndjson", body.String()); code != http.StatusAccepted {
		t.Fatalf("POST: %d %s", code, answer)
	}
}

// wantTheSample is what the tables hold after sendASample, however the workers are spread over processes.
func wantTheSample(t *testing.T, stores *instance) {
	t.Helper()
	stores.wantRows(t, "SELECT device_id, channel_key, left(channel_value, 16) FROM device_state ORDER BY 1, 2",
		[]string{"dev0", "temperature", "120"}, []string{"dev1", "temperature", "121"},
		[]string{"homecontroller", "door", "open"}, []string{"homecontroller", "status@secvest", `{"Name":"Secvest`})
	stores.wantRows(t, "SELECT count(*), count(DISTINCT (origin_partition, origin_position)), sum(value) FROM device_messages",
		[]string{"124", "124", "7381"})
	stores.wantRows(t, `SELECT device_id, window_seconds, "count", "min", "max", "sum" FROM aggregates
		WHERE window_seconds = 60 AND window_start < '2026-05-04 10:05' ORDER BY device_id, window_start`,
		[]string{"dev0", "60", "30", "0", "58", "870"}, []string{"dev0", "60", "30", "60", "118", "2670"},
		[]string{"dev1", "60", "30", "1", "59", "900"}, []string{"dev1", "60", "30", "61", "119", "2700"})
	stores.wantRows(t, "SELECT device_id, severity, event_time::VARCHAR FROM logs", []string{"homecontroller", "Debug", "2017-04-12 17:05:33.1527207"})
	stores.wantRows(t, "SELECT worker, count(*) FROM dead_letters GROUP BY 1", []string{"ingest", "1"})
	stores.wantRows(t, "SELECT device_id, connected FROM devices WHERE connected", []string{"homecontroller", "true"})
}

// TestSplitProcessesGiveTheSameResult runs ingest, router and live as processes of their own over a NATS server, and the rest in
// `millrace run`; what they make of a sample is what one process makes of it.
func TestSplitProcessesGiveTheSameResult(t *testing.T) {
	one := run(t, t.TempDir())
	sendASample(t, one)
	wantTheSample(t, one)

	s := runSplit(t)
	follower := subscribe(t, s.live, "")
	sendASample(t, s.edge)
	wantTheSample(t, s.stores)
	if e := follower.next(t); e.name != "state" || !strings.Contains(e.data, `"device_id"`) {
		t.Errorf("live sent %+v, want an event of the stream state", e)
	}
	wantNoQueries(t, s.live.http)

	t.Run("a drain ends every process well", func(t *testing.T) {
		follower.close()
		for _, p := range []*process{s.edge.process, s.router, s.live.process, s.stores.process} {
			p.stop(t)
		}
	})
}

// wantNoQueries asks a live worker that has no tables: it says so, and where they are.
func wantNoQueries(t *testing.T, base string) {
	t.Helper()
	resp, err := http.Get(base + "/v1/devices")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusNotImplemented || !strings.Contains(string(b), "millrace run") {
		t.Errorf("GET /v1/devices: %s: %s, want 501 and where to ask", resp.Status, b)
	}
}

// TestAWorkerOfAnEmbeddedStoreSaysSo starts a worker alone whose store exists only within `millrace run`.
func TestAWorkerOfAnEmbeddedStoreSaysSo(t *testing.T) {
	p := start(t, "state-projector", nil, "--set", "bus.url=nats://127.0.0.1:1")
	<-p.exited
	if code := p.cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	for _, want := range []string{"embedded in `millrace run`", "workers: [state-projector]"} {
		if said := p.output.tail(5000); !strings.Contains(said, want) {
			t.Errorf("it says %q, want %q in it", said, want)
		}
	}
}
