package nats

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/pkg/bus"
)

const (
	partitionsKey   = "millrace-partitions" // in the metadata of every stream
	layoutAtOnce    = 8                     // requests under way while streams are looked up or created
	leasesBytesMax  = 16 << 20
	positionsBucket = "_positions"
	leasesBucket    = "_leases"
)

// layOut creates what is missing, and brings limits up to what Config says.
func (l *Log) layOut(ctx context.Context) error {
	l.parts = map[bus.PartitionID]*partition{}
	todo, stop := errgroup.WithContext(ctx)
	todo.SetLimit(layoutAtOnce)
	for _, topic := range l.cfg.topics() {
		for n := range l.cfg.Partitions {
			p := l.newPartition(bus.PartitionID{Topic: topic, Number: n})
			l.parts[p.id] = p
			todo.Go(func() error {
				if err := l.layOutStream(stop, p); err != nil {
					return fmt.Errorf("stream %s: %w", p.stream, err)
				}
				return nil
			})
		}
	}
	if err := todo.Wait(); err != nil {
		return err
	}
	return l.layOutBuckets(ctx)
}

func (l *Log) layOutStream(ctx context.Context, p *partition) error {
	want := l.streamConfig(p)
	have, err := l.js.Stream(ctx, p.stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = l.js.CreateStream(ctx, want)
		return err
	}
	if err != nil {
		return err
	}
	is := have.CachedInfo().Config
	if n := is.Metadata[partitionsKey]; n != want.Metadata[partitionsKey] {
		return fmt.Errorf("the log was made with %q partitions of each topic, want %d: the number cannot be changed, since devices would move", n, l.cfg.Partitions)
	}
	if is.MaxBytes == want.MaxBytes && is.MaxMsgSize == want.MaxMsgSize && is.Replicas == want.Replicas && is.Duplicates == want.Duplicates {
		return nil
	}
	_, err = l.js.UpdateStream(ctx, want)
	return err
}

func (l *Log) streamConfig(p *partition) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        p.stream,
		Description: "Millrace: partition " + p.id.String(),
		Subjects:    []string{p.subject},
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew, // a full stream refuses; the default loses the oldest
		MaxBytes:    l.cfg.Retention.BytesMax / int64(l.cfg.Partitions),
		MaxMsgSize:  int32(l.cfg.FrameBytesMax + messageOverheadBytes), //nolint:gosec // bounded by validate
		Replicas:    l.cfg.Replicas,
		Duplicates:  l.cfg.DedupeWindow,
		AllowDirect: true, // the trimmer looks at single messages
		Metadata:    map[string]string{partitionsKey: strconv.Itoa(l.cfg.Partitions)},
	}
}

func (l *Log) layOutBuckets(ctx context.Context) error {
	var err error
	l.positions, err = l.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: l.cfg.Prefix + positionsBucket, Description: "Millrace: how far each group has come",
		Storage: jetstream.FileStorage, Replicas: l.cfg.Replicas, History: 1,
	})
	if err != nil {
		return fmt.Errorf("bucket %s: %w", l.cfg.Prefix+positionsBucket, err)
	}
	l.leases, err = l.layOutLeases(ctx)
	return err
}

// layOutLeases creates the bucket of leases. It is in memory, so that after a restart of the server no dead member of the
// process that it ran in is waited for; the living put theirs back. A server that is alone forgets the bucket itself as well.
func (l *Log) layOutLeases(ctx context.Context) (jetstream.KeyValue, error) {
	bucket, err := l.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: l.cfg.Prefix + leasesBucket, Description: "Millrace: which member owns each group's shares",
		Storage: jetstream.MemoryStorage, Replicas: l.cfg.Replicas, History: 1, TTL: l.cfg.Lease, MaxBytes: leasesBytesMax,
	})
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", l.cfg.Prefix+leasesBucket, err)
	}
	return bucket, nil
}
