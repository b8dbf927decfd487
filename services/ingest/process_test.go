package ingest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/goleak"

	"github.com/millrace/millrace/pkg/listen"
	"github.com/millrace/millrace/services/ingest"
)

// edgeProcess makes the test's own binary an edge with limits of hostileLimits, so that what it needs is measured apart from
// those who attack it.
const edgeProcess = "MILLRACE_TEST_EDGE"

func TestMain(m *testing.M) {
	if os.Getenv(edgeProcess) != "" {
		if err := runEdge(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// hostileLimits are small, so that an attack meets them within a second.
func hostileLimits(c *ingest.Config) {
	c.MQTT.Addr, c.MQTT.TLSAddr, c.HTTP.Addr = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	l := &c.Limits
	l.Connections, l.AddressConnections, l.Handshakes = 1500, 400, 400
	l.ConnectTimeout, l.PacketTimeout = time.Second, 3*time.Second
	l.Inflight, l.BodiesInflight, l.BodyBytes = 8<<20, 24<<20, 4<<20
	c.HTTP.ReadTimeout = 2 * time.Second
}

// hostileMemory is what a process of hostileLimits may need: its limits, which the collector may double, connections, and its code.
const hostileMemory = 2*(8<<20+24<<20) + 1500*(16<<10+32<<10) + 64<<20

func runEdge() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	cfg := ingest.DefaultConfig()
	hostileLimits(&cfg)
	cert, key, ok := strings.Cut(os.Getenv(edgeProcess), ",")
	if !ok {
		return fmt.Errorf("%s: want a certificate and its key", edgeProcess)
	}
	cfg.MQTT.TLS = listen.TLS{Cert: cert, Key: key}
	metrics := prometheus.NewRegistry()
	var mu sync.Mutex
	addrs := map[string]string{}
	i, err := ingest.New(ctx, cfg, ingest.Deps{
		Bus: null{4}, Metrics: metrics, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Listening: func(name string, a net.Addr) {
			mu.Lock()
			defer mu.Unlock()
			addrs[name] = a.String()
		},
		Ready: func(reason error) {
			if reason == nil {
				_ = json.NewEncoder(os.Stdout).Encode(addrs)
			}
		},
	})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	addrs["metrics"] = ln.Addr().String()
	go func() { _ = http.Serve(ln, promhttp.HandlerFor(metrics, promhttp.HandlerOpts{})) }()
	return i.Run(ctx)
}

// process is an edge in a process of its own.
type process struct {
	t     testing.TB
	pid   int
	addrs map[string]string
}

func startProcess(t *testing.T) *process {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc, and all addresses of 127.0.0.0/8")
	}
	cert, key, _, _ := certificate(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), edgeProcess+"="+cert+","+key)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the edge ended: %v", err)
		}
	})
	p := &process{t: t, pid: cmd.Process.Pid, addrs: map[string]string{}}
	if err := json.NewDecoder(bufio.NewReader(out)).Decode(&p.addrs); err != nil {
		t.Fatalf("the edge did not start: %v", err)
	}
	return p
}

// memory returns the process's resident memory at its highest, in bytes.
func (p *process) memory() int64 {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				p.t.Fatal(err)
			}
			return kib << 10
		}
	}
	p.t.Fatal("no VmHWM")
	return 0
}

// series returns the process's metrics, such as `millrace_x_total{reason="y"}`.
func (p *process) series() map[string]float64 {
	p.t.Helper()
	res, err := client(p.t).Get("http://" + p.addrs["metrics"])
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	all := map[string]float64{}
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if at := strings.LastIndexByte(lines.Text(), ' '); at > 0 && lines.Text()[0] != '#' {
			if v, err := strconv.ParseFloat(lines.Text()[at+1:], 64); err == nil {
				all[lines.Text()[:at]] = v
			}
		}
	}
	return all
}

// dial connects to a listener of the edge from an address of its own, 127.0.1.from, so that attacks are told apart by it.
func (p *process) dial(ctx context.Context, name string, from int) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(from))}, Timeout: 5 * time.Second}
	return d.DialContext(ctx, "tcp", p.addrs[name])
}
