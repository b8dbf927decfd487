package nats

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/millrace/millrace/pkg/bus"
)

const (
	readHeartbeat     = 3 * time.Second  // two missed ones break the read
	consumerInactive  = 30 * time.Second // after which the server drops the consumer of a reader that died
	consumerDeleteMax = time.Second
	aheadMax          = 3 * time.Second       // for which a leader is asked again that says that a position is past the end
	askAgain          = 20 * time.Millisecond // how soon a replica is asked again
	behindMax         = 50                    // times
)

var (
	errGap     = errors.New("the server's messages did not arrive one after the other")
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

// After implements bus.Partition. A batch is a frame. Some 4 to 6 MiB are asked for ahead of their use. Start.Newest is looked up
// when After is called, not when the iteration begins. Bytes on the partition's subject that are no frame of ours are one
// record, whose value they are, so that the reader refuses it and it ends in dead letters.
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
			if v.log.life.Err() != nil {
				err = bus.ErrClosed
			}
			yield(bus.Batch{}, fmt.Errorf("read %s: %w", v.part.id, err))
		}
	}
}

// read yields until yield returns false, ctx ends or reading breaks.
func (v *view) read(ctx context.Context, start bus.Start, yield func(bus.Batch) bool) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	l := v.log
	consumer, err := v.consumer(ctx, start)
	if err != nil {
		return err
	}
	return l.deliver(ctx, v.part.stream, consumer, readHeartbeat, func(msg *nats.Msg, meta *nats.MsgMetadata) bool {
		if start.Time != 0 && meta.Timestamp.UnixNano() < start.Time {
			return true // from a replica that had not yet got as far when the consumer was made
		}
		batch := v.batch(msg.Data, meta, start.Position)
		return len(batch.Records) == 0 || yield(batch)
	})
}

// deliver hands what a consumer gets to yield, one after the other, until yield returns false, ctx ends or reading breaks, and
// removes the consumer.
func (l *Log) deliver(ctx context.Context, stream string, consumer jetstream.Consumer, heartbeat time.Duration, yield func(*nats.Msg, *nats.MsgMetadata) bool) error {
	name := consumer.CachedInfo().Name
	defer l.deleteConsumer(ctx, stream, name)
	link := l.link.current()
	msgs, err := l.pull(stream, name, heartbeat)
	if err != nil {
		return err
	}
	defer msgs.stop()
	for delivered := uint64(1); ; delivered++ {
		msg, err := msgs.next(ctx, link)
		if err != nil {
			return err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		if meta.Sequence.Consumer != delivered {
			return fmt.Errorf("%w: message %d, want %d", errGap, meta.Sequence.Consumer, delivered)
		}
		if !yield(msg, meta) {
			return nil
		}
	}
}

// consumer makes a reader's own consumer on the server: in memory, without acknowledgements.
func (v *view) consumer(ctx context.Context, start bus.Start) (jetstream.Consumer, error) {
	bounded, cause, cancel := v.log.bounded(ctx, requestTimeout)
	defer cancel()
	cfg := jetstream.ConsumerConfig{
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: consumerInactive,
		DeliverPolicy: jetstream.DeliverAllPolicy,
	}
	switch {
	case start.Time != 0:
		from := time.Unix(0, start.Time)
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &from
	case start.Position.Seq > 0:
		if err := v.notAhead(bounded, start.Position); err != nil {
			return nil, errors.Join(cause(), err)
		}
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, start.Position.Seq // perhaps there is more in its frame
	}
	consumer, err := v.log.js.CreateConsumer(bounded, v.part.stream, cfg)
	if err != nil {
		return nil, errors.Join(cause(), fmt.Errorf("create a consumer: %w", err))
	}
	return consumer, nil
}

// notAhead returns ErrAhead where the position is past the end. A replica that has just become the stream's leader may not know
// its end for a moment, so with several it is asked again.
func (v *view) notAhead(ctx context.Context, at bus.Position) error {
	for began := v.log.cfg.Now(); ; {
		end, err := v.lastSequence(ctx)
		if err != nil || at.Seq <= end {
			return err
		}
		alone := v.log.cfg.Replicas == 1
		if alone || v.log.cfg.Now().Sub(began) > aheadMax || !pause(ctx, askAgain) {
			return fmt.Errorf("after %s, but the end is %d: %w", at, end, bus.ErrAhead)
		}
	}
}

// deleteConsumer spares the server a consumer that nobody reads. It drops a forgotten one by itself.
func (l *Log) deleteConsumer(ctx context.Context, stream, name string) {
	bounded, _, cancel := l.bounded(context.WithoutCancel(ctx), consumerDeleteMax)
	defer cancel()
	_ = l.js.DeleteConsumer(bounded, stream, name)
}

// batch returns the records of a message that are after the position.
func (v *view) batch(frame []byte, meta *nats.MsgMetadata, after bus.Position) bus.Batch {
	recs, err := ParseFrame(nil, frame)
	if err != nil {
		v.log.cfg.Log.Warn("a message on the log is not ours; it is passed on as one record", "partition", v.part.id.String(),
			"sequence", meta.Sequence.Stream, "bytes", len(frame), "error", err)
		recs = []bus.Record{{Value: frame}}
	}
	at := meta.Timestamp.UnixNano()
	for i := range recs {
		recs[i].Position.Seq, recs[i].Time = meta.Sequence.Stream, at
	}
	for len(recs) > 0 && recs[0].Position.Compare(after) <= 0 {
		recs = recs[1:]
	}
	return bus.Batch{Records: recs}
}

// Committed implements bus.Partition.
func (v *view) Committed(ctx context.Context) (bus.Progress, bool, error) {
	if v.commit == nil {
		return bus.Progress{}, false, nil
	}
	progress, err := v.commit.get(ctx, v.log)
	if err != nil {
		return bus.Progress{}, false, fmt.Errorf("read the commit %s: %w", v.commit.key, err)
	}
	return progress, !progress.Through.IsZero(), nil
}

// Commit implements bus.Partition. Each call that has an effect costs the server a sync.
func (v *view) Commit(ctx context.Context, progress bus.Progress) error {
	if v.commit == nil {
		return fmt.Errorf("commit on %s: %w", v.part.id, errNoGroup)
	}
	if err := v.commit.put(ctx, v.log, progress); err != nil {
		return fmt.Errorf("commit %s through %s: %w", v.commit.key, progress.Through, err)
	}
	return nil
}
