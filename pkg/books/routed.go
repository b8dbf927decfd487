package books

import (
	"cmp"
	"slices"
	"strings"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

// Routed counts what one life of a router's task did with the records of its partition of ingested since the last account.
// It is as large as the devices that sent something since then. One goroutine.
type Routed struct {
	writer string
	number uint64
	lines  map[lineKey]*telemetry.AccountLine
	last   *telemetry.AccountLine
}

// NewRouted returns an empty count. writer must be another one for each task.
func NewRouted(writer string) *Routed {
	return &Routed{writer: writer, lines: map[lineKey]*telemetry.AccountLine{}}
}

// Line returns the line of a device and minute, to be counted on. It is valid until Settled.
func (r *Routed) Line(tenant, device string, at telemetry.Time) *telemetry.AccountLine {
	minute := Minute(at)
	if l := r.last; l != nil && l.Minute == minute && l.DeviceID == device && l.Tenant == tenant {
		return l
	}
	l := r.lines[lineKey{tenant, device, minute}]
	if l == nil {
		l = &telemetry.AccountLine{Tenant: strings.Clone(tenant), DeviceID: strings.Clone(device), Minute: minute}
		r.lines[lineKey{l.Tenant, l.DeviceID, minute}] = l
	}
	r.last = l
	return l
}

// Account returns the records that say what was counted: of the run of p after after, through through, which must be all that was
// taken since the last Settled.
func (r *Routed) Account(p bus.PartitionID, after, through bus.Position) []bus.Record {
	lines := sorted(r.lines)
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
	clear(r.lines)
	r.last = nil
}

func sorted(lines map[lineKey]*telemetry.AccountLine) []telemetry.AccountLine {
	all := make([]telemetry.AccountLine, 0, len(lines))
	for _, l := range lines {
		all = append(all, *l)
	}
	slices.SortFunc(all, func(a, b telemetry.AccountLine) int {
		return cmp.Or(strings.Compare(a.Tenant, b.Tenant), strings.Compare(a.DeviceID, b.DeviceID), cmp.Compare(a.Minute, b.Minute))
	})
	return all
}
