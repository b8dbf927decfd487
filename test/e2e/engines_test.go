package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/pkg/enginetest"
	"github.com/millrace/millrace/pkg/store/archive"
	"github.com/millrace/millrace/pkg/store/archive/bucket"
)

// engineSet is where a deployment keeps things: its configuration, and the nodes that are killed in turn.
type engineSet struct {
	own     string // the database, schema, prefix that no other run uses
	config  string
	nodes   []engineNode
	archive *bucket.Config // of the archive on object storage; nil where there is none
}

type engineNode struct {
	*enginetest.Engine
	name string
	node int
}

// nodesOf returns every node of some engines.
func nodesOf(engines map[string]*enginetest.Engine, order ...string) []engineNode {
	var all []engineNode
	for _, name := range order {
		for n := range engines[name].Nodes() {
			all = append(all, engineNode{engines[name], name, n + 1})
		}
	}
	return all
}

// enginesConfig is what every set has besides its engines. Alarms tell that each device passed its hundredth message, once.
const enginesConfig = `
ingest:
  mqtt: {addr: "127.0.0.1:0"}
  http: {addr: "127.0.0.1:0"}
live:
  http: {addr: "127.0.0.1:0"}
alerting:
  rules:
    - {name: hundredth, channel: n, condition: "hasValue && value >= 100.0", severity: warning, summary: "{device} sent {value}"}
  notify: []
`

// ownName returns a name that no other run uses, of letters and digits.
func ownName() string { return "e2e" + strconv.FormatUint(rand.Uint64(), 36) }

// overNATS is the set NATS cluster, ClickHouse, PostgreSQL.
func overNATS(t *testing.T) engineSet {
	t.Helper()
	engines := map[string]*enginetest.Engine{}
	for _, name := range []string{"nats-cluster", "clickhouse", "postgres"} {
		engines[name] = enginetest.Need(t, name)
	}
	own := ownName()
	return engineSet{
		own:   own,
		nodes: nodesOf(engines, "nats-cluster", "clickhouse", "postgres"),
		config: fmt.Sprintf(`
bus: {url: %q, prefix: %s, replicas: 3, synced: true, retention: {bytes: 64MiB}} # a cluster reserves it for each topic
stores: {state: clickhouse, history: clickhouse, aggregates: clickhouse, alarms: postgres, logs: clickhouse, dead_letters: clickhouse}
clickhouse: {url: %q, history_for: 0s, logs_for: 0s}
postgres: {url: %q, schema: %s}
`, engines["nats-cluster"].URL, own, withPath(t, engines["clickhouse"].URL, own), engines["postgres"].URL, own) + enginesConfig,
	}
}

// overKafka is the set Kafka, ClickHouse, Elasticsearch, S3.
func overKafka(t *testing.T) engineSet {
	t.Helper()
	engines := map[string]*enginetest.Engine{}
	for _, name := range []string{"kafka", "clickhouse", "elasticsearch", "s3"} {
		engines[name] = enginetest.Need(t, name)
	}
	own, s3 := ownName(), engines["s3"]
	archive := &bucket.Config{URL: withPath(t, s3.URL, own), AccessKey: s3.Get("access_key"), SecretKey: s3.Get("secret_key")}
	return engineSet{
		own:     own,
		archive: archive,
		nodes:   nodesOf(engines, "kafka", "clickhouse", "elasticsearch", "s3"),
		config: fmt.Sprintf(`
bus: {url: %q, prefix: %s.}
stores: {state: clickhouse, history: clickhouse, aggregates: clickhouse, alarms: clickhouse, logs: elasticsearch, dead_letters: elasticsearch}
clickhouse: {url: %q, history_for: 0s}
elasticsearch: {url: %q, prefix: %s, logs_for: 0s}
archive: {url: %q, access_key: %q, secret_key: %q, file_age: 5s}
`, engines["kafka"].URL, own, withPath(t, engines["clickhouse"].Get("http_url"), own), engines["elasticsearch"].URL, own,
			archive.URL, archive.AccessKey, archive.SecretKey) + enginesConfig,
	}
}

// namedSet is a set of engines by its name.
type namedSet struct {
	name string
	over func(*testing.T) engineSet
}

func sets() []namedSet {
	return []namedSet{{"NATS, ClickHouse, PostgreSQL", overNATS}, {"Kafka, ClickHouse, Elasticsearch and S3", overKafka}}
}

// withPath puts a path into a URL: the database of a ClickHouse, the prefix of a bucket.
func withPath(t *testing.T, text, path string) string {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + path
	return u.String()
}

// deployment is every worker twice, each a process of its own.
type deployment struct {
	config   string
	mu       sync.Mutex
	replicas map[string][2]*process
	edges    [2]*instance
	lives    [2]*instance
}

