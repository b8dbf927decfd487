package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/nats"
)

// stallMax is how long a partition may stand still while its readers are restarted one after the other. What is measured is shown in
// the log of the test and is far less; the machine may be busy.
const stallMax = 30 * time.Second

// engineStallMax is the same over engines: a worker that leaves finishes its write, and ClickHouse on a busy machine of two processors takes
// seconds for one.
const engineStallMax = 2 * time.Minute

// stalls measures for how long the things that should move did not.
type stalls struct {
	mu      sync.Mutex
	points  map[string]map[int]*moving
	stopped func()
}

// moving is one partition of something.
type moving struct {
	value   uint64
	since   time.Time
	longest time.Duration
}

// watchStalls asks what for the newest value of each partition, several times a second, until the test ends or finish is called. A
// question that fails is no movement.
func watchStalls(t *testing.T, what map[string]func(context.Context) (map[int]uint64, error)) *stalls {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	s := &stalls{points: map[string]map[int]*moving{}}
	var asking sync.WaitGroup
	for name, ask := range what {
		s.points[name] = map[int]*moving{}
		asking.Go(func() {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				values, err := ask(ctx)
				if err == nil {
					s.note(name, values, time.Now())
				}
				<-tick.C
			}
		})
	}
	s.stopped = func() { stop(); asking.Wait() }
	t.Cleanup(s.stopped)
	return s
}

func (s *stalls) note(name string, values map[int]uint64, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, value := range values {
		m := s.points[name][n]
		switch {
		case m == nil:
			s.points[name][n] = &moving{value: value, since: now}
		case m.value != value:
			m.longest = max(m.longest, now.Sub(m.since))
			m.value, m.since = value, now
		}
	}
}

// finish ends the measuring, shows a table, and fails where something stood still for longer than most. What should move must do so
// until now.
func (s *stalls) finish(t *testing.T, most time.Duration) {
	t.Helper()
	s.stopped()
	ended := time.Now()
	var table strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.points)) {
		fmt.Fprintf(&table, "\n%-16s", name)
		for _, n := range slices.Sorted(maps.Keys(s.points[name])) {
			m := s.points[name][n]
			m.longest = max(m.longest, ended.Sub(m.since))
			fmt.Fprintf(&table, " %6.1fs", m.longest.Seconds())
			if m.longest > most {
				t.Errorf("%s: partition %d stood still for %v", name, n, m.longest)
			}
		}
		if len(s.points[name]) == 0 {
			t.Errorf("%s: nothing is known of it", name)
		}
	}
	t.Logf("longest time without progress, by partition:%s", table.String())
}

