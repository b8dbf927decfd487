package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// output is a buffer that many may write to and read from.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func nothing(context.Context, *Process) error { return nil }

func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yml")
	if err := os.WriteFile(bad, []byte("bus: x\nrouter:\n  skew: soon\n  rotes: []\nlive: {a: b}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func(_ context.Context, p *Process) error {
		var cfg struct {
			Skew   time.Duration `yaml:"skew"`
			Routes []string      `yaml:"routes"`
		}
		return p.Config("router", &cfg)
	}
	tests := []struct {
		name       string
		args, env  []string
		run        Run
		code       int
		out, inErr string
	}{
		{name: "a clean end", run: nothing},
		{name: "an error", run: func(context.Context, *Process) error { return errors.New("disk on fire") }, code: 1, inErr: `error="disk on fire"`},
		{name: "help", args: []string{"--help"}, out: "router --config millrace.yml"},
		{name: "version", args: []string{"-version"}, out: "router devel go1."},
		{name: "an unknown flag", args: []string{"--confg", "x"}, code: 2, inErr: "router: flag provided but not defined: -confg"},
		{name: "a wrong level", args: []string{"--log-level", "loud"}, code: 2, inErr: `invalid value "loud" for flag -log-level`},
		{name: "a wrong variable", env: []string{"MILLRACE_DRAIN_TIMEOUT=soon"}, code: 2, inErr: `MILLRACE_DRAIN_TIMEOUT="soon"`},
		{name: "a wrong format", args: []string{"--log-format", "xml"}, code: 1, inErr: `log format "xml", want text or json`},
		{name: "a missing file", args: []string{"--config", "none.yml"}, code: 1, inErr: "router: none.yml: open: no such file"},
		{name: "a file by variable", env: []string{"MILLRACE_CONFIG=none.yml"}, code: 1, inErr: "none.yml: open"},
		{name: "an address in use", args: []string{"--metrics", "256.0.0.1:1"}, code: 1, inErr: "serve metrics and health"},
		{name: "a wrong trace endpoint", env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=localhost"}, code: 1, inErr: "want a URL such as"},
		{
			name: "faults in the configuration", args: []string{"--config", bad}, run: load, code: 1,
			inErr: "router: faults in the configuration: 2\n" + bad + `:3: router.skew: "soon", want a duration such as 30s, 5m or 7d` +
				"\n" + bad + ":4: router.rotes: unknown key, did you mean routes?\n",
		},
		{
			name: "faults as JSON", args: []string{"--config", bad, "--log-format", "json"}, run: load, code: 1,
			inErr: `"where":"` + bad + `:4","key":"router.rotes","fault":"unknown key`,
		},
		{
			name: "flags and variables over the file", run: load, code: 1, args: []string{"--set", "router.routes=a", "--set", "router.x=1"},
			env:   []string{"MILLRACE_ROUTER_SKEW=1m", "MILLRACE_LIVE_X=1", "MILLRACE_LOG_LEVEL=debug", "MILLRACE_UPDATE=1"},
			inErr: "faults in the configuration: 1\nflag: router.x: unknown key",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr output
			code := program{
				name: "router", sections: []string{"bus", "live", "router"}, args: tt.args, env: tt.env,
				stdout: &stdout, stderr: &stderr, run: tt.run,
			}.main()
			if code != tt.code || !strings.Contains(stdout.String(), tt.out) || !strings.Contains(stderr.String(), tt.inErr) {
				t.Errorf("got %d, want %d\nstdout: %s\nstderr: %s\nwant in it: %s%s", code, tt.code, &stdout, &stderr, tt.out, tt.inErr)
			}
		})
	}
}

func TestSignals(t *testing.T) {
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	drains := func(ctx context.Context, _ *Process) error {
		<-ctx.Done()
		return nil
	}
	stuck := func(context.Context, *Process) error {
		<-release
		return nil
	}
	tests := []struct {
		name    string
		run     Run
		signals int
		drain   time.Duration
		want    error
	}{
		{name: "the first drains", run: drains, signals: 1, drain: time.Minute},
		{name: "the context's own error is a clean drain", run: func(ctx context.Context, _ *Process) error {
			<-ctx.Done()
			return ctx.Err()
		}, signals: 1, drain: time.Minute},
		{name: "an error while draining is one", run: func(ctx context.Context, _ *Process) error {
			<-ctx.Done()
			return io.ErrUnexpectedEOF
		}, signals: 1, drain: time.Minute, want: io.ErrUnexpectedEOF},
		{name: "the second stops at once", run: stuck, signals: 2, drain: time.Minute, want: ErrSecondSignal},
		{name: "a drain has its limit", run: stuck, signals: 1, drain: time.Millisecond, want: ErrDrainTimeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := New("router", Options{Stderr: io.Discard})
			if err != nil {
				t.Fatal(err)
			}
			p.Drain = tt.drain
			signals := make(chan os.Signal, 2)
			for range tt.signals {
				signals <- syscall.SIGTERM
			}
			if err := Supervise(t.Context(), p, signals, tt.run); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if !errors.Is(p.Health.Ready(), ErrDraining) {
				t.Error("still ready after a signal")
			}
		})
	}
}

