package books

import (
	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

// Routed counts what one life of a router's task did with the records of its partition of ingested since the last account.
// It is as large as the devices that sent something since then. One goroutine.
type Routed struct {
	writer string
	number uint64
	tally  tally
}

// NewRouted returns an empty count. writer must be another one for each task.
func NewRouted(writer string) *Routed { return &Routed{writer: writer} }

// Line returns the line of a device and minute, to be counted on. It is valid until Settled.
func (r *Routed) Line(tenant, device string, at telemetry.Time) *telemetry.AccountLine {
	return r.tally.line(tenant, device, Minute(at))
}

// Account returns the records that say what was counted: of the run of p after after, through through, which must be all that was
// taken since the last Settled.
func (r *Routed) Account(p bus.PartitionID, after, through bus.Position) []bus.Record {
	lines := r.tally.sorted()
	r.number++
	parts := max(1, (len(lines)+recordLines-1)/recordLines)
	recs := make([]bus.Record, 0, parts)
	for i := range parts {
		k := min(len(lines), recordLines)
		a := telemetry.Account{
			Writer: r.writer, Number: r.number, Worker: WorkerRouter, Partition: int32(p.Number), //nolint:gosec // partitions are few
			After: after.String(), Through: through.String(), Part: uint32(i + 1), Parts: uint32(parts), Lines: lines[:k], //nolint:gosec // a handful
		}
		recs = append(recs, bus.Record{Value: telemetry.AppendAccount(nil, &a)})
		lines = lines[k:]
	}
	return recs
}

// Settled forgets what was counted: the progress that the last account covers is committed.
func (r *Routed) Settled() {
	clear(r.tally.lines)
	r.tally.last = nil
}