// openLog opens the log of a NATS server to look at it.
func openLog(t *testing.T, url string) *nats.Log {
	t.Helper()
	log, err := nats.Open(t.Context(), nats.Config{URL: url, ReadOnly: true, Synced: true, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return log
}

// partitionEnds asks for the newest position of each partition of a topic.
func partitionEnds(log bus.Log, topic string) func(context.Context) (map[int]uint64, error) {
	return func(ctx context.Context) (map[int]uint64, error) {
		all := map[int]uint64{}
		for n := range log.Partitions(topic) {
			p, err := log.Partition(ctx, bus.PartitionID{Topic: topic, Number: n})
			if err != nil {
				return nil, err
			}
			end, err := p.End(ctx)
			if err != nil {
				return nil, err
			}
			all[n] = end.Seq
		}
		return all, nil
	}
}

// newestRows asks a table for the newest number of each partition's devices.
func newestRows(in func() *instance, table string, devices []*ledgerDevice, partitions int) func(context.Context) (map[int]uint64, error) {
	return func(ctx context.Context) (map[int]uint64, error) {
		rows, err := in().query(ctx, "SELECT device_id, max(value)::BIGINT FROM "+table+" WHERE device_id LIKE 'ledger-%' GROUP BY 1")
		if err != nil {
			return nil, err
		}
		all := map[int]uint64{}
		for _, row := range rows {
			value, err := strconv.ParseUint(row[1], 10, 64)
			if err != nil {
				return nil, err
			}
			for _, d := range devices {
				if d.id == row[0] {
					all[bus.PartitionOf("default", d.id, partitions)] += value
				}
			}
		}
		return all, nil
	}
}

// rollingConfig is one file for all processes over one NATS server; the tables are those of `millrace run`, which is one process.
const rollingConfig = `
bus: {url: %s, synced: true}
workers: [state-projector, history-writer, aggregator, alerting, log-consumer, live]
ingest:
  mqtt: {addr: "127.0.0.1:0"}
  http: {addr: "127.0.0.1:0"}
live: {nats: false}
history: {segment_age: 2s}
aggregator: {lateness: 2s}
alerting:
  rules:
    - {name: each, channel: n, on_change: true, severity: info}
  notify: []
`

// fleet is the processes of a deployment, by name.
type fleet struct {
	config string

	mu    sync.Mutex
	all   map[string]*process
	edges map[string]string // MQTT addresses by process
	rows  *instance         // where SQL is
	data  string
}

func (f *fleet) start(t *testing.T, name string) {
	t.Helper()
	worker, _, _ := strings.Cut(name, "/")
	if worker == "millrace" {
		in := run(t, f.data, "--config", f.config)
		f.mu.Lock()
		f.all[name], f.rows = in.process, in
		f.mu.Unlock()
		return
	}
	p := start(t, worker, nil, "--config", f.config, "--log-format", "json")
	f.mu.Lock()
	f.all[name] = p
	f.mu.Unlock()
	p.ready(t)
	if worker == "ingest" {
		addr := p.logged(t, "listening", "protocol", "mqtt")
		f.mu.Lock()
		f.edges[name] = addr
		f.mu.Unlock()
	}
}

// stop asks a process to drain, and fails where it does not end well.
func (f *fleet) stop(t *testing.T, name string) time.Duration {
	t.Helper()
	f.mu.Lock()
	p := f.all[name]
	delete(f.edges, name)
	f.mu.Unlock()
	began := time.Now()
	p.stop(t)
	return time.Since(began)
}

// edge returns where a device may send: an edge that is not being restarted.
func (f *fleet) edge() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, addr := range f.edges { // any
		return addr
	}
	return "127.0.0.1:1"
}

func (f *fleet) sql() *instance {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rows
}

// TestARollingRestartLosesAndDoublesNothing restarts every process of a deployment with SIGTERM, one after the other, while devices send
// and send again what got no answer. Each process drains in time and ends well; nothing is lost, nothing doubled, nothing a dead letter;
// and no partition stands still for long.
func TestARollingRestartLosesAndDoublesNothing(t *testing.T) {
	dir, config, url := overServer(t, rollingConfig)
	f := &fleet{config: config, data: dir, all: map[string]*process{}, edges: map[string]string{}}
	names := []string{"router/0", "router/1", "ingest/0", "ingest/1", "millrace/0"}
	for _, name := range names {
		f.start(t, name)
	}
	log := openLog(t, url)

	l := startLedger(t, "ledger", 16, pace, f.edge)
	s := watchStalls(t, map[string]func(context.Context) (map[int]uint64, error){
		"edge":            partitionEnds(log, bus.Ingested),
		"router":          partitionEnds(log, bus.Telemetry),
		"aggregator":      partitionEnds(log, bus.Aggregates),
		"alerting":        partitionEnds(log, bus.Alarms),
		"history-writer":  newestRows(f.sql, "device_messages", l.all, log.Partitions(bus.Telemetry)),
		"state-projector": newestRows(f.sql, "device_state", l.all, log.Partitions(bus.Telemetry)),
	})
	for _, name := range names {
		l.more(t, 300, "before "+name+" is restarted")
		drained := f.stop(t, name)
		f.start(t, name)
		t.Logf("%s drained in %v", name, drained.Round(time.Millisecond))
	}
	l.more(t, 300, "in the end")
	s.finish(t, stallMax)
	l.finish()
	checkLedger(t, f.sql(), l.all)
	f.sql().wantRows(t, "SELECT count(*) FROM dead_letters", []string{"0"})
}

// TestEnginesUnderARollingRestart is TestARollingRestartLosesAndDoublesNothing with every worker twice, over each set of engines.
func TestEnginesUnderARollingRestart(t *testing.T) {
	for _, set := range sets() {
		t.Run(set.name, func(t *testing.T) {
			d := deploy(t, set.over(t))
			for _, worker := range workers() {
				for i := range 2 {
					d.replica(worker, i).ready(t)
				}
			}
			l := startLedger(t, "ledger", 10, pace, d.edge)
			const partitions = 4
			asked := func() *instance { return d.live(0) }
			s := watchStalls(t, map[string]func(context.Context) (map[int]uint64, error){
				"history-writer":  newestRows(asked, "device_messages", l.all, partitions),
				"state-projector": newestRows(asked, "device_state", l.all, partitions),
			})
			for _, worker := range workers() {
				if worker == "live" {
					continue // it is who is asked
				}
				for i := range 2 {
					l.more(t, 200, "before "+worker+" is restarted")
					began := time.Now()
					d.replica(worker, i).stop(t)
					t.Logf("%s %d drained in %v", worker, i, time.Since(began).Round(time.Millisecond))
					d.start(t, worker, i)
					d.replica(worker, i).ready(t) // before the next one goes, as whoever rolls a deployment waits for it
					if worker == "ingest" {
						d.find(t, worker, i)
					}
				}
			}
			l.more(t, 200, "in the end")
			s.finish(t, engineStallMax)
			l.finish()
			for _, device := range l.all {
				device.check(t, d.live(0))
			}
			d.live(0).wantRows(t, windowsDiffer("10"), []string{"0"})
			wantNoLetters(t, d.live(0))
		})
	}
}

func (d *deployment) replica(worker string, i int) *process {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.replicas[worker][i]
}

// ready waits until a worker's process has opened what it needs.
func (p *process) ready(t *testing.T) {
	t.Helper()
	p.logged(t, "gate is open", "gate", "bus")
}

func wantNoLetters(t *testing.T, in *instance) {
	t.Helper()
	letters, err := get(in, "/v1/dead-letters?limit=100", "dead_letters")
	if err != nil || len(letters) > 0 {
		text, _ := json.Marshal(letters)
		t.Errorf("dead letters %s, %v; want none", text, err)
	}
}
