package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/router/internal/repeats"
)

// warmWait bounds how long one reading back may wait for the log. What was trimmed away meanwhile never comes.
const warmWait = 10 * time.Second

var errNothingMore = errors.New("what was there a moment ago does not come")

// seen is one message id that a partition held.
type seen struct{ device, id uint64 }

// warm reads the last records before progress again, so that memory knows what it knew before the restart.
//
// A position says little about how many records lie before it (on NATS a frame holds many), so it reads back in sections of
// growing length, the newest first, until there are enough, and then remembers them in their order.
func warm(ctx context.Context, memory *repeats.Memory, records int, p bus.Partition, progress bus.Progress) error {
	end, err := p.End(ctx)
	if err != nil {
		return fmt.Errorf("warm the memory of message ids: %w", err)
	}
	if end.Compare(progress.Through) < 0 {
		return nil // the log was emptied
	}
	through := progress.Through
	var sections [][]seen
	for length, count := uint64(16), 0; count < records && !through.IsZero(); {
		from := bus.Position{}
		if through.Seq > length {
			from.Seq = through.Seq - length
		}
		section, err := readSection(ctx, p, from, through)
		if err != nil {
			return fmt.Errorf("warm the memory of message ids from %s %s..%s: %w", p.ID(), from, through, err)
		}
		if len(section) == 0 {
			break // trimmed away
		}
		sections = append(sections, section)
		count += len(section)
		through = from
		// Not much more than what is still wanted, going by how dense this section was.
		length = min(4*length, 1+length*uint64(max(records-count, 0))/uint64(len(section)))
	}
	for _, section := range slices.Backward(sections) {
		for _, s := range section {
			memory.Take(s.device, s.id)
		}
	}
	return nil
}

// readSection returns the ids in the records after from, through through.
func readSection(ctx context.Context, p bus.Partition, from, through bus.Position) (section []seen, err error) {
	err = eachRecord(ctx, p, from, through, func(r *bus.Record) {
		head, err := telemetry.PeekMessage(r.Value)
		if err != nil || head.MessageID == "" {
			return // the one is a dead letter by now, the other cannot be told from a new message
		}
		device, id := repeats.Hash(head.Tenant, head.DeviceID, head.MessageID)
		section = append(section, seen{device, id})
	})
	if errors.Is(err, errNothingMore) {
		err = nil // trimmed away
	}
	return section, err
}

// eachRecord calls f with the records after from, through through. errNothingMore says that it has waited for warmWait, and the last of
// them did not come.
func eachRecord(ctx context.Context, p bus.Partition, from, through bus.Position, f func(r *bus.Record)) error {
	reading, cancel := context.WithTimeout(ctx, warmWait)
	defer cancel()
	for batch, err := range p.After(reading, bus.Start{Position: from}) {
		if err != nil {
			return err
		}
		for i := range batch.Records {
			if batch.Records[i].Position.Compare(through) > 0 {
				return nil
			}
			f(&batch.Records[i])
		}
		if batch.Last().Compare(through) >= 0 {
			return nil
		}
	}
	return cmp.Or(ctx.Err(), errNothingMore)
}
