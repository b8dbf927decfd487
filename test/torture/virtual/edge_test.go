package virtual

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

// edge is the process that takes what devices send; it dies and comes back.
type edge struct {
	process
	mu     sync.Mutex
	writer *bus.Writer
}

const (
	answerWithin = 3 * time.Second // then a device sends again
	attemptsMax  = 12              // then it gives up, and nobody knows
)

// answer is a ticket for one message.
type answer chan error

// Done implements bus.Ticket.
func (a answer) Done(_ int, err error) { a <- err }

// devices lets every device send what it has to, and returns when all have.
func (s *sim) devices(ctx context.Context) {
	e := &edge{process: process{sim: s, service: "edge", name: "edge"}}
	e.begin(ctx)
	byDevice := make(map[string][]send)
	for _, one := range s.plan.sends {
		byDevice[one.device] = append(byDevice[one.device], one)
	}
	var all sync.WaitGroup
	for _, sends := range byDevice {
		all.Go(func() {
			for _, one := range sends {
				<-time.After(time.Until(s.begun.Add(one.at)))
				e.deliver(ctx, one)
				if one.again {
					e.deliver(ctx, one)
				}
			}
		})
	}
	deaths, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(deaths)
		e.dieAsPlanned(ctx, over)
	}()
	all.Wait()
	close(over)
	<-deaths
	e.end(ctx)
}

func (e *edge) begin(ctx context.Context) {
	e.open()
	w := bus.NewWriter(ctx, e.log, bus.WriterConfig{})
	e.mu.Lock()
	defer e.mu.Unlock()
	e.writer = w
}

// end gives up what is under way: nobody knows its outcome.
func (e *edge) end(ctx context.Context) {
	e.crash()
	e.mu.Lock()
	w := e.writer
	e.mu.Unlock()
	gone, cancel := context.WithCancel(ctx)
	cancel()
	_ = w.Close(gone) // what was under way is reported to its tickets
}

// dieAsPlanned restarts the edge at the times of its events, and whenever a call has killed it.
func (e *edge) dieAsPlanned(ctx context.Context, over <-chan struct{}) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	var planned []time.Duration
	for _, v := range e.sim.plan.events {
		if v.what == eventEdge || v.what == eventAll {
			planned = append(planned, v.at)
		}
	}
	for {
		select {
		case <-over:
			return
		case <-tick.C:
		}
		due := len(planned) > 0 && time.Since(e.sim.begun) >= planned[0]
		if due {
			planned = planned[1:]
		}
		e.process.mu.Lock()
		dead := e.crashed
		e.process.mu.Unlock()
		if due || dead {
			e.end(ctx)
			e.begin(ctx)
		}
	}
}

// deliver sends one message until it is acknowledged, as a device does.
func (e *edge) deliver(ctx context.Context, one send) {
	s := e.sim
	m := one.message
	m.MessageID = fmt.Sprintf("%s-%d", one.device, one.number)
	m.EventTime += telemetry.At(s.begun)
	id := bus.PartitionID{Topic: bus.Ingested, Number: bus.PartitionOf(m.Tenant, m.DeviceID, s.plan.partitions)}
	s.mu.Lock()
	s.sent[m.MessageID] = true
	s.mu.Unlock()
	for range attemptsMax {
		m.IngestTime = telemetry.At(time.Now())
		value := telemetry.AppendMessage(nil, &m)
		if one.garbage {
			value = garbage(m.MessageID)
		}
		e.mu.Lock()
		w := e.writer
		e.mu.Unlock()
		told := make(answer, 1)
		if err := w.Submit(ctx, id, value, bus.Origin{}, told); err != nil {
			<-time.After(time.Second)
			continue
		}
		patience := time.NewTimer(answerWithin)
		select {
		case err := <-told:
			patience.Stop()
			if err == nil {
				s.mu.Lock()
				s.acked[m.MessageID] = true
				s.mu.Unlock()
				s.note("%s is acknowledged", m.MessageID)
				return
			}
			<-time.After(500 * time.Millisecond)
		case <-patience.C:
		}
	}
}

// garbage is no message, but says which it was meant to be.
func garbage(id string) []byte { return append([]byte{0xff, 0xff, 0xff}, id...) }

// garbageID reads what garbage wrote.
func garbageID(value []byte) string { return string(value[3:]) }
