package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/enginetest"
	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/services/alerting"
	"github.com/millrace/millrace/services/standalone"
)

// grown runs an instance until it has n messages of three days, and what follows from them, and returns its data directory.
func grown(t *testing.T, n int) string {
	t.Helper()
	cfg := standalone.DefaultConfig()
	cfg.Data = t.TempDir()
	cfg.HTTP.Addr, cfg.Ingest.MQTT.Addr, cfg.Bus.Listen = "127.0.0.1:0", "127.0.0.1:0", ""
	cfg.DuckDB.Memory = 256 << 20
	cfg.Alerting.Rules = []alerting.Rule{{Name: "hot", Condition: "value > 95", Severity: "error"}}
	process, err := service.New("millrace", service.Options{Stderr: io.Discard, LogLevel: slog.LevelError})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- standalone.Run(ctx, cfg, process, standalone.Options{Out: io.Discard}) }()
	var at standalone.Endpoints
	until(t, "the instance is there", func() bool {
		b, err := os.ReadFile(filepath.Join(cfg.Data, "endpoints.json"))
		return err == nil && json.Unmarshal(b, &at) == nil && at.HTTP != ""
	})
	var body strings.Builder
	begin := time.Now().Add(-72 * time.Hour).UTC()
	for i := range n {
		stamp := begin.Add(time.Duration(i) * 72 * time.Hour / time.Duration(n)).Format(time.RFC3339Nano)
		_, _ = fmt.Fprintf(&body, `{"MessageType":"Channel","DeviceId":"größer-%d","DeviceType":"T","ChannelKey":"c%d","ChannelValue":%d.5,"LocalTimestamp":%q,"unit":"°C"}`+"\n",
			i%11, i%2, i%100, stamp)
		if i%4 == 0 {
			_, _ = fmt.Fprintf(&body, `{"MessageType":"Log","DeviceId":"größer-%d","Severity":"Warning","Message":"line %d","LocalTimestamp":%q}`+"\n", i%11, i, stamp)
		}
	}
	resp, err := http.Post(at.HTTP+"/v1/messages", "text/plain", strings.NewReader(body.String()))
	if err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		t.Fatalf("%s: %s", resp.Status, answer)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return cfg.Data
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit, look := time.After(2*time.Minute), time.NewTicker(20*time.Millisecond)
	defer look.Stop()
	for !ok() {
		select {
		case <-limit:
			t.Fatalf("not in time: %s", what)
		case <-look.C:
		}
	}
}

// own returns a name for what a test makes in an engine.
func own() string { return "move_" + strings.ToLower(rand.Text()[:12]) }

// clickhouse runs a statement over HTTP, as an operator would.
func clickhouse(t *testing.T, address, statement string) string {
	t.Helper()
	resp, err := http.Post(address, "text/plain", strings.NewReader(statement))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %s %s %v", statement, resp.Status, answer, err)
	}
	return strings.TrimSpace(string(answer))
}

// withPath returns an address with another path.
func withPath(t *testing.T, address, path string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + path
	return u.String()
}

// moveInto writes the configuration of a target, migrates it, moves the instance there twice, and returns the file.
func moveInto(t *testing.T, data, stores string, rows int) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "to.yml")
	if err := os.WriteFile(file, []byte("bus: {url: \"nats://127.0.0.1:4222\"}\n"+stores), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, complaints, err := shell(t, nil, "", "migrate", "--config", file); err != nil {
		t.Fatalf("migrate: %v %s", err, complaints)
	}
	for range 2 {
		out, complaints, err := shell(t, nil, "", "move", "--from", "embedded", "--to", file, "--data", data)
		if err != nil || !strings.Contains(out, "PASS: ") || !strings.Contains(out, fmt.Sprintf("compare device_messages        %d of %d (100 %%)", rows, rows)) {
			t.Fatalf("move: %v %s\n%s", err, complaints, out)
		}
	}
	return file
}

func TestEnginesMoveToClickHousePostgresAndS3(t *testing.T) {
	ch, pg, s3 := enginetest.Need(t, "clickhouse"), enginetest.Need(t, "postgres"), enginetest.Need(t, "s3")
	const messages = 4000
	data := grown(t, messages)
	database, schema := own(), own()
	admin := ch.Get("http_url")
	clickhouse(t, admin, "CREATE DATABASE "+database)
	t.Cleanup(func() {
		clickhouse(t, admin, "DROP DATABASE "+database)
		clickhouse(t, admin, "DROP DATABASE IF EXISTS "+database+"_internal")
	})
	archive, err := url.Parse(s3.URL)
	if err != nil {
		t.Fatal(err)
	}
	file := moveInto(t, data, fmt.Sprintf(`
stores: {state: clickhouse, history: clickhouse, aggregates: clickhouse, alarms: postgres, logs: clickhouse, dead_letters: clickhouse}
clickhouse: {url: %q}
postgres: {url: %q, schema: %s}
archive: {url: "s3://%s/%s?%s", access_key: %q, secret_key: %q}
`, withPath(t, ch.URL, database), pg.URL, schema, archive.Host, database, archive.RawQuery, s3.Get("access_key"), s3.Get("secret_key")), messages)

	clickhouse(t, admin, "DELETE FROM "+database+"_internal.device_messages WHERE message_id = (SELECT max(message_id) FROM "+database+"_internal.device_messages)")
	out, _, err := shell(t, nil, "", "move", "--to", file, "--data", data)
	if err == nil || !strings.Contains(out, "FAIL\n") || !strings.Contains(out, "device_messages: the target lacks ") {
		t.Errorf("after a row was removed: %v\n%s", err, out)
	}
}

func TestEnginesMoveToElasticsearch(t *testing.T) {
	es := enginetest.Need(t, "elasticsearch")
	const messages = 1000
	prefix := strings.ReplaceAll(own(), "_", "-")
	t.Cleanup(func() {
		for _, path := range []string{"/" + prefix + "-*", "/_index_template/" + prefix + "-*"} {
			req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodDelete, es.URL+path, bytes.NewReader(nil))
			if err != nil {
				t.Error(err)
				continue
			}
			if resp, err := http.DefaultClient.Do(req); err == nil {
				_ = resp.Body.Close()
			}
		}
	})
	moveInto(t, grown(t, messages), fmt.Sprintf(`
stores: {state: elasticsearch, history: elasticsearch, aggregates: elasticsearch, logs: elasticsearch, dead_letters: elasticsearch}
elasticsearch: {url: %q, prefix: %s}
`, es.URL, prefix), messages)
}
