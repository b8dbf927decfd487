package connect_test

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/access"
	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/nats"
	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/service"
)

func TestFaultsOfTheBusAreNamedByKey(t *testing.T) {
	for want, change := range map[string]func(*connect.BusConfig){
		"":                                 func(*connect.BusConfig) {},
		`url: "", want embedded, nats://`:  func(c *connect.BusConfig) { c.URL = "" },
		`url: "localhost:4222"`:            func(c *connect.BusConfig) { c.URL = "localhost:4222" },
		`url: "amqp://h:5672"`:             func(c *connect.BusConfig) { c.URL = "amqp://h:5672" },
		`sasl: "GSSAPI", want PLAIN`:       func(c *connect.BusConfig) { c.SASL = "GSSAPI" },
		`url: "nats://"`:                   func(c *connect.BusConfig) { c.URL = "nats://" },
		"partitions: 0, want 1 to 1024":    func(c *connect.BusConfig) { c.Partitions = 0 },
		"partitions: 1025, want 1 to 1024": func(c *connect.BusConfig) { c.Partitions = 1025 },
		"replicas: 6, want 0 to 5":         func(c *connect.BusConfig) { c.Replicas = 6 },
		"lease: 10ms, want at least 1s":    func(c *connect.BusConfig) { c.Lease = 10 * time.Millisecond },
		"lease: 5s, want at least 6s":      func(c *connect.BusConfig) { c.URL, c.Lease = "kafka://h:9092", 5*time.Second },
		"retention.age: 0s":                func(c *connect.BusConfig) { c.Retention.Age = 0 },
		"retention.bytes: 1KiB, want at":   func(c *connect.BusConfig) { c.Retention.Bytes = 1 << 10 },
		"tls.key: cert and key belong":     func(c *connect.BusConfig) { c.TLS.Cert = "x" },
	} {
		c := connect.DefaultBus()
		change(&c)
		err := c.Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("got %v, want %q alone", err, want)
		}
	}
	for _, url := range []string{"nats://127.0.0.1:4222", "tls://nats.example.com", "nats://a:4222,nats://b:4222", "kafka://a:9092,b:9092", "nats://a:4222,b:4222"} {
		c := connect.DefaultBus()
		if c.URL = url; c.Validate() != nil {
			t.Errorf("%s: %v", url, c.Validate())
		}
	}
}

func TestALogThatCannotBeOpenedIsNamed(t *testing.T) {
	deps := connect.Deps{Log: slog.New(slog.DiscardHandler), Now: time.Now}
	junk := filepath.Join(t.TempDir(), "junk.pem")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*connect.BusConfig){
		"lives within `millrace run`":          func(*connect.BusConfig) {},
		"open the log nats://127.0.0.1:1: ":    func(c *connect.BusConfig) { c.URL = "nats://127.0.0.1:1" },
		"bus.tls.ca: open /none":               func(c *connect.BusConfig) { c.URL, c.TLS.CA = "nats://127.0.0.1:1", "/none" },
		"junk.pem holds no certificate in PEM": func(c *connect.BusConfig) { c.URL, c.TLS.CA = "nats://127.0.0.1:1", junk },
		"bus.tls.cert: ":                       func(c *connect.BusConfig) { c.URL, c.TLS.Cert, c.TLS.Key = "nats://127.0.0.1:1", junk, junk },
	} {
		c := connect.DefaultBus()
		change(&c)
		log, err := connect.Bus(t.Context(), c, deps)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if err == nil {
			_ = log.Close()
		}
	}
}

