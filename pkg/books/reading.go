package books

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

// How long reading waits for the next record. One that is only looked for may have been trimmed away; one that must be there is
// waited for longer, and then the audit ends with an error rather than with a count that is short.
const (
	lookFor  = 5 * time.Second
	stillFor = 30 * time.Second
)

var errStill = errors.New("nothing more came")

// each calls f with the records of p from start through through, until f says that it has enough.
func each(ctx context.Context, p bus.Partition, start bus.Start, through bus.Position, f func(bus.Record) (more bool, err error)) error {
	return within(ctx, stillFor, p, start, through, f)
}

// look is each for records that may not be there.
func look(ctx context.Context, p bus.Partition, start bus.Start, through bus.Position, f func(bus.Record) (more bool, err error)) error {
	err := within(ctx, lookFor, p, start, through, f)
	if errors.Is(err, errStill) {
		return nil
	}
	return err
}

func within(
	ctx context.Context, patience time.Duration, p bus.Partition, start bus.Start, through bus.Position, f func(bus.Record) (more bool, err error),
) error {
	if through.IsZero() {
		return nil
	}
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	still := time.AfterFunc(patience, cancel)
	defer still.Stop()
	for batch, err := range p.After(reading, start) {
		if err != nil {
			return fmt.Errorf("read %s: %w", p.ID(), err)
		}
		still.Reset(patience)
		for _, rec := range batch.Records {
			if rec.Position.Compare(through) > 0 {
				return nil
			}
			more, err := f(rec)
			if err != nil || !more {
				return err
			}
		}
		if batch.Last().Compare(through) >= 0 {
			return nil
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return fmt.Errorf("read %s through %s: %w for %v", p.ID(), through, errStill, patience)
}

// since returns where to begin with what the log took at t or later; ok is false where there is nothing up to end. Asking
// the log by the time alone would wait for what is still to come.
func since(ctx context.Context, p bus.Partition, t telemetry.Time, end bus.Position) (start bus.Start, ok bool, err error) {
	if end.IsZero() {
		return start, false, nil
	}
	newest := int64(math.MinInt64)
	last := bus.Position{Seq: end.Seq} // the first of what was appended together
	err = look(ctx, p, bus.Start{Position: before(last)}, end, func(rec bus.Record) (bool, error) {
		newest = max(newest, rec.Time)
		return true, nil
	})
	if err != nil || newest < int64(t) {
		return start, false, err
	}
	return bus.Start{Time: max(int64(t), 1)}, true, nil
}

// oldest returns the time of the first record that p still has; ok is false where it has none, and whole that none was ever trimmed.
func oldest(ctx context.Context, p bus.Partition, end bus.Position) (at telemetry.Time, whole, ok bool, err error) {
	err = look(ctx, p, bus.Start{}, end, func(rec bus.Record) (bool, error) {
		at, whole, ok = telemetry.Time(rec.Time), rec.Position.Seq <= 1, true
		return false, nil
	})
	return at, whole || end.IsZero(), ok, err
}

// readBooks reads the accounts of all partitions, and what is on the log without one.
func (r *run) readBooks(ctx context.Context) error {
	for n := range max(1, r.Log.Partitions(bus.Ingested)) {
		if err := r.readPartition(ctx, n); err != nil {
			return fmt.Errorf("%s[%d]: %w", bus.Ingested, n, err)
		}
	}
	return nil
}

// reader reads the accounts of one partition of ingested.
type reader struct {
	*run
	number  int32
	tiling  tiling
	account telemetry.Account
	seen    map[string]uint64 // by edge: the number of its newest account
	parts   map[string]*partial
	order   []string // of parts, the oldest first
	beyond  int64    // when an account told of messages after what is asked for; 0 while none did
}

// partial is an account of which some parts are still to come.
type partial struct {
	tile
	had map[uint32]bool
}

// partialsMax is how many accounts may be incomplete at a time: a router that was killed leaves one.
const partialsMax = 64

func (r *run) readPartition(ctx context.Context, n int) error {
	p, err := r.Log.Partition(ctx, Partition(r.Log, n))
	if err != nil {
		return err
	}
	rd := &reader{run: r, number: int32(n), seen: map[string]uint64{}, parts: map[string]*partial{}} //nolint:gosec // partitions are few
	rd.tiling = tiling{most: linesHeld, take: rd.count}
	ingested, err := r.Log.Partition(ctx, bus.PartitionID{Topic: bus.Ingested, Number: n})
	if err != nil {
		return err
	}
	end, err := p.End(ctx)
	if err != nil {
		return err
	}
	start, ok, err := since(ctx, p, r.from()-telemetry.Time(skew), end)
	if err != nil {
		return err
	}
	if ok {
		if err := each(ctx, p, start, end, rd.take); err != nil {
			return err
		}
	}
	rd.tiling.finish()
	ended, err := ingested.End(ctx) // after the end of the books: it has all that they tell of
	if err != nil {
		return fmt.Errorf("find its end: %w", err)
	}
	if err := rd.begin(ctx, p, end, ended); err != nil {
		return err
	}
	return rd.rest(ctx, ingested, ended)
}

// begin says where the books, which end at end, do not reach back to the beginning of what is asked for. ended is the end of ingested.
func (r *reader) begin(ctx context.Context, p bus.Partition, end, ended bus.Position) error {
	if r.tiling.begun && r.tiling.first.Seq <= 1 {
		return nil
	}
	at, whole, ok, err := oldest(ctx, p, end)
	switch {
	case err != nil, ok && at < r.from():
		return err
	case !ok && ended.IsZero():
		return nil // nothing ever came
	case !ok:
		r.note("%s: there are no books: nothing is known of what was acknowledged", p.ID())
		r.complete = false
		return nil
	}
	if whole && r.tiling.begun {
		r.note("%s: the books begin at %s, behind %s of the log: what came before is not in them", p.ID(), at.Std().Format(time.RFC3339), r.tiling.first)
	} else {
		r.note("%s: the books begin at %s: what came before is not in them, or no longer", p.ID(), at.Std().Format(time.RFC3339))
	}
	r.complete = false
	return nil
}

// take reads one record of the books. more is false once everything that is asked for must have come.
func (r *reader) take(rec bus.Record) (more bool, err error) {
	if r.beyond > 0 && rec.Time > r.beyond+int64(2*time.Minute) {
		return false, nil
	}
	a := &r.account
	if err := telemetry.ParseAccount(rec.Value, a); err != nil {
		r.note("%s[%d] %s: an account cannot be read: %v", bus.Books, r.number, rec.Position, err)
		r.complete = false
		return true, nil
	}
	if a.Partition != r.number {
		return true, nil
	}
	switch a.Worker {
	case WorkerEdge:
		if a.Number <= r.seen[a.Writer] {
			return true, nil // appended twice, since its first outcome was not known
		}
		r.seen[strings.Clone(a.Writer)] = a.Number
		err = r.edge(a)
	case WorkerRouter:
		err = r.router(a, rec.Time)
	}
	return true, err
}

func (r *reader) edge(a *telemetry.Account) error {
	for i := range a.Lines {
		l := &a.Lines[i]
		if !r.wants(l.DeviceID, l.Minute) {
			continue
		}
		d, err := r.of(l.Tenant, l.DeviceID, r.number)
		if err != nil {
			return err
		}
		d.accepted += l.Accepted
		d.edgeLetters += l.EdgeLetters
	}
	return nil
}

// router gathers the parts of an account and, when it has them all, adds it to the tiling.
func (r *reader) router(a *telemetry.Account, at int64) error {
	name := fmt.Sprintf("%s/%d", a.Writer, a.Number)
	p := r.parts[name]
	if p == nil {
		after, err := bus.ParsePosition(a.After)
		if err != nil {
			return err
		}
		through, err := bus.ParsePosition(a.Through)
		if err != nil {
			return err
		}
		p = &partial{tile: tile{after: after, through: through}, had: map[uint32]bool{}}
		r.parts[name] = p
		if r.order = append(r.order, name); len(r.order) > partialsMax {
			delete(r.parts, r.order[0])
			r.order = r.order[1:]
		}
	}
	if p.had[a.Part] {
		return nil
	}
	p.had[a.Part] = true
	oldest := int64(math.MaxInt64)
	for i := range a.Lines {
		l := &a.Lines[i]
		p.read += l.Read
		oldest = min(oldest, l.Minute)
		if !r.wants(l.DeviceID, l.Minute) {
			continue
		}
		d, err := r.of(l.Tenant, l.DeviceID, r.number)
		if err != nil {
			return err
		}
		counts := *l
		counts.Tenant, counts.DeviceID = "", ""
		p.lines = append(p.lines, line{d, counts})
	}
	if len(p.had) < int(a.Parts) {
		return nil
	}
	r.tiling.add(p.tile)
	p.lines = nil // its parts may come again
	late := r.to() + telemetry.Time(readOnFor)
	if r.beyond == 0 && oldest != math.MaxInt64 && oldest >= Minute(late) && at >= int64(late) {
		r.beyond = at
	}
	return nil
}

// count takes the lines of a run that counts.
func (r *reader) count(lines []line) {
	for i := range lines {
		d, c := lines[i].device, &lines[i].counts
		d.read += c.Read
		d.repeats += c.Repeats
		d.refused += c.Refused
		d.telemetry += c.Telemetry
		d.logs += c.Logs
		d.events += c.Events
		d.routerLetters += c.RouterLetters
	}
}

// rest counts what stands on the log where no account of a router tells of it: after the newest one, and in gaps.
func (r *reader) rest(ctx context.Context, ingested bus.Partition, end bus.Position) error {
	for _, g := range r.tiling.gaps {
		r.note("no router has told what it did with %s %s..%s", ingested.ID(), g.after, g.through)
		r.complete = false
		if err := r.unread(ctx, ingested, bus.Start{Position: g.after}, g.through); err != nil {
			return err
		}
	}
	if r.beyond > 0 || end.Compare(r.tiling.end) <= 0 {
		return nil
	}
	if r.tiling.begun {
		return r.unread(ctx, ingested, bus.Start{Position: r.tiling.end}, end)
	}
	start, ok, err := since(ctx, ingested, r.from()-telemetry.Time(skew), end)
	if err != nil || !ok {
		return err
	}
	return r.unread(ctx, ingested, start, end)
}

func (r *reader) unread(ctx context.Context, p bus.Partition, start bus.Start, through bus.Position) error {
	return each(ctx, p, start, through, func(rec bus.Record) (bool, error) {
		if r.records++; r.records > recordsMax {
			r.note("more than %d messages wait for the router: the rest is not counted", recordsMax)
			r.complete = false
			return false, nil
		}
		tenant, name, at, err := telemetry.PeekAccepted(rec.Value)
		if err != nil {
			tenant, name, at = "", Unnamed, telemetry.Time(rec.Time)
		}
		if !r.wants(name, Minute(at)) {
			return true, nil
		}
		d, err := r.of(tenant, name, r.number)
		if err != nil {
			return false, err
		}
		d.unread++
		return true, nil
	})
}
