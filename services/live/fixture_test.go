package live_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/pkg/books"
	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/feed"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/duckdb"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
	"github.com/millrace/millrace/services/live"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is live over a log in memory and the embedded database, behind a real HTTP server.
type fixture struct {
	log *mem.Log
	hub *feed.Hub
	db  *duckdb.DB
	url string
	at  telemetry.Time // of the first row

	stop func() // ends it before the test does
}

// noon is when the rows of the tests begin.
func noon() telemetry.Time { return telemetry.At(time.Date(2026, 3, 1, 12, 0, 0, 480850700, time.UTC)) }

func start(tb testing.TB, change func(*live.Config, *live.Deps)) *fixture {
	tb.Helper()
	return startOn(tb, mem.New(mem.Config{Partitions: 2}), change)
}

// startOn starts live on a log, beside others that may be there.
func startOn(tb testing.TB, log *mem.Log, change func(*live.Config, *live.Deps)) *fixture {
	tb.Helper()
	f := &fixture{log: log, at: noon()}
	cfg := live.DefaultConfig()
	cfg.Query.AckWait = patience
	deps := live.Deps{Bus: f.log, Mounted: true, Now: time.Now, Status: func() live.Status {
		return live.Status{
			Version: "test", Started: noon().Std(), Workers: []worker.Status{{Worker: "router", Shares: 2, Records: 7}},
			Listeners: map[string]string{"http": "127.0.0.1:8080"}, Warnings: []string{"the disk is nearly full"},
		}
	}}
	var err error
	f.db, err = duckdb.Open(context.Background(), duckdb.Config{
		Path: filepath.Join(tb.TempDir(), "millrace.duckdb"), Threads: 2, MemoryLimit: 256 << 20, History: history(messages(f.at)),
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := f.db.Close(); err != nil {
			tb.Error(err)
		}
	})
	deps.Tables, deps.SQL = func(string) store.Reader { return f.db }, f.db
	auditor := books.NewAuditor(log, deps.Tables, func(string) books.Progress { return nil })
	auditor.Now = time.Now
	deps.Audit = auditor
	if change != nil {
		change(&cfg, &deps)
	}
	f.hub, err = feed.NewHub(cfg.Feed, feed.Deps{Bus: f.log})
	if err != nil {
		tb.Fatal(err)
	}
	deps.Feed = f.hub
	l, err := live.New(cfg, deps)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- f.hub.Run(ctx) }()
	go func() { done <- l.Run(ctx) }()
	server := httptest.NewServer(l.Handler())
	f.url = server.URL
	var once sync.Once
	f.stop = func() {
		once.Do(func() {
			server.CloseClientConnections()
			stop()
			for range 2 {
				if err := <-done; err != nil {
					tb.Errorf("run: %v", err)
				}
			}
			server.Close()
			http.DefaultClient.CloseIdleConnections()
		})
	}
	tb.Cleanup(f.stop)
	<-f.hub.Ready()
	return f
}

// history is rows in memory, and no files.
type history []store.MessageRow

func (h history) Snapshot() (store.HistorySnapshot, error)     { return h, nil }
func (h history) Files() []string                              { return nil }
func (h history) Rows(yield func(run []store.MessageRow) bool) { yield(h) }
func (h history) RowCount() int                                { return len(h) }
func (h history) Release()                                     {}

func messages(at telemetry.Time) []store.MessageRow {
	var rows []store.MessageRow
	for i := range 25 {
		when := at.Add(time.Duration(i) * time.Second)
		rows = append(rows, store.MessageRow{
			Origin: bus.Origin{Partition: int32(i % 2), Position: bus.Position{Seq: uint64(i + 1)}},
			Message: telemetry.Message{
				Tenant: "default", DeviceID: "thermostat-1", DeviceType: "LabThermostat_v4", Kind: telemetry.KindChannel, ChannelKey: "temperature", ChannelType: "number",
				ChannelValue: []byte("21.5"), Value: 21.5, HasValue: true, EventTime: when, IngestTime: when, MessageID: "m", Source: "mqtt", Codec: "json",
				Properties: []telemetry.Property{{Key: "a", Value: "b"}}, Attributes: []byte(`{"x":1}`),
			},
		})
	}
	return rows
}

