package books

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

// WorkerEdge and WorkerRouter are what accounts say who wrote them.
const (
	WorkerEdge   = "ingest"
	WorkerRouter = bus.Router
)

const (
	writeEvery = time.Second
	// linesMax is how many lines one edge keeps for a partition between two writes; what is beyond is counted without its device.
	linesMax = 1 << 16
	// recordLines is how many lines one record has, so that it stays far below what a log takes.
	recordLines = 1000
	// unwrittenMax is how many records may wait for a log that does not take them; then lines gather, up to linesMax.
	unwrittenMax = 256
)

// Edge is the appender of an edge: it passes appends on to the log and counts what the log acknowledged. Safe for concurrent use.
type Edge struct {
	log    bus.Appender
	writer string
	report *slog.Logger

	parts   []edgePart // by number
	writing sync.Mutex // one write at a time
	number  uint64     // of the newest account, guarded by writing
	pending map[int][]bus.Record
}

// edgePart counts for one partition number: of ingested and of dead-letters.
type edgePart struct {
	mu    sync.Mutex
	tally tally
}

// NewEdge returns an edge's appender to log. writer must be another one for each process and each start.
func NewEdge(log bus.Appender, writer string, report *slog.Logger) *Edge {
	e := &Edge{
		log: log, writer: writer, report: report, parts: make([]edgePart, max(log.Partitions(bus.Ingested), log.Partitions(bus.DeadLetters), 1)),
		pending: map[int][]bus.Record{},
	}
	for n := range e.parts {
		e.parts[n].tally.most = linesMax
	}
	return e
}

// Append implements bus.Appender.
func (e *Edge) Append(ctx context.Context, p bus.PartitionID, recs []bus.Record) error {
	if err := e.log.Append(ctx, p, recs); err != nil {
		return err
	}
	if p.Number >= len(e.parts) {
		return nil
	}
	switch p.Topic {
	case bus.Ingested:
		e.parts[p.Number].messages(recs)
	case bus.DeadLetters:
		e.parts[p.Number].letters(recs)
	}
	return nil
}

// Partitions implements bus.Appender.
func (e *Edge) Partitions(topic string) int { return e.log.Partitions(topic) }

func (p *edgePart) messages(recs []bus.Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range recs {
		tenant, device, at, err := telemetry.PeekAccepted(recs[i].Value)
		if err != nil { // not reached: the edge itself has encoded it
			tenant, device = "", Unnamed
		}
		p.tally.line(tenant, device, Minute(at)).Accepted++
	}
}

func (p *edgePart) letters(recs []bus.Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var d telemetry.DeadLetter
	for i := range recs {
		if err := telemetry.ParseDeadLetter(recs[i].Value, &d); err != nil { // likewise
			d = telemetry.DeadLetter{}
		}
		p.tally.line(d.Tenant, d.DeviceID, Minute(d.ReceivedAt)).EdgeLetters++
	}
}

// take returns what was counted, and begins anew.
func (p *edgePart) take() tally {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := p.tally
	p.tally = tally{most: linesMax}
	return taken
}

// Minute returns the minute of t, since 1970 UTC.
func Minute(t telemetry.Time) int64 {
	m := int64(t) / int64(time.Minute)
	if int64(t)%int64(time.Minute) < 0 {
		m--
	}
	return m
}

// Run writes an account every second for each partition to which something came, until ctx ends. What the log does not take is
// kept, and tried again with the next one.
func (e *Edge) Run(ctx context.Context) {
	tick := time.NewTicker(writeEvery)
	defer tick.Stop()
	broken := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := e.Write(ctx)
		if err != nil && !broken && ctx.Err() == nil {
			e.report.WarnContext(ctx, "the books cannot be written for now, what was counted is kept", "error", err)
		}
		broken = err != nil
	}
}

// Write writes what was counted until now. An edge calls it once more when nothing is under way any longer.
func (e *Edge) Write(ctx context.Context) error {
	e.writing.Lock()
	defer e.writing.Unlock()
	var errs []error
	for n := range e.parts {
		if len(e.pending[n]) < unwrittenMax {
			e.pending[n] = e.account(e.pending[n], n)
		}
		if len(e.pending[n]) == 0 {
			continue
		}
		// The same records again after an error: who reads them twice knows them by their number.
		if err := e.log.Append(ctx, Partition(e.log, n), e.pending[n]); err != nil {
			errs = append(errs, fmt.Errorf("write the books of %s[%d]: %w", bus.Ingested, n, err))
			continue
		}
		delete(e.pending, n)
	}
	return errors.Join(errs...)
}

func (e *Edge) account(dst []bus.Record, n int) []bus.Record {
	counted := e.parts[n].take()
	for lines := range slices.Chunk(counted.sorted(), recordLines) {
		e.number++
		a := telemetry.Account{
			Writer: e.writer, Number: e.number, Worker: WorkerEdge, Partition: int32(n), Part: 1, Parts: 1, Lines: lines, //nolint:gosec // partitions are few
		}
		dst = append(dst, bus.Record{Value: telemetry.AppendAccount(nil, &a)})
	}
	return dst
}

// Partition returns the partition of log's books that has what is told of partition n of ingested.
func Partition(log interface{ Partitions(topic string) int }, n int) bus.PartitionID {
	return bus.PartitionID{Topic: bus.Books, Number: n % max(1, log.Partitions(bus.Books))}
}
