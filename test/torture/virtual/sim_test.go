package virtual

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	busmem "github.com/millrace/millrace/pkg/bus/mem"
	storemem "github.com/millrace/millrace/pkg/store/mem"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/aggregator"
	"github.com/millrace/millrace/services/alerting"
	historywriter "github.com/millrace/millrace/services/history-writer"
	logconsumer "github.com/millrace/millrace/services/log-consumer"
	"github.com/millrace/millrace/services/router"
	stateprojector "github.com/millrace/millrace/services/state-projector"
)

// sim is one run.
type sim struct {
	plan  *plan
	log   *busmem.Log
	keep  *storemem.Store
	begun time.Time

	mu      sync.Mutex
	calls   map[string]int // how often each was made
	fired   []fired
	quiet   bool // no more faults
	traced  []string
	trimmed map[bus.PartitionID][]bus.Record
	acked   map[string]bool // by message id
	sent    map[string]bool
	copies  sync.Map // of storemem.Copy, by table
	faulty  []string // what is wrong besides what the tables show

	processes []*process
}

// outcome is what a run found.
type outcome struct {
	breaches []string
	fired    []fired
	trace    []string
}

// run simulates a plan in a bubble of its own.
func run(t *testing.T, p *plan) (o outcome) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &sim{
			plan: p, log: busmem.New(busmem.Config{Partitions: p.partitions, Now: time.Now, Readers: readers()}), keep: storemem.New(), begun: time.Now(),
			calls: make(map[string]int), trimmed: make(map[bus.PartitionID][]bus.Record), acked: make(map[string]bool),
			sent: make(map[string]bool),
		}
		s.simulate(t.Context())
		o = outcome{breaches: append(s.faulty, s.check()...), fired: s.fired, trace: s.traced}
	})
	return o
}

// readers keep what their topics hold before they have joined.
func readers() map[string][]string {
	all := map[string][]string{bus.Ingested: {router.Worker}, bus.Logs: {logconsumer.Worker}, bus.DeadLetters: {logconsumer.DeadLetterWorker}}
	add := func(worker string, topics ...string) {
		for _, topic := range topics {
			all[topic] = append(all[topic], worker)
		}
	}
	add(stateprojector.Worker, stateprojector.Topics()...)
	add(historywriter.Worker, bus.Telemetry, bus.Events)
	add(historywriter.ArchiveWorker, bus.Telemetry, bus.Events)
	add(aggregator.Worker, aggregator.Topics()...)
	add(alerting.Worker, alerting.Topics()...)
	return all
}

const (
	drainFor = 130 * time.Second // the longest backoff, then a window's length, its lateness, and what the devices' clocks are ahead
	stopFor  = time.Minute
)

func (s *sim) simulate(ctx context.Context) {
	life, end := context.WithCancel(ctx)
	defer end()
	var workers sync.WaitGroup
	for _, service := range services() {
		for n := range s.plan.replicas[service] {
			p := &process{sim: s, service: service, name: fmt.Sprintf("%s/%d", service, n), ended: make(chan struct{})}
			s.processes = append(s.processes, p)
			p.open()
			workers.Go(func() { p.live(life) })
		}
	}
	var world sync.WaitGroup
	world.Go(func() { s.devices(life) })
	for _, e := range s.plan.events {
		world.Go(func() {
			if e.what == eventSetBack {
				<-time.After(e.at - e.length)
				s.copies.Store(e.table, s.keep.Copy())
			}
			<-time.After(time.Until(s.begun.Add(e.at)))
			s.happen(e)
		})
	}
	world.Wait()
	s.mu.Lock()
	s.quiet = true
	s.mu.Unlock()
	s.note("the faults are over")
	<-time.After(drainFor)
	end()
	stopped := make(chan struct{})
	go func() { workers.Wait(); close(stopped) }()
	select {
	case <-stopped:
	case <-time.After(stopFor):
		s.breach("a worker did not stop within %v", stopFor)
		for _, p := range s.processes {
			p.crash()
		}
		<-stopped
	}
}

// happen lets an event happen.
func (s *sim) happen(e event) {
	s.note("%v", e)
	switch e.what {
	case eventCrash:
		s.process(e.process).crash()
	case eventAll:
		for _, p := range s.processes {
			p.crash()
		}
	case eventPause:
		s.process(e.process).sleep(e.length, e.wake)
	case eventStop:
		s.process(e.process).stop()
	case eventSetBack:
		s.setBack(e)
	case eventTrim:
		s.trim()
	case eventPower:
		s.losePower()
	}
}

func (s *sim) process(name string) *process {
	return s.processes[slices.IndexFunc(s.processes, func(p *process) bool { return p.name == name })]
}

// setBack kills the processes that write a table and gives it back an older content; the copy was taken when the run was that old.
func (s *sim) setBack(e event) {
	for _, p := range s.processes {
		if p.service == owners()[e.table] {
			p.crash()
		}
	}
	c, _ := s.copies.Load(e.table)
	old, ok := c.(storemem.Copy)
	if !ok {
		s.breach("there is no copy of %s", e.table)
		return
	}
	if err := s.keep.SetBack(e.table, old); err != nil {
		s.breach("%v", err)
	}
}

// trim drops what every reader of a topic has read. Two workers warm their memory of what they have seen with what they have read, so
// their topics stay.
func (s *sim) trim() {
	for _, topic := range bus.Topics() {
		for n := range s.plan.partitions {
			if topic == bus.Ingested || topic == bus.DeadLetters {
				continue
			}
			id := bus.PartitionID{Topic: topic, Number: n}
			gone := s.log.TrimRead(id)
			s.mu.Lock()
			s.trimmed[id] = append(s.trimmed[id], gone...)
			s.mu.Unlock()
		}
	}
}

