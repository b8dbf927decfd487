package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/millrace/millrace/pkg/bus"
)

// Log is a log on Kafka. Safe for concurrent use.
type Log struct {
	cfg       Config
	topics    []string
	parts     map[bus.PartitionID]*partition
	brokers   net.Addr
	transport *kafkago.Transport
	client    *kafkago.Client
	conns     connections
	packer    *packer
	producers producers
	metrics   *metrics
	buffers   sync.Pool // of *appendBuffers

	groupsMu   sync.Mutex
	groupsSeen []string // by the trimmer, sorted

	life    context.Context //nolint:containedctx // ends with Close; what it starts outlives Open's context
	end     context.CancelFunc
	running sync.WaitGroup // goroutines of the log itself
	closing sync.Once
}

var _ bus.Log = (*Log)(nil)

// partition is what the log knows of one partition.
type partition struct {
	id     bus.PartitionID
	topic  string // its name on Kafka
	number int32

	turn     chan struct{} // of size 1: who has put something in may append
	producer partitionProducer
	size     sizeEstimate
}

// Open connects, and checks or creates the topics. It returns an error when no broker can be reached, when user or password are
// wrong, when topics are missing and CreateTopics is not set, and when they have another number of partitions. ctx limits Open only.
func Open(ctx context.Context, cfg Config) (*Log, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	l := &Log{cfg: cfg, topics: cfg.topics(), parts: map[bus.PartitionID]*partition{}, metrics: newMetrics(cfg.Metrics)}
	l.life, l.end = context.WithCancel(context.WithoutCancel(ctx))
	for _, topic := range l.topics {
		for n := range cfg.Partitions {
			id := bus.PartitionID{Topic: topic, Number: n}
			l.parts[id] = &partition{id: id, topic: cfg.Prefix + topic, number: int32(n), turn: make(chan struct{}, 1)}
		}
	}
	if err := l.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open the log at %s: %w", cfg.URL, err), l.Close())
	}
	return l, nil
}

func (l *Log) open(ctx context.Context) error {
	var err error
	if l.packer, err = newPacker(l.cfg.Compression); err != nil {
		return err
	}
	if err := l.connect(); err != nil {
		return err
	}
	if err := l.layOut(ctx); err != nil {
		return err
	}
	if l.cfg.Trim {
		l.running.Go(l.trimNowAndThen)
	}
	return nil
}

// Partitions returns the number of partitions, the same for every topic.
func (l *Log) Partitions(string) int { return l.cfg.Partitions }

// Partition implements bus.Log.
func (l *Log) Partition(_ context.Context, id bus.PartitionID) (bus.Partition, error) {
	if err := l.fault(); err != nil {
		return nil, fmt.Errorf("open %s: %w", id, err)
	}
	p, err := l.partition(id)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", id, err)
	}
	return &view{log: l, part: p}, nil
}

// Reached implements bus.Log.
func (l *Log) Reached(ctx context.Context, group string, id bus.PartitionID) (bus.Position, error) {
	p, err := l.partition(id)
	if err == nil {
		err = l.fault()
	}
	if err != nil {
		return bus.Position{}, fmt.Errorf("read the commit of %s on %s: %w", group, id, err)
	}
	progress, _, err := l.committed(ctx, l.cfg.Prefix+group, p)
	if err != nil {
		return bus.Position{}, fmt.Errorf("read the commit of %s on %s: %w", group, id, l.why(err))
	}
	return progress.Through, nil
}

// Close ends reads and subscriptions with bus.ErrClosed, and what Append has under way with an unknown outcome. Members of groups
// leave them by their session's timeout only: a subscription is better ended by its context before.
func (l *Log) Close() error {
	l.closing.Do(func() {
		l.end()
		if l.transport != nil {
			l.transport.CloseIdleConnections()
		}
		l.conns.close()
		l.running.Wait()
		if l.packer != nil {
			l.packer.close()
		}
	})
	return nil
}

// fault returns why l is of no more use, nil while it is.
func (l *Log) fault() error {
	if l.life.Err() != nil {
		return bus.ErrClosed
	}
	return nil
}

func (l *Log) partition(id bus.PartitionID) (*partition, error) {
	return bus.Find(l.parts, id, l.cfg.Partitions)
}

// bounded returns a context that ends with ctx, with the log, and after d.
func (l *Log) bounded(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	limited, cancel := context.WithTimeout(ctx, d)
	stop := context.AfterFunc(l.life, cancel)
	return limited, func() {
		stop()
		cancel()
	}
}

// why returns bus.ErrClosed beside err where the log was closed meanwhile.
func (l *Log) why(err error) error {
	if err != nil && l.life.Err() != nil {
		return fmt.Errorf("%w (%w)", bus.ErrClosed, err)
	}
	return err
}

// pause waits for d and reports whether ctx still lives.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
