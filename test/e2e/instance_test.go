package e2e

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a condition may take before the test gives up: generous, since the machine may be busy.
const patience = 3 * time.Minute

var binaries struct {
	mu  sync.Mutex
	dir string
	has map[string]bool
}

// binary returns the path of a command, building it when it is first asked for where MILLRACE_BIN does not say where it is.
func binary(t *testing.T, name string) string {
	t.Helper()
	if dir := os.Getenv("MILLRACE_BIN"); dir != "" {
		return filepath.Join(dir, name)
	}
	binaries.mu.Lock()
	defer binaries.mu.Unlock()
	if binaries.dir == "" {
		dir, err := os.MkdirTemp("", "millrace-bin") //nolint:usetesting // it outlives the test that comes first
		if err != nil {
			t.Fatal(err)
		}
		binaries.dir, binaries.has = dir, map[string]bool{}
	}
	path := filepath.Join(binaries.dir, name)
	if binaries.has[name] {
		return path
	}
	service := name
	if name == "millrace" {
		service = "standalone"
	}
	build := exec.Command("go", "build", "-o", path, "./services/"+service+"/cmd/"+name)
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v: %s", name, err, out)
	}
	binaries.has[name] = true
	return path
}

// process is one started binary.
type process struct {
	name   string
	cmd    *exec.Cmd
	output *syncBuffer
	exited chan struct{}
	err    error // valid once exited is closed
}

// start runs a binary with args until the test ends or it is stopped.
func start(t *testing.T, name string, env []string, args ...string) *process {
	t.Helper()
	return startIn(t, "", name, env, args...)
}

// startIn is start in a working directory; "" is the test's.
func startIn(t *testing.T, dir, name string, env []string, args ...string) *process {
	t.Helper()
	p := &process{name: name, output: &syncBuffer{}, exited: make(chan struct{})}
	p.cmd = exec.Command(binary(t, name), args...)
	p.cmd.Dir = dir
	p.cmd.Env = append(environment(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("output of %s:\n%s", name, p.output.tail(20_000))
		}
	})
	return p
}

// environment is ours without what begins with MILLRACE_: the variables of the tests are no keys of a configuration, and an
// operator's are none of the tests' business.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MILLRACE_") })
}

// kill ends the process as a power cut would end it: without asking.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// stop asks the process to drain and waits until it has.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatalf("stop %s: %v", p.name, err)
	}
	select {
	case <-p.exited:
		if p.err != nil {
			t.Fatalf("%s stopped with %v\n%s", p.name, p.err, p.output.tail(5000))
		}
	case <-time.After(patience):
		t.Fatalf("%s did not stop\n%s", p.name, p.output.tail(5000))
	}
}

// instance is a running `millrace run`.
type instance struct {
	*process
	data string   // its data directory
	http string   // base URL
	mqtt string   // host:port
	nats string   // URL
	sets []string // what replay is told of the configuration
}

// run starts `millrace run` on free ports with its data in dir and waits until it takes messages.
func run(t *testing.T, dir string, args ...string) *instance {
	t.Helper()
	endpoints := filepath.Join(dir, "endpoints.json")
	_ = os.Remove(endpoints)
	args = append([]string{"run", "--data", dir, "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--nats", "127.0.0.1:0"}, args...)
	in := &instance{process: start(t, "millrace", nil, args...), data: dir}
	eventually(t, "the instance is ready", func() error {
		select {
		case <-in.exited:
			t.Fatalf("millrace run ended: %v\n%s", in.err, in.output.tail(5000))
		default:
		}
		b, err := os.ReadFile(endpoints)
		if err != nil {
			return err
		}
		var at struct{ HTTP, MQTT, NATS string }
		if err := json.Unmarshal(b, &at); err != nil {
			return err
		}
		in.http, in.mqtt, in.nats = at.HTTP, at.MQTT, at.NATS
		return ready(in.http)
	})
	return in
}

func ready(base string) error {
	resp, err := http.Get(base + "/readyz")
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("readyz: %s: %s", resp.Status, b)
	}
	return nil
}

// errForGood is an answer that stays as it is however often one asks.
var errForGood = errors.New("asking again will not help")

// answered returns the error of an answer that is not 200. That a question is wrong is no matter of time; that it took too long, or more
// memory than there was (422), is.
func answered(resp *http.Response, body []byte) error {
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
		return nil
	case code/100 == 4 && code != http.StatusUnprocessableEntity:
		return fmt.Errorf("%s: %s: %w", resp.Status, body, errForGood)
	}
	return fmt.Errorf("%s: %s", resp.Status, body)
}

// eventually waits until check returns nil. An answer that is one for good fails the test at once.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	pause := time.NewTicker(50 * time.Millisecond)
	defer pause.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if errors.Is(err, errForGood) {
			t.Fatalf("%s: %v", what, err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after %v: %v", what, patience, err)
		}
		<-pause.C
	}
}

// post sends a body and returns the answer's code and text.
func (in *instance) post(t *testing.T, path, contentType, body string) (int, string) {
	t.Helper()
	resp, err := http.Post(in.http+path, contentType, strings.NewReader(body))
	if err != nil {
		t.Fatalf("POST %s: %v", path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("POST %s: %v", path, err)
	}
	return resp.StatusCode, string(b)
}

// ask returns the body of an answer, which must be 200.
func ask(t *testing.T, method, address, body string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s: %v: %s", method, address, resp.Status, err, b)
	}
	return string(b)
}

// query runs SQL through the instance and returns the rows as text, without the header.
func (in *instance) query(ctx context.Context, sql string) ([][]string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, in.http+"/v1/sql", strings.NewReader(sql))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "text/plain")
	req.Header.Set("Accept", "text/csv")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if err := answered(resp, b); err != nil {
		return nil, fmt.Errorf("%s: %w", sql, err)
	}
	rows, err := csv.NewReader(bytes.NewReader(b)).ReadAll()
	if err != nil || len(rows) == 0 {
		return nil, fmt.Errorf("%s: %w: %s", sql, err, b)
	}
	return rows[1:], nil
}

// wantRows waits until sql answers with exactly want.
func (in *instance) wantRows(t *testing.T, sql string, want ...[]string) {
	t.Helper()
	eventually(t, sql, func() error {
		rows, err := in.query(t.Context(), sql)
		if err != nil {
			return err
		}
		if got := fmt.Sprint(rows); got != fmt.Sprint(want) {
			return fmt.Errorf("got %v, want %v", rows, want)
		}
		return nil
	})
}

// syncBuffer keeps what a process printed.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) tail(n int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.b.Bytes()
	return string(b[max(0, len(b)-n):])
}
