package nats_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/bustest"
	"github.com/millrace/millrace/pkg/bus/nats"
)

// serveVariable makes the test binary a NATS server: "directory|address".
const serveVariable = "MILLRACE_TEST_NATS_SERVE"

func TestMain(m *testing.M) {
	if what, ok := os.LookupEnv(serveVariable); ok {
		os.Exit(serve(what))
	}
	goleak.VerifyTestMain(m)
}

// serve runs an embedded server until it is killed, or its standard input, which its parent holds, is closed.
func serve(what string) int {
	dir, addr, _ := strings.Cut(what, "|")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	server, err := nats.Embedded(ctx, nats.EmbeddedConfig{Dir: dir, Addr: addr, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(server.Addr())
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	server.Shutdown()
	return 0
}

// process is a server in a process of its own, which can be killed.
type process struct {
	dir, url string
	cmd      *exec.Cmd
}

func startProcess(t *testing.T) *process {
	t.Helper()
	p := &process{dir: t.TempDir(), url: "nats://127.0.0.1:0"}
	p.start(t)
	t.Cleanup(func() { p.kill() })
	return p
}

func (p *process) start(t *testing.T) {
	t.Helper()
	p.cmd = exec.Command(os.Args[0]) // this test binary
	p.cmd.Env = append(os.Environ(), serveVariable+"="+p.dir+"|"+strings.TrimPrefix(p.url, "nats://"))
	p.cmd.Stderr = os.Stderr
	if _, err := p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the server did not start: %v", err)
	}
	p.url = strings.TrimSpace(line)
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func openLog(t *testing.T, cfg nats.Config) *nats.Log {
	t.Helper()
	cfg.Now, cfg.Synced = time.Now, true
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	log, err := nats.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return log
}

func TestContract(t *testing.T) {
	bustest.Run(t, bustest.Driver{Open: func(t *testing.T, o bustest.Options) bustest.Instance {
		t.Helper()
		server := startProcess(t)
		cfg := nats.Config{URL: server.url, Partitions: o.Partitions, RecordBytesMax: o.RecordBytesMax, Lease: time.Second, Trim: true}
		cfg.FrameBytesMax = o.RecordBytesMax * 2
		if o.BytesMax > 0 {
			cfg.Retention.BytesMax = o.BytesMax * int64(o.Partitions)
		}
		again := func(t *testing.T) bus.Log {
			t.Helper()
			c := cfg
			c.URL = server.url
			return openLog(t, c)
		}
		return bustest.Instance{
			Log:   openLog(t, cfg),
			Again: again,
			Crash: func(t *testing.T) bus.Log {
				t.Helper()
				server.kill()
				server.start(t)
				return again(t)
			},
			Mortal: func(t *testing.T) (bus.Log, func()) {
				t.Helper()
				between := startProxy(t, server.url)
				c := cfg
				c.URL = between.url()
				return openLog(t, c), between.freeze
			},
		}
	}})
}
