package standalone

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/service"
)

const patience = 30 * time.Second

// local is a configuration that takes free ports of loopback.
func local(t *testing.T) Config {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Data = t.TempDir()
	cfg.HTTP.Addr, cfg.Ingest.MQTT.Addr, cfg.Bus.Listen = "127.0.0.1:0", "127.0.0.1:0", ""
	cfg.DuckDB.Memory = 256 << 20
	return cfg
}

// run runs an instance and returns where it listens; stop drains it and returns Run's error.
func run(t *testing.T, cfg Config) (at Endpoints, stop func() error) {
	t.Helper()
	process, err := service.New("millrace", service.Options{Stderr: io.Discard, LogLevel: slog.LevelError})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg, process, Options{Out: io.Discard}) }()
	stop = func() error {
		cancel()
		return <-done
	}
	limit := time.NewTimer(patience)
	defer limit.Stop()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		b, err := os.ReadFile(filepath.Join(cfg.Data, "endpoints.json"))
		if err == nil && json.Unmarshal(b, &at) == nil && at.PID == os.Getpid() {
			return at, stop
		}
		select {
		case err := <-done:
			t.Fatalf("ended before it was ready: %v", err)
		case <-limit.C:
			t.Fatal("not ready in time")
		case <-look.C:
		}
	}
}

func post(t *testing.T, url, body string) (code int, answer string) {
	t.Helper()
	resp, err := http.Post(url, "text/plain", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestADrainLeavesEverythingInTheTables(t *testing.T) {
	cfg := local(t)
	stale := `{"http":"http://127.0.0.1:1","pid":1}`
	if err := os.WriteFile(filepath.Join(cfg.Data, "endpoints.json"), []byte(stale), 0o600); err != nil {
		t.Fatal(err)
	}
	at, stop := run(t, cfg)
	const messages = 100
	var body strings.Builder
	for range messages {
		body.WriteString(`{"MessageType":"Channel","DeviceId":"dev1","ChannelKey":"n","ChannelValue":1}` + "\n")
	}
	if code, answer := post(t, at.HTTP+"/v1/messages", body.String()); code != http.StatusAccepted {
		t.Fatalf("%d %s", code, answer)
	}
	if err := stop(); err != nil { // at once: what was taken is only on the log
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(cfg.Data, "endpoints.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("endpoints.json of an instance that ended: %v", err)
	}
	at, stop = run(t, cfg)
	const query = "SELECT count(*) FROM device_messages WHERE device_id = 'dev1'"
	if _, answer := post(t, at.HTTP+"/v1/sql", query); !strings.Contains(answer, "[100]") {
		t.Errorf("after a drain and a start: %s, want 100", answer)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestWhatKeepsAnInstanceFromStartingIsSaid(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	running := local(t)
	_, stop := run(t, running)
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		change     func(*Config)
	}{
		{"another instance has the data", "another process uses it", func(c *Config) { c.Data = running.Data }},
		{"a file where the data should be", "data directory: ", func(c *Config) { c.Data = file }},
		{"the port of HTTP is taken", "http.addr: listen tcp ", func(c *Config) { c.HTTP.Addr = taken.Addr().String() }},
		{"the port of MQTT is taken", "listen for mqtt: listen tcp ", func(c *Config) { c.Ingest.MQTT.Addr = taken.Addr().String() }},
		{"the port of NATS is taken", "embedded NATS server", func(c *Config) { c.Bus.Listen = taken.Addr().String() }},
		{"no certificate", "http.addr: listen on 127.0.0.1:0: certificate: ", func(c *Config) { c.HTTP.TLS.Cert, c.HTTP.TLS.Key = "none", "none" }},
		{"an open listener", "http.addr: :0 leaves loopback", func(c *Config) { c.HTTP.Addr = ":0" }},
		{"no such log", "open the log nats://127.0.0.1:1: ", func(c *Config) { c.Bus.URL = "nats://127.0.0.1:1" }},
	} {
		cfg := local(t)
		c.change(&cfg)
		process, err := service.New("millrace", service.Options{Stderr: io.Discard})
		if err != nil {
			t.Fatal(err)
		}
		err = Run(t.Context(), cfg, process, Options{Out: io.Discard})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than a line: %v", c.name, err)
		}
	}
}
