package rig

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/test/torture/check"
	"github.com/millrace/millrace/test/torture/ledger"
	"github.com/millrace/millrace/test/torture/proxy"
)

// cluster is a set of workers that are processes of their own, several of each, over engines.
type cluster struct {
	dir, bin, file string
	config         string
	bus            connect.BusConfig
	lease          time.Duration
	processes      []*process
	edges          []*edge
	ask            []*address // who answers queries, host:port
	faults         []Fault
	lines          []*proxy.Proxy
	mqtt, http     *proxy.Proxy
	client         *http.Client
	archive        func(l *ledger.Ledger) check.Store // nil where there is none
	made           []remover                          // what is in engines, and how it goes

	mu   sync.Mutex
	dice *rand.Rand
}

// edge is where one replica of ingest listens.
type edge struct{ mqtt, http address }

// commonConfig is what every process of a cluster is told. A device may go to another edge while the first is paused with what it had
// sent in hand, and send much before that wakes: so a repeat is known among more than the usual number of messages.
const commonConfig = `
router: {repeat_window: 16384}
ingest:
  mqtt: {addr: "127.0.0.1:0"}
  http: {addr: "127.0.0.1:0"}
live:
  http: {addr: "127.0.0.1:0"}
  query: {max_timeout: 2m}
aggregator: {lateness: 5s}
`

func (c *cluster) open(ctx context.Context, o Options, dir string) error {
	c.dir, c.bin, c.file = dir, o.Bin, filepath.Join(dir, "millrace.yml")
	c.dice = rand.New(rand.NewPCG(o.Seed, 7))
	text := fmt.Sprintf("data: %s\n%s%s%s", filepath.Join(dir, "data"), c.config, commonConfig, check.Rules)
	if err := os.WriteFile(c.file, []byte(text), 0o600); err != nil {
		return err
	}
	var err error
	if c.mqtt, err = c.line(ctx, func() string { return c.edge().mqtt.get() }); err != nil {
		return err
	}
	c.http, err = c.line(ctx, func() string { return c.edge().http.get() })
	c.faults = append(append(c.faults, lineFaults("mqtt", c.mqtt)...), lineFaults("http", c.http)...)
	return err
}

func (c *cluster) line(ctx context.Context, to func() string) (*proxy.Proxy, error) {
	p, err := proxy.Listen(ctx, to)
	if err == nil {
		c.lines = append(c.lines, p)
	}
	return p, err
}

// line through which an engine is reached, with its faults.
func (c *cluster) through(ctx context.Context, name, address string) (string, error) {
	by, p, err := through(ctx, address)
	if err != nil {
		return "", fmt.Errorf("a line to %s: %w", name, err)
	}
	c.lines = append(c.lines, p)
	c.faults = append(c.faults, lineFaults(name, p)...)
	return by, nil
}

// edge returns one of the edges, any.
func (c *cluster) edge() *edge {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.edges[c.dice.IntN(len(c.edges))]
}

// start adds replicas of workers. All of them share the faults of processes: each time another one is drawn.
func (c *cluster) start(ctx context.Context, replicas int, names ...string) error {
	for _, name := range names {
		for i := range replicas {
			p := &process{
				name: fmt.Sprintf("%s-%d", name, i+1), path: filepath.Join(c.bin, name), log: filepath.Join(c.dir, fmt.Sprintf("%s-%d.log", name, i+1)),
				args: []string{"--config", c.file, "--log-format", "json"},
				up:   func(context.Context, *process) error { return nil },
			}
			switch name {
			case "ingest":
				e := &edge{}
				c.edges = append(c.edges, e)
				p.up = e.listens
			case "live":
				at := &address{}
				c.ask = append(c.ask, at)
				p.up = func(ctx context.Context, p *process) error {
					return p.until(ctx, "serve queries", func() error { return p.logged(at, "serving live events and queries", "", "") })
				}
			}
			if err := p.launch(ctx); err != nil {
				return err
			}
			c.processes = append(c.processes, p)
		}
	}
	return nil
}

// workerFaults draws a process for each fault.
func (c *cluster) workerFaults() []Fault {
	var all []Fault
	for i, f := range processFaults(c.processes[0], 3*time.Second) {
		all = append(all, Fault{"worker-" + f.Kind, func(ctx context.Context, dice *rand.Rand) error {
			p := c.processes[dice.IntN(len(c.processes))]
			if err := processFaults(p, 3*time.Second)[i].Do(ctx, dice); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			return nil
		}})
	}
	return append(all, Fault{"zombie", func(ctx context.Context, dice *rand.Rand) error {
		p := c.processes[dice.IntN(len(c.processes))]
		p.pause()
		nap(ctx, c.lease+between(dice, 0, 4*time.Second))
		p.resume()
		return p.ensure(ctx)
	}}, Fault{"rolling", func(ctx context.Context, _ *rand.Rand) error {
		for _, p := range c.processes {
			if err := p.terminate(); err != nil {
				return err
			}
			if err := p.launch(ctx); err != nil {
				return err
			}
		}
		return nil
	}})
}

func (e *edge) listens(ctx context.Context, p *process) error {
	return p.until(ctx, "listen", func() error {
		return errors.Join(p.logged(&e.mqtt, "listening", "protocol", "mqtt"), p.logged(&e.http, "listening", "protocol", "http"))
	})
}

// logged looks for a line with a message and, where key is not empty, a field, and keeps its addr.
func (p *process) logged(at *address, msg, key, value string) error {
	lines := bufio.NewScanner(strings.NewReader(p.said()))
	for lines.Scan() {
		var fields map[string]any
		if json.Unmarshal(lines.Bytes(), &fields) != nil || fields["msg"] != msg || key != "" && fields[key] != value {
			continue
		}
		addr, _ := fields["addr"].(string)
		at.set(addr)
		return nil
	}
	return fmt.Errorf("it has not said %q", msg)
}

func (c *cluster) MQTT() string           { return c.mqtt.Addr() }
func (c *cluster) HTTP() string           { return "http://" + c.http.Addr() }
func (c *cluster) Faults() []Fault        { return c.faults }
func (c *cluster) Bus() connect.BusConfig { return c.bus }
func (c *cluster) Note() string           { return "these stores are elsewhere" }

// Source implements set.
func (c *cluster) Source() check.Source {
	c.mu.Lock()
	defer c.mu.Unlock()
	return check.Source{Base: "http://" + c.ask[c.dice.IntN(len(c.ask))].get(), Client: c.client}
}

func (c *cluster) Stores(l *ledger.Ledger) []check.Store {
	all := check.Stores(c.Source, l)
	if c.archive != nil {
		all = append(all, c.archive(l))
	}
	return all
}

func (c *cluster) Ensure(ctx context.Context) error {
	for _, p := range c.processes {
		if err := p.ensure(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) Deaths() int {
	n := 0
	for _, p := range c.processes {
		n += p.deaths
	}
	return n
}

func (c *cluster) close(ctx context.Context, keep string) error {
	var errs []error
	for _, p := range slices.Backward(c.processes) {
		p.kill()
	}
	for _, p := range c.lines {
		errs = append(errs, p.Close())
	}
	if keep == "" {
		errs = append(errs, c.remove(context.WithoutCancel(ctx)))
	}
	c.client.CloseIdleConnections()
	return errors.Join(errs...)
}
