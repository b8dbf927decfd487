package router

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/millrace/millrace/pkg/books"
	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/rules"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
	"github.com/millrace/millrace/services/router/internal/repeats"
)

// none is the row type of a worker without a store.
type none = struct{}

// arenaBytes is how much room enriched messages are given at once.
const arenaBytes = 64 << 10

var errNoDevice = errors.New("the message names no device")

// task routes what one share's devices say. One goroutine uses it.
type task struct {
	*table
	memory    *repeats.Memory // nil where repeats are not dropped
	routed    *books.Routed   // what was done since the last account
	forgotten uint64          // of memory, as counted so far
	standing  *standing       // what topics hold of the records to come; nil once those have passed

	// The message in hand. Whatever aliases it is overwritten with the next.
	head     telemetry.Header
	value    []byte
	parsed   bool
	message  telemetry.Message
	input    rules.Message
	rows     map[string]any // of reference data, by name
	rowsOf   bool           // rows are those of the message in hand
	ready    bool           // input is set to it
	wanted   []*route
	enriched []byte // room that is handed out to enriched values and never taken back
}

func newTask(t *table, memory *repeats.Memory) *task {
	return &task{table: t, memory: memory, routed: books.NewRouted(rand.Text()), rows: make(map[string]any, len(t.enrichments))}
}

var (
	_ worker.Task[none] = (*task)(nil)
	_ worker.Accountant = (*task)(nil)
)

// Add routes one record of the topic ingested.
func (t *task) Add(out *worker.Output[none], _ string, r bus.Record) error {
	head, err := telemetry.PeekMessage(r.Value)
	if err != nil {
		return fmt.Errorf(routeStep+"%w", err)
	}
	if head.DeviceID == "" {
		return fmt.Errorf(routeStep+"%w", errNoDevice)
	}
	var at place
	if t.standing != nil {
		if at = t.standing.of(r.Origin.Position); r.Origin.Compare(t.standing.newest) >= 0 {
			t.standing = nil
		}
	}
	if t.memory != nil && t.repeated(&head) && at.home == "" {
		t.metrics.repeats.Inc()
		line := t.routed.Line(head.Tenant, head.DeviceID, head.IngestTime)
		line.Read++
		line.Repeats++
		return nil
	}
	t.head, t.value = head, r.Value
	t.parsed, t.rowsOf, t.ready = false, false, false
	if t.sets {
		if err := t.enrich(); err != nil {
			return fmt.Errorf("enrich: %w", err)
		}
	}
	endpoints, err := t.endpointsOf()
	if err != nil {
		return fmt.Errorf(routeStep+"%w", err)
	}
	home := t.home(endpoints)
	if at != (place{}) {
		if endpoints, home, err = t.settle(out, r, at, endpoints); err != nil {
			return fmt.Errorf(routeStep+"%w", err)
		}
	}
	t.count(home)
	for ; endpoints != 0; endpoints &= endpoints - 1 {
		out.Publish = append(out.Publish, worker.Publication{
			Topic:  t.topics[bits.TrailingZeros64(endpoints)],
			Record: bus.Record{Origin: r.Origin, Value: t.value},
		})
	}
	return nil
}

// count takes the message in hand into the account. Its device and ingest time are never changed on the way.
func (t *task) count(home string) {
	line := t.routed.Line(t.head.Tenant, t.head.DeviceID, t.head.IngestTime)
	line.Read++
	switch home {
	case bus.Telemetry:
		line.Telemetry++
	case bus.Logs:
		line.Logs++
	case bus.Events:
		line.Events++
	}
}

// Refused implements worker.Accountant. What is no message has no device and no ingest time: it is counted for when it came.
func (t *task) Refused(r bus.Record) {
	tenant, device, at := "", "", telemetry.Time(r.Time)
	if head, err := telemetry.PeekMessage(r.Value); err == nil {
		tenant, device, at = head.Tenant, head.DeviceID, head.IngestTime
	}
	line := t.routed.Line(tenant, device, at)
	line.Read++
	line.Refused++
	t.routed.Line(tenant, device, telemetry.Time(r.Time)).RouterLetters++
}

// Account implements worker.Accountant.
func (t *task) Account(p bus.PartitionID, after, through bus.Position) (topic string, records []bus.Record) {
	return bus.Books, t.routed.Account(p, after, through)
}

// Settled implements worker.Accountant.
func (t *task) Settled() { t.routed.Settled() }

// repeated reports whether the device has sent the message before. Where it has not, and a newer one of the device came before it,
// that is counted and no more: windows and latest state go by event time.
func (t *task) repeated(head *telemetry.Header) bool {
	var device uint64
	if head.MessageID == "" {
		device = repeats.HashDevice(head.Tenant, head.DeviceID)
	} else {
		var id uint64
		if device, id = repeats.Hash(head.Tenant, head.DeviceID, head.MessageID); !t.memory.Take(device, id) {
			return true
		}
	}
	if behind := t.memory.Behind(device, int64(head.EventTime)); behind > 0 {
		t.metrics.behind.Observe(time.Duration(behind).Seconds())
	}
	return false
}

// Tick counts what the memory has forgotten.
func (t *task) Tick(*worker.Output[none], telemetry.Time, telemetry.Time) {
	if t.memory == nil {
		return
	}
	if n := t.memory.Forgotten(); n > t.forgotten {
		t.metrics.forgotten.Add(float64(n - t.forgotten))
		t.forgotten = n
	}
}

// enrich sets what reference data knows of the message in hand; each set sees what the ones before it have set.
func (t *task) enrich() error {
	changed := false
	for i := range t.enrichments {
		e := &t.enrichments[i]
		if len(e.copies) == 0 {
			continue
		}
		row, ok, err := e.row(t)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := t.parse(); err != nil {
			return err
		}
		if e.apply(&t.message, row) {
			changed = true
			t.head.DeviceType = t.message.DeviceType
		}
	}
	if !changed {
		return nil
	}
	t.metrics.enriched.Inc()
	if cap(t.enriched)-len(t.enriched) < 2*len(t.value)+1024 {
		t.enriched = make([]byte, 0, max(arenaBytes, 2*len(t.value)+1024))
	}
	from := len(t.enriched)
	t.enriched = telemetry.AppendMessage(t.enriched, &t.message)
	t.value = t.enriched[from:len(t.enriched):len(t.enriched)]
	return nil
}
