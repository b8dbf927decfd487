package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/test/torture/check"
	"github.com/millrace/millrace/test/torture/ledger"
	"github.com/millrace/millrace/test/torture/proxy"
)

// embeddedConfig makes files often, so that a run of a minute sees many of them, merged ones too, and closes the windows of the silent
// soon, so that much is late.
const embeddedConfig = `
history: {segment_age: 5s, merge_delay: 1s}
live: {query: {max_timeout: 2m}}
aggregator: {lateness: 5s}
`

// embedded is the set of one process, `millrace run`.
type embedded struct {
	process      *process
	lines        []*proxy.Proxy
	mqtt, http   *proxy.Proxy
	at, mqttAt   address
	natsAt       address
	disks        []*disk
	faults       []Fault
	withoutDisks string // why
	client       *http.Client
}

// diskBytes is the size of each of the disks that are filled: of the log, and of everything else. Several times what a run needs.
func diskBytes(messages int) int64 { return 256<<20 + 500*int64(messages) }

func newEmbedded(ctx context.Context, o Options, dir string) (_ set, err error) {
	e := &embedded{client: &http.Client{Transport: &http.Transport{}}}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close(ctx, ""))
		}
	}()
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	if o.Seed%2 == 0 {
		e.mountDisks(data, diskBytes(o.Messages))
	} else {
		e.withoutDisks = "every second seed runs on the machine's own disk"
	}
	file := filepath.Join(dir, "millrace.yml")
	control, err := controlOf(o.Control)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, []byte(embeddedConfig+control+check.Rules), 0o600); err != nil {
		return nil, err
	}
	e.process = &process{
		name: "millrace", path: filepath.Join(o.Bin, "millrace"), log: filepath.Join(dir, "millrace.log"), up: e.ready(data),
		args: []string{"run", "--config", file, "--data", data, "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--nats", "127.0.0.1:0"},
	}
	if e.mqtt, err = e.line(ctx, &e.mqttAt); err != nil {
		return nil, err
	}
	if e.http, err = e.line(ctx, &e.at); err != nil {
		return nil, err
	}
	e.faults = append(e.faults, processFaults(e.process, 4*time.Second)...)
	e.faults = append(append(e.faults, lineFaults("mqtt", e.mqtt)...), lineFaults("http", e.http)...)
	for i, d := range e.disks {
		e.faults = append(e.faults, d.fault([]string{"stores-full", "log-full"}[i], e.process.ensure))
	}
	return e, e.process.launch(ctx)
}

// controlOf returns the configuration that switches a promise off.
func controlOf(name string) (string, error) {
	switch name {
	case "":
		return "", nil
	case "no-repeats": // what a device sends again is not known
		return "router: {repeat_window: 0}\n", nil
	}
	return "", fmt.Errorf("control: %q, want no-repeats", name)
}

func (e *embedded) mountDisks(data string, bytes int64) {
	for _, dir := range []string{data, filepath.Join(data, "log")} {
		d, err := mount(dir, bytes)
		if err != nil {
			e.withoutDisks = err.Error()
			return
		}
		e.disks = append(e.disks, d)
	}
}

func (e *embedded) line(ctx context.Context, to *address) (*proxy.Proxy, error) {
	p, err := proxy.Listen(ctx, to.get)
	if err == nil {
		e.lines = append(e.lines, p)
	}
	return p, err
}

// ready waits until the instance takes messages, and keeps where.
func (e *embedded) ready(data string) func(ctx context.Context, p *process) error {
	return func(ctx context.Context, p *process) error {
		return p.until(ctx, "become ready", func() error {
			b, err := os.ReadFile(filepath.Join(data, "endpoints.json"))
			if err != nil {
				return err
			}
			var at struct {
				HTTP, MQTT, NATS string
				PID              int
			}
			if err := json.Unmarshal(b, &at); err != nil {
				return err
			}
			if at.PID != p.cmd.Process.Pid {
				return errors.New("it has not said where it listens")
			}
			if err := ready(ctx, e.client, at.HTTP); err != nil {
				return err
			}
			e.at.set(strings.TrimPrefix(at.HTTP, "http://"))
			e.mqttAt.set(at.MQTT)
			e.natsAt.set(at.NATS)
			return nil
		})
	}
}

func ready(ctx context.Context, client *http.Client, base string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, b)
	}
	return err
}

func (e *embedded) MQTT() string    { return e.mqtt.Addr() }
func (e *embedded) HTTP() string    { return "http://" + e.http.Addr() }
func (e *embedded) Faults() []Fault { return e.faults }
func (e *embedded) Note() string    { return e.withoutDisks }

// Source implements set.
func (e *embedded) Source() check.Source {
	return check.Source{Base: "http://" + e.at.get(), Client: e.client}
}

func (e *embedded) Stores(l *ledger.Ledger) []check.Store {
	return append(check.Stores(e.Source, l), check.Archive(e.Source, l))
}

func (e *embedded) Bus() connect.BusConfig {
	c := connect.DefaultBus()
	c.URL, c.Synced = e.natsAt.get(), true
	return c
}

func (e *embedded) Ensure(ctx context.Context) error { return e.process.ensure(ctx) }
func (e *embedded) Deaths() int                      { return e.process.deaths }

func (e *embedded) close(_ context.Context, keep string) error {
	var errs []error
	if e.process != nil {
		e.process.kill()
	}
	if keep != "" && len(e.disks) > 0 { // what is in memory goes with the disk
		errs = append(errs, os.CopyFS(keep, os.DirFS(e.disks[0].dir)))
	}
	for _, p := range e.lines {
		errs = append(errs, p.Close())
	}
	e.client.CloseIdleConnections()
	for _, d := range slices.Backward(e.disks) {
		errs = append(errs, d.unmount())
	}
	return errors.Join(errs...)
}