// records returns all that a partition ever held.
func (s *sim) records(topic string, n int) []bus.Record {
	id := bus.PartitionID{Topic: topic, Number: n}
	return append(slices.Clone(s.trimmed[id]), s.log.Records(id)...)
}

// note adds a line to the trace.
func (s *sim) note(format string, args ...any) {
	if !s.plan.trace {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.traced = append(s.traced, fmt.Sprintf("%9.3fs ", time.Since(s.begun).Seconds())+fmt.Sprintf(format, args...))
}

func (s *sim) noteAppend(p *process, what string, id bus.PartitionID, recs []bus.Record) {
	if !s.plan.trace {
		return
	}
	var texts []string
	for _, r := range recs {
		switch id.Topic {
		case bus.Aggregates:
			var a telemetry.Aggregate
			_ = telemetry.ParseAggregate(r.Value, &a)
			texts = append(texts, fmt.Sprintf("%s/%s %v+%ds n=%d rev %d", a.DeviceID, a.ChannelKey, s.since(a.WindowStart), a.WindowLength/1e9, a.Count, a.Revision))
		case bus.Alarms:
			var a telemetry.Alarm
			_ = telemetry.ParseAlarm(r.Value, &a)
			texts = append(texts, fmt.Sprintf("%s %s %s/%s %s rev %d", a.AlarmID[:6], a.Rule, a.DeviceID, a.ChannelKey, a.State, a.Revision))
		case bus.DeadLetters:
			var d telemetry.DeadLetter
			_ = telemetry.ParseDeadLetter(r.Value, &d)
			texts = append(texts, fmt.Sprintf("%s %s %s", d.Worker, d.Topic, d.Position))
		default:
			h, _ := telemetry.PeekMessage(r.Value)
			texts = append(texts, fmt.Sprintf("%s@%v", h.MessageID, r.Origin.Position))
		}
	}
	s.note("%s %s %v: %s", p.name, what, id, strings.Join(texts, ", "))
}

func (s *sim) since(t telemetry.Time) time.Duration { return t.Std().Sub(s.begun) }

func (s *sim) breach(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faulty = append(s.faulty, fmt.Sprintf(format, args...))
}

// process is one process of one service, through all its lives.
type process struct {
	sim           *sim
	service, name string

	mu      sync.Mutex
	log     *busmem.Log
	keep    *storemem.Store
	down    chan struct{} // closed when this life has crashed
	crashed bool
	awake   chan struct{} // closed when it wakes; nil while it is awake
	cancel  context.CancelFunc
	ended   chan struct{}
}

// open begins a life with fresh handles.
func (p *process) open() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log, p.keep = p.sim.log.Open(), p.sim.keep.Open()
	p.down, p.crashed, p.awake = make(chan struct{}), false, nil
	p.log.SetOwnFaults(p.sim.busFaults(p))
	p.keep.SetFaults(p.sim.storeFaults(p))
}

// live runs the service again and again until ctx ends.
func (p *process) live(ctx context.Context) {
	for lives := 0; ; lives++ {
		life, cancel := context.WithCancel(ctx)
		p.mu.Lock()
		p.cancel = cancel
		p.mu.Unlock()
		p.sim.note("%s starts", p.name)
		err := p.serve(life)
		cancel()
		p.sim.note("%s ended: %v", p.name, err)
		if ctx.Err() != nil {
			if err != nil && !errors.Is(err, busmem.ErrCrashed) {
				p.sim.breach("%s ended with %v", p.name, err)
			}
			return
		}
		<-time.After(time.Duration(100+lives*300) * time.Millisecond)
		p.crash() // whatever it left behind has no effect
		p.open()
	}
}

// crash kills this life.
func (p *process) crash() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.crashed {
		return
	}
	p.crashed = true
	p.log.Crash()
	p.keep.Crash()
	close(p.down)
}

// stop asks this life to end.
func (p *process) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cancel != nil {
		p.cancel()
	}
}

// sleep stops the process in the middle of whatever it does. Its shares go to others; some time after it has woken, it learns that.
func (p *process) sleep(length, learns time.Duration) {
	p.mu.Lock()
	log, awake := p.log, make(chan struct{})
	if p.awake != nil || p.crashed {
		p.mu.Unlock()
		return
	}
	p.awake = awake
	p.mu.Unlock()
	<-time.After(length / 2)
	wake := log.Lapse()
	<-time.After(length - length/2)
	p.sim.note("%s wakes", p.name)
	p.mu.Lock()
	if p.awake == awake {
		p.awake = nil
	}
	close(awake)
	p.mu.Unlock()
	<-time.After(learns)
	wake()
}

// gate holds a call back while the process sleeps.
func (p *process) gate() error {
	p.mu.Lock()
	awake, down := p.awake, p.down
	p.mu.Unlock()
	if awake == nil {
		return nil
	}
	select {
	case <-awake:
		return nil
	case <-down:
		return busmem.ErrCrashed
	}
}

// wait lets d pass for a call, as far as the process lives and wants to wait.
func (p *process) wait(ctx context.Context, d time.Duration) error {
	p.mu.Lock()
	down := p.down
	p.mu.Unlock()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return p.gate()
	case <-ctx.Done():
		return ctx.Err()
	case <-down:
		return busmem.ErrCrashed
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
