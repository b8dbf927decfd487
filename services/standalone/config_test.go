package standalone

import (
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/access"
)

func TestFaultsOfAConfigurationAreNamedByKey(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"":                                   func(*Config) {},
		"data:":                              func(c *Config) { c.Data = "" },
		"tenant:":                            func(c *Config) { c.Tenant = "" },
		`http.addr: "", want host:port`:      func(c *Config) { c.HTTP.Addr = "" },
		`http.addr: "8080", want host:port`:  func(c *Config) { c.HTTP.Addr = "8080" },
		`bus.listen: "4222", want host:port`: func(c *Config) { c.Bus.Listen = "4222" },
		`workers[1]: "rooter", want one of ingest, router, `: func(c *Config) { c.Workers = []string{"router", "rooter"} },
		"history.disk_warn: 1.5":                             func(c *Config) { c.History.DiskWarn = 1.5 },
		"history.retention: -1h0m0s, want 0s or more":        func(c *Config) { c.History.Retention = -time.Hour },
		"history.segment_age: -1s, want 0s or more":          func(c *Config) { c.History.SegmentAge = -time.Second },
		"history.merge_delay: -1s, want 0s or more":          func(c *Config) { c.History.MergeDelay = -time.Second },
		"history.memory: 1KiB, want at least 16MiB":          func(c *Config) { c.History.Memory = 1 << 10 },
		"duckdb.memory: 0B, want at least 16MiB":             func(c *Config) { c.DuckDB.Memory = 0 },
		"duckdb.threads: -1, want 0 to 1024":                 func(c *Config) { c.DuckDB.Threads = -1 },
		"duckdb.queries: 5000, want 0 to 1024":               func(c *Config) { c.DuckDB.Queries = 5000 },
		"duckdb.logs_for: -1s, want 0s or more":              func(c *Config) { c.DuckDB.LogsFor = -time.Second },
		"duckdb.dead_letters_for: -1s, want 0s or more":      func(c *Config) { c.DuckDB.LettersFor = -time.Second },
	} {
		c := DefaultConfig()
		change(&c)
		err := c.Validate()
		switch {
		case want == "" && err != nil:
			t.Errorf("the defaults: %v", err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n")):
			t.Errorf("got %v, want %q alone", err, want)
		}
	}
	all := Config{Data: "d"}
	if n := strings.Count(all.Validate().Error(), "\n") + 1; n != 4 {
		t.Errorf("%d faults at once, want 4: %v", n, all.Validate())
	}
}

func TestWhichWorkersRun(t *testing.T) {
	c := DefaultConfig()
	for _, w := range Workers() {
		if !c.runs(w) {
			t.Errorf("%s does not run by default", w)
		}
	}
	c.Workers = []string{"ingest"}
	if !c.runs("ingest") || c.runs("router") {
		t.Error("other workers run than those that are named")
	}
}

func TestListenersAreThoseThatOpen(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"defaults", func(*Config) {}, "http.addr ingest.mqtt.addr bus.listen"},
		{"no edge", func(c *Config) { c.Workers = []string{"router"} }, "http.addr bus.listen"},
		{"a log elsewhere", func(c *Config) { c.Bus.URL = "nats://127.0.0.1:4222" }, "http.addr ingest.mqtt.addr"},
		{"nobody on NATS", func(c *Config) { c.Bus.Listen = "" }, "http.addr ingest.mqtt.addr"},
		{"MQTT with TLS", func(c *Config) { c.Ingest.MQTT.TLSAddr = ":8883" }, "http.addr ingest.mqtt.addr ingest.mqtt.tls_addr bus.listen"},
	} {
		cfg := DefaultConfig()
		c.change(&cfg)
		var keys []string
		for _, l := range cfg.listeners() {
			if l.Addr != "" {
				keys = append(keys, l.Key)
			}
		}
		if got := strings.Join(keys, " "); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestNoListenerLeavesLoopbackUnguarded(t *testing.T) {
	for key, open := range map[string]func(*Config){
		"http.addr":            func(c *Config) { c.HTTP.Addr = ":8080" },
		"ingest.mqtt.addr":     func(c *Config) { c.Ingest.MQTT.Addr = "0.0.0.0:1883" },
		"ingest.mqtt.tls_addr": func(c *Config) { c.Ingest.MQTT.TLSAddr = ":8883" },
		"bus.listen":           func(c *Config) { c.Bus.Listen = "[::]:4222" },
	} {
		c := DefaultConfig()
		open(&c)
		refused := ""
		for _, l := range c.listeners() {
			if access.CheckListener(l, false, false) != nil {
				refused += l.Key
			}
		}
		if refused != key {
			t.Errorf("refused %q, want %s", refused, key)
		}
	}
}
