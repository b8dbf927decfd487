package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/millrace/millrace/pkg/bus"
)

// replicasMax is how long the broker waits for its replicas before it answers that it does not know: less than publishTimeout, so that
// its answer comes first.
const replicasMax = 8 * time.Second

// appendBuffers are the rooms in which a batch is made.
type appendBuffers struct{ plain, request []byte }

// Append implements bus.Appender. What does not fit into one batch goes in several, one after the other. One append to a partition
// is under way at a time, since a producer's batches must arrive in their order.
func (l *Log) Append(ctx context.Context, id bus.PartitionID, recs []bus.Record) error {
	if err := l.append(ctx, id, recs); err != nil {
		return fmt.Errorf("append %d records to %s: %w", len(recs), id, l.why(err))
	}
	return nil
}

func (l *Log) append(ctx context.Context, id bus.PartitionID, recs []bus.Record) error {
	if err := l.fault(); err != nil {
		return err
	}
	p, err := l.partition(id)
	if err != nil {
		return err
	}
	for i := range recs {
		if n := len(recs[i].Value); n > l.cfg.RecordBytesMax {
			return fmt.Errorf("record %d has %d bytes, limit %d: %w", i, n, l.cfg.RecordBytesMax, bus.ErrTooLarge)
		}
	}
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return ctx.Err()
	case <-l.life.Done():
		return bus.ErrClosed
	}
	buf, ok := l.buffers.Get().(*appendBuffers)
	if !ok {
		buf = new(appendBuffers)
	}
	var onDisk []unknownBatch
	for done := 0; done < len(recs); {
		n := fitting(recs[done:], l.cfg.BatchBytesMax)
		batch, err := l.appendBatch(ctx, p, buf, recs[done:done+n])
		switch {
		case err != nil && done > 0:
			for _, b := range onDisk { // when the whole append comes again these are there
				b.until = l.cfg.Now().Add(l.cfg.DedupeWindow)
				p.producer.remember(b)
			}
			// Must not read as "none was appended".
			return fmt.Errorf("%d records are on disk, then: %v", done, err) //nolint:errorlint // as said
		case err != nil:
			return err
		}
		if n < len(recs) {
			onDisk = append(onDisk, batch)
		}
		done += n
	}
	l.buffers.Put(buf) // not after an error, when the transport may be sending it still
	return nil
}

// appendBatch appends recs as one batch and returns how to recognise it.
func (l *Log) appendBatch(ctx context.Context, p *partition, buf *appendBuffers, recs []bus.Record) (unknownBatch, error) {
	ctx, cancel := l.bounded(ctx, publishTimeout)
	defer cancel()
	buf.plain = appendRecords(buf.plain[:0], recs)
	id, repeated, err := p.producer.identify(ctx, l, buf.plain)
	if err != nil {
		return unknownBatch{}, err
	}
	if repeated != nil && repeated.onDisk {
		there := *repeated
		p.producer.forget(repeated)
		return there, nil
	}
	request, batchBytes, err := l.produceRequest(p, buf, recs, id)
	if err != nil {
		return unknownBatch{}, err
	}
	// What may be on disk already is not refused: that would say that it is not.
	if repeated == nil && !l.hasRoom(ctx, p, batchBytes) {
		l.metrics.Refused()
		return unknownBatch{}, bus.ErrFull
	}
	reply, err := l.produce(ctx, p, request)
	switch outcomeOf(err) {
	case stored:
		batch := newUnknownBatch(buf.plain, id)
		batch.onDisk = true
		p.producer.acknowledged(id, repeated, len(recs))
		p.size.appended(reply, len(recs), batchBytes)
		l.metrics.Appended(len(recs), batchBytes)
		return batch, nil
	case notStored:
		if errors.Is(err, bus.ErrTooLarge) {
			l.metrics.Refused()
			return unknownBatch{}, err
		}
	case producerLost:
		p.producer.discard(id, repeated)
	case unknown:
		p.producer.failed(id, repeated, buf.plain, l.cfg.Now().Add(l.cfg.DedupeWindow))
	}
	l.metrics.Failed()
	return unknownBatch{}, err
}

// produceRequest makes the request for a batch, of which buf.plain has the records.
func (l *Log) produceRequest(p *partition, buf *appendBuffers, recs []bus.Record, id identity) (request []byte, batchBytes int, err error) {
	request, at := beginProduce(buf.request[:0], p.topic, p.number, replicasMax)
	request = appendBatchHeader(request, len(recs), l.cfg.Now().UnixMilli(), id)
	request, codec, err := l.packer.pack(request, buf.plain)
	if err != nil {
		return nil, 0, err
	}
	sealBatch(request[at:], codec)
	buf.request = endProduce(request, at)
	return buf.request, len(request) - at, nil
}

func (l *Log) produce(ctx context.Context, p *partition, request []byte) (produced, error) {
	body, err := l.ask(ctx, p, protocol.Produce, produceVersion, request)
	if err != nil {
		return produced{}, err
	}
	reply, err := parseProduced(body)
	if err != nil || reply.fault == 0 {
		return reply, err
	}
	err = kafkago.Error(reply.fault)
	if outcomeOf(err) == stored { // a double whose place is not known any more
		return produced{base: -1}, nil
	}
	if reply.message != "" || reply.refusedRec >= 0 {
		err = fmt.Errorf("%w: %s (record %d: %s)", err, reply.message, reply.refusedRec, reply.refusal)
	}
	if errors.Is(err, kafkago.MessageSizeTooLarge) || errors.Is(err, kafkago.RecordListTooLarge) {
		err = fmt.Errorf("%w: the topic's max.message.bytes is smaller than batch_bytes_max: %w", bus.ErrTooLarge, err)
	}
	return reply, err
}
