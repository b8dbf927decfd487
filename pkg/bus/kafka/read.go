package kafka

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/millrace/millrace/pkg/bus"
)

const (
	fetchBytesMax = 2 << 20         // of one fetch, compressed; a single larger batch comes all the same
	fetchWait     = 5 * time.Second // at the end of the partition
	fetchTimeout  = fetchWait + 5*time.Second
	emptyMax      = 3 // fetches in a row that bring nothing although there is something

	// A batch that a reader gets is cut at the first of these, so that it can commit in between.
	yieldRecords = 4096
	yieldBytes   = 512 << 10
)

var (
	errStalled = errors.New("the broker has records and sends none")
	errNoGroup = errors.New("the partition was opened outside of any group")
)

// view is a partition as one reader, and perhaps one group, has it open.
type view struct {
	log    *Log
	part   *partition
	commit *commit // nil outside of any group
}

// ID implements bus.Partition.
func (v *view) ID() bus.PartitionID { return v.part.id }

// After implements bus.Partition. Up to 4 MiB, compressed, are fetched ahead of their use. Start.Newest is looked up when After is called, not when
// the iteration begins. A change of the leader ends the reading with an error.
func (v *view) After(ctx context.Context, start bus.Start) iter.Seq2[bus.Batch, error] {
	var lookup error
	if start.Newest {
		var end bus.Position
		end, lookup = v.End(ctx)
		start = bus.Start{Position: end}
	}
	return func(yield func(bus.Batch, error) bool) {
		err := lookup
		if err == nil {
			err = v.read(ctx, start, func(b bus.Batch) bool { return yield(b, nil) })
		}
		if err != nil && ctx.Err() == nil {
			yield(bus.Batch{}, fmt.Errorf("read %s: %w", v.part.id, v.log.why(err)))
		}
	}
}

// read yields until yield returns false, ctx ends or reading breaks.
func (v *view) read(ctx context.Context, start bus.Start, yield func(bus.Batch) bool) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := v.log.fault(); err != nil {
		return err
	}
	offset, err := v.locate(ctx, start)
	if err != nil {
		return err
	}
	reading, stop := context.WithCancel(ctx)
	defer context.AfterFunc(v.log.life, stop)() //nolint:contextcheck // Close ends it, whatever ctx says
	var fetching sync.WaitGroup
	defer fetching.Wait()
	defer stop()
	replies := make(chan fetched) // one in hand, and one under way
	var broke error
	fetching.Go(func() {
		defer close(replies)
		broke = v.fetchFrom(reading, offset, replies)
	})
	batches := batchReader{packer: v.log.packer, from: offset}
	for reply := range replies {
		batches.rest = reply.batches
		if more, err := v.yieldAll(&batches, start.Time, yield); err != nil || !more {
			return err
		}
	}
	return broke
}

// yieldAll yields what a fetch brought.
func (v *view) yieldAll(batches *batchReader, notBefore int64, yield func(bus.Batch) bool) (more bool, err error) {
	for {
		var recs []bus.Record
		ok, bytes := true, 0
		for ok && len(recs) < yieldRecords && bytes < yieldBytes {
			before := len(recs)
			recs, ok, err = batches.read(recs)
			for i := range recs[before:] {
				bytes += len(recs[before+i].Value)
			}
			if err != nil {
				break // what came before it is good
			}
		}
		for len(recs) > 0 && recs[0].Time < notBefore { // a start by time that lay in the future
			recs = recs[1:]
		}
		if len(recs) > 0 && !yield(bus.Batch{Records: recs}) {
			return false, nil
		}
		if err != nil || !ok {
			return true, err
		}
	}
}