// fill puts rows of every sort into the database.
func (f *fixture) fill(tb testing.TB) {
	tb.Helper()
	ctx := context.Background()
	panel := store.MessageRow{Origin: bus.Origin{Position: bus.Position{Seq: 100}}, Message: telemetry.Message{
		Tenant: "default", DeviceID: "homecontroller", DeviceType: "Pi", Kind: telemetry.KindChannel, ChannelKey: "status@secvest", ChannelType: "json",
		ChannelValue: []byte(`{"Partitions":[{"id":"1","state":"set"}]}`), EventTime: f.at, IngestTime: f.at,
	}}
	session := store.MessageRow{Origin: bus.Origin{Position: bus.Position{Seq: 101}}, Message: telemetry.Message{
		Tenant: "default", DeviceID: "homecontroller", Kind: telemetry.KindSession, ChannelKey: "session", ChannelType: "json",
		ChannelValue: []byte(`{"connected":true,"address":"10.0.0.7:5","client_id":"c","protocol":"mqtt5"}`), EventTime: f.at, IngestTime: f.at,
	}}
	must(tb, f.db.State().Write(ctx, commit("state"), append(messages(f.at), panel, session)))
	var lines []store.MessageRow
	for i, text := range []string{"started", "slow answer", "Zone 100% open", "storage is full"} {
		lines = append(lines, store.MessageRow{Origin: bus.Origin{Position: bus.Position{Seq: uint64(i + 1)}}, Message: telemetry.Message{
			Tenant: "default", DeviceID: "homecontroller", Kind: telemetry.KindLog, Severity: telemetry.SeverityDebug + telemetry.Severity(i), Text: text,
			EventTime: f.at.Add(time.Duration(i) * time.Minute), IngestTime: f.at,
		}})
	}
	must(tb, f.db.Logs().Write(ctx, commit("logs"), lines))
	must(tb, f.db.DeadLetters().Write(ctx, commit("dead"), []store.DeadLetterRow{
		{DeadLetter: telemetry.DeadLetter{Topic: "mqtt", Worker: "ingest", Reason: "not JSON", Payload: []byte(`{"a":`), ReceivedAt: f.at}, At: bus.Origin{Position: bus.Position{Seq: 1}}},
		{DeadLetter: telemetry.DeadLetter{Topic: "mqtt", Worker: "ingest", Reason: "not JSON", Payload: []byte(`{"b":`), ReceivedAt: f.at}, At: bus.Origin{Position: bus.Position{Seq: 2}}},
	}))
	must(tb, f.db.Aggregates().Write(ctx, commit("aggregates"), []store.AggregateRow{
		{Aggregate: telemetry.Aggregate{Tenant: "default", DeviceID: "thermostat-1", ChannelKey: "temperature", WindowStart: f.at, WindowLength: int64(10 * time.Second), Count: 2, Min: 1, Max: 3, Sum: 4, Last: 3, Revision: 1, Final: true}},
		{Aggregate: telemetry.Aggregate{Tenant: "default", DeviceID: "thermostat-1", ChannelKey: "temperature", WindowStart: f.at, WindowLength: int64(time.Minute), Count: 2, Min: 1, Max: 3, Sum: 4, Last: 3, Revision: 1, Final: true}},
	}))
	must(tb, f.db.Alarms().Write(ctx, commit("alarms"), []telemetry.Alarm{
		{AlarmID: "a1", Tenant: "default", Rule: "panel-alarm", DeviceID: "homecontroller", ChannelKey: "status@secvest", Severity: "critical", State: telemetry.AlarmRaised, Value: "alarm", RaisedAt: f.at, Detail: []byte(`{"n":1}`), Revision: 1},
		{AlarmID: "a2", Tenant: "default", Rule: "window-open", DeviceID: "window-kitchen", ChannelKey: "window", Severity: "warning", State: telemetry.AlarmCleared, Value: "open", RaisedAt: f.at, ClearedAt: f.at + 1, Revision: 2},
	}))
}

func commit(name string) store.Commit { return store.Commit{Worker: name} }

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// ask sends a request and returns the answer's code, header and text.
func (f *fixture) ask(tb testing.TB, method, path, body string, header ...string) (int, http.Header, string) {
	tb.Helper()
	req, err := http.NewRequest(method, f.url+path, strings.NewReader(body))
	must(tb, err)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	must(tb, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	must(tb, err)
	maps.Copy(resp.Header, resp.Trailer)
	return resp.StatusCode, resp.Header, string(b)
}

// get asks and returns the rows of the answer's member, and its cursor.
func (f *fixture) get(tb testing.TB, path, member string) (rows []map[string]any, next string) {
	tb.Helper()
	code, _, body := f.ask(tb, "GET", path, "")
	if code != http.StatusOK {
		tb.Fatalf("GET %s: %d %s", path, code, body)
	}
	var answer map[string]json.RawMessage
	must(tb, json.Unmarshal([]byte(body), &answer))
	must(tb, json.Unmarshal(answer[member], &rows))
	if string(answer["next"]) != "null" {
		must(tb, json.Unmarshal(answer["next"], &next))
	}
	return rows, next
}

// stream is one subscription to server-sent events.
type stream struct {
	lines *bufio.Scanner
	close func()
}

type sse struct{ name, id, data string }

func (f *fixture) follow(tb testing.TB, query string, header ...string) *stream {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, "GET", f.url+"/v1/live"+query, nil)
	must(tb, err)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	must(tb, err)
	stop := func() { cancel(); _ = resp.Body.Close() }
	tb.Cleanup(stop)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		b, _ := io.ReadAll(resp.Body)
		tb.Fatalf("follow %s: %s %s", query, resp.Status, b)
	}
	timer := time.AfterFunc(patience, cancel)
	tb.Cleanup(func() { timer.Stop() })
	s := &stream{lines: bufio.NewScanner(resp.Body), close: stop}
	s.lines.Buffer(nil, 1<<20)
	return s
}

// next returns the next event; ok is false when the stream has ended.
func (s *stream) next() (e sse, ok bool) {
	for s.lines.Scan() {
		field, value, _ := strings.Cut(s.lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			e.name = value
		case "id":
			e.id = value
		case "data":
			e.data += value
		case "":
			if s.lines.Text() == "" && e.data != "" {
				return e, true
			}
		}
	}
	return e, false
}

// say appends a value of a device as the router would.
func (f *fixture) say(tb testing.TB, device, channel, value string) {
	tb.Helper()
	f.sayTo(tb, bus.PartitionOf("default", device, 2), device, channel, value)
}

func (f *fixture) sayTo(tb testing.TB, partition int, device, channel, value string) {
	tb.Helper()
	m := telemetry.Message{Tenant: "default", DeviceID: device, Kind: telemetry.KindChannel, ChannelKey: channel, ChannelType: "text", ChannelValue: []byte(value), EventTime: f.at, IngestTime: f.at}
	id := bus.PartitionID{Topic: bus.Telemetry, Number: partition}
	must(tb, f.log.Append(context.Background(), id, []bus.Record{{Value: telemetry.AppendMessage(nil, &m)}}))
}