func TestALogIsOpenedWithItsToken(t *testing.T) {
	server, err := nats.Embedded(t.Context(), nats.EmbeddedConfig{
		Dir: t.TempDir(), Addr: "127.0.0.1:0",
		Authorize: func(_, _, token string) (nats.Access, bool) {
			return nats.Access{Publish: []string{">"}, Subscribe: []string{">"}}, token == "secret"
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	deps := connect.Deps{Log: slog.New(slog.DiscardHandler), Now: time.Now, Topics: []string{"mine"}}
	c := connect.DefaultBus()
	c.URL, c.Partitions = server.Addr(), 1
	if log, err := connect.Bus(t.Context(), c, deps); err == nil {
		t.Error("opened without a token")
		_ = log.Close()
	}
	c.Token = "secret"
	log, err := connect.Bus(t.Context(), c, deps)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := log.Append(t.Context(), bus.PartitionID{Topic: "mine"}, []bus.Record{{Value: []byte("x")}}); err != nil {
		t.Errorf("the topic of a route: %v", err)
	}
}

func TestEveryReaderIsOfATopicThatThereIs(t *testing.T) {
	for topic, groups := range connect.Readers(true) {
		if len(groups) == 0 || !slices.Contains(bus.Topics(), topic) {
			t.Errorf("topic %q is kept for %q, want a topic that there is, and somebody", topic, groups)
		}
	}
}

func process(t *testing.T, file string) *service.Process {
	t.Helper()
	o := service.Options{Stderr: io.Discard, Sections: connect.Sections()}
	if file != "" {
		o.ConfigFile = filepath.Join(t.TempDir(), "millrace.yml")
		if err := os.WriteFile(o.ConfigFile, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := service.New("live", o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestWhoIsAskedForKeys is the rule of every listener: open on loopback, keys and TLS elsewhere, unless told otherwise.
func TestWhoIsAskedForKeys(t *testing.T) {
	for _, c := range []struct {
		name               string
		addr               string
		tls, file          bool
		required, insecure bool
		keys               bool
		fault              string
	}{
		{name: "loopback", addr: "127.0.0.1:80"},
		{name: "loopback with a file", addr: "127.0.0.1:80", file: true},
		{name: "loopback, required", addr: "127.0.0.1:80", required: true, keys: true}, // and nobody has one yet
		{name: "elsewhere", addr: ":80", fault: "no access file is configured"},
		{name: "elsewhere with keys", addr: ":80", file: true, fault: "without TLS"},
		{name: "elsewhere with keys and TLS", addr: ":80", file: true, tls: true, keys: true},
		{name: "elsewhere, insecure", addr: ":80", insecure: true},
		{name: "elsewhere, insecure, with keys", addr: ":80", insecure: true, required: true, file: true, keys: true},
		{name: "not opened", addr: ""},
	} {
		data := t.TempDir()
		if c.file {
			if _, _, err := access.Create(filepath.Join(data, "access.json"), access.Request{Device: "d"}, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		cfg := connect.AccessConfig{Required: c.required}
		keys, err := cfg.Open(t.Context(), process(t, ""), data, c.insecure, []access.Listener{{Key: "x.addr", Addr: c.addr, TLS: c.tls}})
		if (keys != nil) != c.keys || (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s: keys %t, %v; want %t, %q", c.name, keys != nil, err, c.keys, c.fault)
		}
	}
}

func TestAWorkerOfItsOwnReadsTheSharedKeys(t *testing.T) {
	data := t.TempDir()
	if _, _, err := access.Create(filepath.Join(data, "access.json"), access.Request{Device: "d"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	file := "data: " + data + "\naccess:\n  required: true\ninsecure: true\ntenant: acme\n"
	w := connect.Worker{Process: process(t, file)}
	keys, err := connect.Keys(t.Context(), w.Process, []access.Listener{{Key: "live.http.addr", Addr: ":80"}})
	if err != nil || keys == nil {
		t.Errorf("keys %t, %v", keys != nil, err)
	}
	if tenant, err := w.Tenant("default"); err != nil || tenant != "acme" {
		t.Errorf("tenant %q, %v", tenant, err)
	}
	broken := "access:\n  requird: true\n"
	if _, err := connect.Keys(t.Context(), process(t, broken), nil); err == nil || !strings.Contains(err.Error(), "requird") {
		t.Errorf("%v, want the key that is wrong", err)
	}
}