// fetchFrom fetches from offset on and hands over what is not empty, until ctx ends or something breaks.
func (v *view) fetchFrom(ctx context.Context, offset int64, replies chan<- fetched) error {
	for empty := 0; ; {
		reply, err := v.log.fetch(ctx, v.part, offset, fetchWait, fetchBytesMax)
		if errors.Is(err, kafkago.OffsetOutOfRange) {
			if offset, err = v.backInRange(ctx, offset); err == nil {
				continue
			}
		}
		if err != nil {
			if ctx.Err() == nil && (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)) {
				v.log.metrics.stalls.Inc() // a broker, or a connection, that says nothing at all
			}
			return err
		}
		next, err := endOf(reply.batches, offset)
		if err != nil {
			return err
		}
		if next == offset {
			if empty++; reply.end <= offset {
				empty = 0
			} else if empty >= emptyMax {
				v.log.metrics.stalls.Inc()
				return fmt.Errorf("%w: at offset %d of %d", errStalled, offset, reply.end)
			}
			continue
		}
		empty, offset = 0, next
		select {
		case replies <- reply:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// backInRange returns where to go on when offset is not there: the earliest record, when it was trimmed away.
func (v *view) backInRange(ctx context.Context, offset int64) (int64, error) {
	first, end, err := v.log.bounds(ctx, v.part)
	switch {
	case err != nil:
		return 0, err
	case offset > end:
		return 0, fmt.Errorf("at offset %d, but the end is %d: %w", offset, end, bus.ErrAhead)
	default:
		return max(first, offset), nil
	}
}

// locate returns the offset at which start begins.
func (v *view) locate(ctx context.Context, start bus.Start) (int64, error) {
	if start.Time != 0 {
		return v.log.offsetAt(ctx, v.part, start.Time)
	}
	if start.Position.Seq == 0 {
		return 0, nil
	}
	end, err := v.log.offset(ctx, v.part, kafkago.LastOffset)
	if err != nil {
		return 0, err
	}
	if start.Position.Seq > uint64(end) { //nolint:gosec // offsets are not negative
		return 0, fmt.Errorf("after %s, but the end is %d: %w", start.Position, end, bus.ErrAhead)
	}
	return int64(start.Position.Seq), nil //nolint:gosec // at most end
}

// fetch asks the leader once.
func (l *Log) fetch(ctx context.Context, p *partition, offset int64, wait time.Duration, bytesMax int32) (fetched, error) {
	ctx, cancel := l.bounded(ctx, fetchTimeout)
	defer cancel()
	body, err := l.ask(ctx, p, protocol.Fetch, fetchVersion, fetchRequest(p.topic, p.number, offset, wait, bytesMax))
	if err != nil {
		return fetched{}, fmt.Errorf("fetch from offset %d: %w", offset, err)
	}
	reply, err := parseFetched(body)
	if err == nil && reply.fault != 0 {
		err = kafkago.Error(reply.fault)
	}
	if err != nil {
		return fetched{}, fmt.Errorf("fetch from offset %d: %w", offset, err)
	}
	return reply, nil
}

// offset asks the leader for the offset of a time in milliseconds, or of one of kafka-go's constants; -1 where nothing is so new.
func (l *Log) offset(ctx context.Context, p *partition, of int64) (int64, error) {
	if err := l.fault(); err != nil {
		return 0, err
	}
	ctx, cancel := l.bounded(ctx, requestTimeout)
	defer cancel()
	body, err := l.ask(ctx, p, protocol.ListOffsets, listOffsetsVersion, listOffsetsRequest(p.topic, p.number, of))
	if err != nil {
		return 0, fmt.Errorf("list offsets: %w", err)
	}
	at, fault, err := parseOffset(body)
	if err == nil && fault != 0 {
		err = kafkago.Error(fault)
	}
	if err != nil {
		return 0, fmt.Errorf("list offsets: %w", err)
	}
	return at, nil
}

// bounds returns the offset of the first record and that behind the last.
func (l *Log) bounds(ctx context.Context, p *partition) (first, end int64, err error) {
	if first, err = l.offset(ctx, p, kafkago.FirstOffset); err != nil {
		return 0, 0, err
	}
	end, err = l.offset(ctx, p, kafkago.LastOffset)
	return first, end, err
}

// offsetAt returns the offset of the first record that is not older than at, in Unix nanoseconds; the end where none is.
func (l *Log) offsetAt(ctx context.Context, p *partition, at int64) (int64, error) {
	end, err := l.offset(ctx, p, kafkago.LastOffset) // before the question: what comes in between is newer
	if err != nil {
		return 0, err
	}
	millis := (max(at, 0) + int64(time.Millisecond) - 1) / int64(time.Millisecond)
	found, err := l.offset(ctx, p, millis)
	if err != nil || found >= 0 {
		return found, err
	}
	return end, nil
}

// End implements bus.Partition.
func (v *view) End(ctx context.Context) (bus.Position, error) {
	end, err := v.log.offset(ctx, v.part, kafkago.LastOffset)
	if err != nil {
		return bus.Position{}, fmt.Errorf("find the end of %s: %w", v.part.id, v.log.why(err))
	}
	return bus.Position{Seq: uint64(end)}, nil //nolint:gosec // offsets are not negative
}

// Holds reports whether the partition has any record that was not trimmed away.
func (v *view) Holds(ctx context.Context) (bool, error) {
	first, end, err := v.log.bounds(ctx, v.part)
	if err != nil {
		return false, fmt.Errorf("find what %s holds: %w", v.part.id, v.log.why(err))
	}
	return first < end, nil
}

// Committed implements bus.Partition.
func (v *view) Committed(ctx context.Context) (bus.Progress, bool, error) {
	if v.commit == nil {
		return bus.Progress{}, false, nil
	}
	progress, err := v.commit.get(ctx)
	if err != nil {
		return bus.Progress{}, false, fmt.Errorf("read the commit of %s on %s: %w", v.commit.member.group, v.part.id, v.log.why(err))
	}
	return progress, !progress.Through.IsZero(), nil
}

// Commit implements bus.Partition. It is refused once the share belongs to another member.
func (v *view) Commit(ctx context.Context, progress bus.Progress) error {
	if v.commit == nil {
		return fmt.Errorf("commit on %s: %w", v.part.id, errNoGroup)
	}
	if err := v.commit.put(ctx, progress); err != nil {
		return fmt.Errorf("commit of %s on %s through %s: %w", v.commit.member.group, v.part.id, progress.Through, v.log.why(err))
	}
	return nil
}