func deploy(t *testing.T, set engineSet) *deployment {
	t.Helper()
	dir := t.TempDir()
	d := &deployment{config: filepath.Join(dir, "millrace.yml"), replicas: map[string][2]*process{}}
	if err := os.WriteFile(d.config, []byte("data: "+dir+"\n"+set.config), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"done.", "up to date."} {
		migrate := start(t, "millrace", nil, "migrate", "--config", d.config)
		<-migrate.exited
		if said := migrate.output.tail(5000); migrate.err != nil || !strings.Contains(said, want) {
			t.Fatalf("migrate: %v: %s, want %q", migrate.err, said, want)
		}
	}
	for _, name := range workers() {
		for i := range 2 {
			d.start(t, name, i)
		}
	}
	for i := range 2 {
		d.find(t, "ingest", i)
		d.find(t, "live", i)
	}
	return d
}

func workers() []string {
	return []string{"ingest", "router", "state-projector", "history-writer", "aggregator", "alerting", "log-consumer", "live"}
}

// start starts replica i of a worker.
func (d *deployment) start(t *testing.T, name string, i int) {
	t.Helper()
	// Engines on a busy machine may take long for a write that is in hand.
	p := start(t, name, nil, "--config", d.config, "--log-format", "json", "--drain-timeout", "2m")
	d.mu.Lock()
	defer d.mu.Unlock()
	both := d.replicas[name]
	both[i] = p
	d.replicas[name] = both
}

// find waits until replica i of ingest or live listens, and keeps where.
func (d *deployment) find(t *testing.T, name string, i int) {
	t.Helper()
	d.mu.Lock()
	p := d.replicas[name][i]
	d.mu.Unlock()
	in := &instance{process: p}
	if name == "ingest" {
		in.mqtt, in.http = p.logged(t, "listening", "protocol", "mqtt"), "http://"+p.logged(t, "listening", "protocol", "http")
	} else {
		in.http = "http://" + p.logged(t, "serving live events and queries", "", "")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if name == "ingest" {
		d.edges[i] = in
	} else {
		d.lives[i] = in
	}
}

// restart kills replica i of a worker and starts it again.
func (d *deployment) restart(t *testing.T, name string, i int) {
	t.Helper()
	d.mu.Lock()
	p := d.replicas[name][i]
	d.mu.Unlock()
	p.kill()
	d.start(t, name, i)
	if name == "ingest" || name == "live" {
		d.find(t, name, i)
	}
}

// edge returns where a device may send, another replica each time.
func (d *deployment) edge() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.edges[rand.IntN(2)].mqtt
}

func (d *deployment) live(i int) *instance {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lives[i]
}

// get asks a replica of live and returns the rows of a listing, of all pages.
func get(in *instance, path, name string) ([]map[string]any, error) {
	var all []map[string]any
	for cursor := ""; ; {
		address := in.http + path
		if cursor != "" {
			address += "&cursor=" + url.QueryEscape(cursor)
		}
		resp, err := http.Get(address)
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err == nil {
			err = answered(resp, b)
		}
		var body map[string]any
		if err == nil {
			err = json.Unmarshal(b, &body)
		}
		if err != nil {
			return nil, fmt.Errorf("GET %s: %w", path, err)
		}
		rows, _ := body[name].([]any)
		for _, row := range rows {
			fields, _ := row.(map[string]any)
			all = append(all, fields)
		}
		if cursor, _ = body["next"].(string); cursor == "" {
			return all, nil
		}
	}
}

// wantTheSampleOfAny is wantTheSample, asked so that it does not matter which engine keeps a table.
func wantTheSampleOfAny(t *testing.T, in *instance) {
	t.Helper()
	for _, c := range []struct {
		path, name string
		want       func(row map[string]any) string
		rows       string
	}{
		{"/v1/state?limit=2", "state", func(r map[string]any) string {
			return fmt.Sprintf("%v/%v=%.16v", r["device_id"], r["channel_key"], r["channel_value"])
		}, `[dev0/temperature=120 dev1/temperature=121 homecontroller/door=open homecontroller/status@secvest={"Name":"Secvest]`},
		{"/v1/aggregates?window=1m&to=2026-05-04T10:05:00Z", "aggregates", func(r map[string]any) string {
			return fmt.Sprintf("%v %v %v %v %v", r["device_id"], r["count"], r["min"], r["max"], r["sum"])
		}, "[dev1 30 61 119 2700 dev0 30 60 118 2670 dev1 30 1 59 900 dev0 30 0 58 870]"},
		{
			"/v1/logs?device=homecontroller", "logs", func(r map[string]any) string { return fmt.Sprint(r["severity"], r["event_time"]) },
			"[Debug2017-04-12T17:05:33.1527207Z]",
		},
		{"/v1/dead-letters?worker=ingest", "dead_letters", func(r map[string]any) string { return fmt.Sprint(r["worker"]) }, "[ingest]"},
		{"/v1/devices?connected=true", "devices", func(r map[string]any) string { return fmt.Sprint(r["device_id"]) }, "[homecontroller]"},
	} {
		eventually(t, c.path, func() error {
			rows, err := get(in, c.path, c.name)
			if err != nil {
				return err
			}
			var got []string
			for _, row := range rows {
				got = append(got, c.want(row))
			}
			if fmt.Sprint(got) != c.rows {
				return fmt.Errorf("got %v, want %s", got, c.rows)
			}
			return nil
		})
	}
	in.wantRows(t, "SELECT count(*), count(DISTINCT (origin_partition, origin_position)), sum(value) FROM device_messages",
		[]string{"124", "124", "7381"})
}

