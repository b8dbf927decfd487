package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	kafkago "github.com/segmentio/kafka-go"
)

const (
	// unknownBatchesMax is how many batches of failed appends a partition remembers; the oldest is forgotten, and sent again it
	// would be there twice.
	unknownBatchesMax = 64
	producerPause     = 50 * time.Millisecond
)

// producers gives out producer ids. One serves all partitions, since a broker counts sequences by producer and partition.
type producers struct {
	mu    sync.Mutex
	first *identity
}

// shared returns the identity that a partition begins with.
func (s *producers) shared(ctx context.Context, l *Log) (identity, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first == nil {
		fresh, err := l.freshProducer(ctx)
		if err != nil {
			return identity{}, err
		}
		s.first = &fresh
	}
	return *s.first, nil
}

// freshProducer asks any broker for an id. One that has none at hand says so and gets a block of them first, which takes a moment.
func (l *Log) freshProducer(ctx context.Context) (identity, error) {
	for {
		res, err := l.client.InitProducerID(ctx, &kafkago.InitProducerIDRequest{})
		if err == nil {
			err = res.Error
		}
		if err == nil {
			l.metrics.freshProducers.Inc()
			return identity{producer: int64(res.Producer.ProducerID), epoch: int16(res.Producer.ProducerEpoch)}, nil //nolint:gosec // 16 bits on the wire
		}
		if !errors.Is(err, kafkago.GroupLoadInProgress) || !pause(ctx, producerPause) {
			return identity{}, fmt.Errorf("take a producer id: %w", err)
		}
	}
}

// partitionProducer numbers what is appended to one partition. Its fields belong to whoever has the partition's turn.
//
// An append of unknown outcome has used the next sequence, or has not. When the same records come again they go out under the same
// identity, and the broker drops them if it has them. Anything else must not go under that producer id before this is settled, as
// its sequence would be taken for the other's or leave a gap: it gets a fresh id, and the unsettled one stays with the batch alone.
type partitionProducer struct {
	next    identity
	known   bool // next is one to be used; else a fresh one must be had
	used    bool // the shared id was used up here
	unknown []unknownBatch
}

// unknownBatch is a batch of an append that failed: with unknown outcome, or on disk before a later batch of the append failed. When
// its records come again they are taken for the repetition of that append. Only then: two appends of equal records are two.
type unknownBatch struct {
	hash   uint64
	bytes  int
	id     identity
	onDisk bool
	until  time.Time // when it is forgotten
}

func newUnknownBatch(plain []byte, id identity) unknownBatch {
	return unknownBatch{hash: xxhash.Sum64(plain), bytes: len(plain), id: id}
}

// identify returns the identity for the batch of which plain are the records. repeated is what is remembered of it, nil where it is
// new.
func (p *partitionProducer) identify(ctx context.Context, l *Log, plain []byte) (id identity, repeated *unknownBatch, err error) {
	if repeated := p.recall(plain, l.cfg.Now()); repeated != nil {
		return repeated.id, repeated, nil
	}
	if !p.known {
		take := l.freshProducer
		if !p.used {
			take = func(ctx context.Context) (identity, error) { return l.producers.shared(ctx, l) }
		}
		fresh, err := take(ctx)
		if err != nil {
			return identity{}, nil, err
		}
		p.next, p.known, p.used = fresh, true, true
	}
	return p.next, nil, nil
}

func (p *partitionProducer) recall(plain []byte, now time.Time) *unknownBatch {
	for len(p.unknown) > 0 && now.After(p.unknown[0].until) {
		p.unknown = p.unknown[1:]
	}
	if len(p.unknown) == 0 {
		return nil
	}
	hash := xxhash.Sum64(plain)
	for i := range p.unknown {
		if u := &p.unknown[i]; u.hash == hash && u.bytes == len(plain) && !now.After(u.until) {
			return u
		}
	}
	return nil
}

// acknowledged says that the batch is on disk.
func (p *partitionProducer) acknowledged(id identity, repeated *unknownBatch, n int) {
	if repeated == nil {
		p.next = id.following(n)
		return
	}
	if !p.known && repeated.id == p.next { // nothing else came in between, so its producer goes on
		p.next, p.known = id.following(n), true
	}
	p.forget(repeated)
}

// failed says that nobody knows whether the batch is on disk.
func (p *partitionProducer) failed(id identity, repeated *unknownBatch, plain []byte, until time.Time) {
	if repeated != nil {
		repeated.until = until
		return
	}
	p.next, p.known = id, false
	batch := newUnknownBatch(plain, id)
	batch.until = until
	p.remember(batch)
}

// discard says that the broker knows nothing of the producer any more, so that it cannot tell a repeated batch: sent again it may be
// there twice, which readers see by its origin.
func (p *partitionProducer) discard(id identity, repeated *unknownBatch) {
	if repeated != nil {
		p.forget(repeated)
	}
	if id.producer == p.next.producer {
		p.known = false
		p.next = identity{}
	}
}

func (p *partitionProducer) remember(u unknownBatch) {
	if len(p.unknown) >= unknownBatchesMax {
		p.unknown = p.unknown[1:]
	}
	p.unknown = append(p.unknown, u)
}

func (p *partitionProducer) forget(u *unknownBatch) {
	for i := range p.unknown {
		if &p.unknown[i] == u {
			p.unknown = append(p.unknown[:i:i], p.unknown[i+1:]...)
			return
		}
	}
}

// outcome is what a broker's answer says of a batch.
type outcome int

const (
	stored       outcome = iota
	notStored            // nothing was appended, so its sequence is free
	unknown              // perhaps it was
	producerLost         // not appended, and its producer is of no more use
)

// outcomeOf classifies the error of a Produce request; nil is stored.
func outcomeOf(err error) outcome {
	var code kafkago.Error
	if err == nil {
		return stored
	}
	if !errors.As(err, &code) {
		return unknown
	}
	switch code { // whatever is not known to have left nothing may have left something
	case kafkago.DuplicateSequenceNumber: // older than the last five, which get an ordinary answer
		return stored
	case kafkago.MessageSizeTooLarge, kafkago.RecordListTooLarge, kafkago.NotEnoughReplicas, kafkago.NotLeaderForPartition, kafkago.LeaderNotAvailable,
		kafkago.UnknownTopicOrPartition, kafkago.TopicAuthorizationFailed, kafkago.ClusterAuthorizationFailed, kafkago.InvalidTimestamp,
		kafkago.InvalidMessage, kafkago.InvalidRecord, kafkago.UnsupportedCompressionType, kafkago.UnsupportedForMessageFormat:
		return notStored
	case kafkago.OutOfOrderSequenceNumber, kafkago.UnknownProducerId, kafkago.InvalidProducerEpoch, kafkago.InvalidProducerIDMapping, kafkago.ProducerFenced:
		return producerLost
	default:
		return unknown
	}
}