func TestMetricsAndHealthAreServedUntilTheDrainHasEnded(t *testing.T) {
	var stderr output
	signals := make(chan os.Signal, 2)
	addr := regexp.MustCompile(`addr=(\S+)`)
	run := func(ctx context.Context, p *Process) error {
		// the address is logged by a goroutine of its own
		var m []string
		for deadline := time.Now().Add(10 * time.Second); m == nil; m = addr.FindStringSubmatch(stderr.String()) {
			if time.Now().After(deadline) {
				return errors.New("no address was logged")
			}
		}
		base := "http://" + m[1]
		if code, body := get(t, base+"/readyz"); code != http.StatusServiceUnavailable || body != "not ready: nothing has reported yet\n" {
			t.Errorf("before any gate: got %d %q", code, body)
		}
		p.Health.Set("bus", nil)
		if code, body := get(t, base+"/readyz"); code != http.StatusOK || body != "ready\n" {
			t.Errorf("with open gates: got %d %q", code, body)
		}
		if code, body := get(t, base+"/metrics"); code != http.StatusOK || !strings.Contains(body, "\nmillrace_ready 1\n") ||
			!strings.Contains(body, "go_goroutines ") || !strings.Contains(body, `millrace_build_info{process="router",version="`) {
			t.Errorf("metrics: got %d %s", code, body)
		}
		if code, _ := get(t, base+"/debug/pprof/cmdline"); code != http.StatusOK {
			t.Errorf("profiles on loopback: got %d", code)
		}
		signals <- os.Interrupt
		<-ctx.Done()
		if code, body := get(t, base+"/readyz"); code != http.StatusServiceUnavailable || body != "not ready: draining\n" {
			t.Errorf("while draining: got %d %q", code, body)
		}
		if code, _ := get(t, base+"/healthz"); code != http.StatusOK {
			t.Errorf("alive while draining: got %d", code)
		}
		return nil
	}
	if code := (program{name: "router", stdout: io.Discard, stderr: &stderr, signals: signals, run: run}).main(); code != 0 {
		t.Errorf("got %d: %s", code, &stderr)
	}
}

func TestServeRefusesAnAddressInUse(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	p, err := New("x", Options{Stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Serve(t.Context(), server.Listener.Addr().String()); err == nil {
		t.Error("served on an address in use")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Serve(ctx, "127.0.0.1:0"); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: got %v", err)
	}
}

func TestProfilesAreForLoopbackAlone(t *testing.T) {
	p, err := New("x", Options{Stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]int{"192.0.2.1": http.StatusNotFound, "127.0.0.1": http.StatusOK} {
		rec := httptest.NewRecorder()
		p.Handler(&net.TCPAddr{IP: net.ParseIP(addr)}).ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/debug/pprof/", nil))
		if rec.Code != want {
			t.Errorf("on %s: got %d, want %d", addr, rec.Code, want)
		}
	}
}

func TestProcessesShareNothing(t *testing.T) {
	for range 2 { // a global registry would refuse the second
		if _, err := New("x", Options{Stderr: io.Discard}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTracesReachTheEndpointOnShutdown(t *testing.T) {
	paths := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { paths <- r.URL.Path }))
	defer server.Close()
	provider, shutdown, err := Tracing(t.Context(), server.URL+"/base/", "router")
	if err != nil {
		t.Fatal(err)
	}
	_, span := provider.Tracer("test").Start(t.Context(), "append")
	span.End()
	if err := shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-paths; got != "/base/v1/traces" {
		t.Errorf("got %q", got)
	}
}

func TestWithoutAnEndpointNothingIsTraced(t *testing.T) {
	provider, shutdown, err := Tracing(t.Context(), "", "router")
	if err != nil {
		t.Fatal(err)
	}
	_, span := provider.Tracer("test").Start(t.Context(), "append")
	if span.IsRecording() {
		t.Error("a span is recorded")
	}
	if err := shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestLogsAreJSONWhenAskedFor(t *testing.T) {
	var out output
	p, err := New("x", Options{Stderr: &out, LogFormat: "json"})
	if err != nil {
		t.Fatal(err)
	}
	p.Log.Debug("below the level")
	p.Log.Info("hello", "n", 1)
	var line map[string]any
	if err := json.Unmarshal([]byte(out.String()), &line); err != nil || line["msg"] != "hello" {
		t.Errorf("got %q, %v", out.String(), err)
	}
}