// TestEngines runs every worker twice over each set of engines: a sample comes out as in one process, and then, while devices go on
// sending, each engine's nodes and each worker's replicas are killed in turn and started again. Nothing is lost, nothing doubled.
func TestEngines(t *testing.T) {
	for _, set := range sets() {
		t.Run(set.name, func(t *testing.T) {
			s := set.over(t)
			d := deploy(t, s)
			sendASample(t, d.edges[0])
			wantTheSampleOfAny(t, d.live(0))
			wantTheSampleOfAny(t, d.live(1))
			f := follow(t, d)
			devices := startLedger(t, "ledger", 10, pace, d.edge)
			for _, n := range s.nodes {
				devices.more(t, 300, "before "+n.name+" is killed")
				n.Kill(t, n.node)
				devices.more(t, 300, "while a node of "+n.name+" is down")
				n.Start(t, n.node)
			}
			for _, worker := range workers() {
				for i := range 2 {
					devices.more(t, 200, "before "+worker+" is killed")
					d.restart(t, worker, i)
				}
			}
			devices.finish()
			checkEngines(t, d, devices.all)
			wantBalance(t, d.live(0))
			f.check(t, devices.all)
			if s.archive != nil {
				checkArchive(t, *s.archive, devices.all)
			}
		})
	}
}

// checkEngines holds every table against the ledger.
func checkEngines(t *testing.T, d *deployment, devices []*ledgerDevice) {
	t.Helper()
	in := d.live(0)
	for _, device := range devices {
		device.check(t, in)
	}
	in.wantRows(t, `SELECT count(*) FROM device_state s JOIN (
		SELECT device_id, max(value) AS newest FROM device_messages WHERE channel_key = 'n' GROUP BY 1) h USING (device_id) WHERE s.value <> h.newest`, []string{"0"})
	in.wantRows(t, windowsDiffer("10"), []string{"0"})
	eventually(t, "each device has its one alarm", func() error {
		alarms, err := get(d.live(1), "/v1/alarms?rule=hundredth", "alarms")
		if err != nil {
			return err
		}
		seen := map[any]int{}
		for _, a := range alarms {
			seen[a["device_id"]]++
		}
		for _, device := range devices {
			if n := seen[device.id]; n != 1 {
				return fmt.Errorf("%s has %d alarms", device.id, n)
			}
		}
		if len(alarms) != len(devices) {
			return fmt.Errorf("%d alarms", len(alarms))
		}
		return nil
	})
	letters, err := get(in, "/v1/dead-letters?limit=100", "dead_letters")
	if err != nil || len(letters) != 1 {
		t.Errorf("dead letters %v, %v; want the sample's", letters, err)
	}
}

// checkArchive reads every file of the bucket, as any reader of Parquet would, and finds each message of the ledger once.
func checkArchive(t *testing.T, cfg bucket.Config, devices []*ledgerDevice) {
	t.Helper()
	b, err := bucket.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	eventually(t, "the archive has every message once", func() error {
		seen := map[string]int{}
		for file, err := range archive.Files(t.Context(), b) {
			if err != nil {
				return err
			}
			for row, err := range archive.ReadFile(t.Context(), b, file.Key) {
				if err != nil {
					return err
				}
				seen[row.DeviceID+"/"+row.ChannelKey+"/"+string(row.ChannelValue)]++
			}
		}
		for message, n := range seen {
			if n > 1 && strings.HasPrefix(message, "ledger-") {
				t.Fatalf("%s is there %d times", message, n)
			}
		}
		for _, device := range devices {
			for n := range device.count() {
				if seen[fmt.Sprintf("%s/n/%d", device.id, n)] == 0 {
					return fmt.Errorf("%s: message %d is not there", device.id, n)
				}
			}
		}
		return nil
	})
}
