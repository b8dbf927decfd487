package nats

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/pkg/bus"
)

const (
	partitionsKey   = "millrace-partitions" // in the metadata of every stream
	layoutAtOnce    = 8                     // requests under way while streams are looked up or created
	layoutMax       = 30 * time.Second      // for which a server is asked that is not ready
	groupsBytesMax  = 16 << 20
	positionsBucket = "_positions"
	groupsBucket    = "_groups"
	keyValuePrefix  = "KV_" // of the stream of a bucket
)

// layOutInTime is layOut, for startMax while a cluster that is starting itself cannot do it yet.
func (l *Log) layOutInTime(ctx context.Context) error {
	deadline := l.cfg.Now().Add(layoutMax)
	for told := false; ; {
		bounded, cause, cancel := l.bounded(ctx, requestTimeout)
		err := errors.Join(l.layOut(bounded), cause())
		cancel()
		if err == nil || ctx.Err() != nil || !notYet(err) || l.cfg.Now().After(deadline) {
			return err
		}
		if !told {
			told = true
			l.cfg.Log.Warn("the NATS server is not ready yet; trying on", "error", err)
		}
		if !pause(ctx, acquireEvery) {
			return err
		}
	}
}

// notYet reports whether a server says, or fails to say, what one says that has no leader or too few peers at the moment.
func notYet(err error) bool {
	const codeNoSuitablePeers, codePeerNotMember, codeNotAvailable, codeNoLeader = 10005, 10006, 10008, 10009
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return slices.Contains([]jetstream.ErrorCode{codeNoSuitablePeers, codePeerNotMember, codeNotAvailable, codeNoLeader}, api.ErrorCode)
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, errDisconnected)
}

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
	return l.ensure(ctx, l.streamConfig(p), func(is jetstream.StreamConfig) error {
		want := strconv.Itoa(l.cfg.Partitions)
		if n := is.Metadata[partitionsKey]; n != want {
			return fmt.Errorf("the log was made with %q partitions of each topic, want %s: the number cannot be changed, since devices would move", n, want)
		}
		return nil
	})
}

// ensure creates a stream, or brings one that is there up to what is wanted, unless check refuses that. Copies are added,
// never taken away: a process whose configuration asks for fewer must not undo what another one's asks for.
func (l *Log) ensure(ctx context.Context, want jetstream.StreamConfig, check func(is jetstream.StreamConfig) error) error {
	have, err := l.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) && !l.cfg.ReadOnly {
		_, err = l.js.CreateStream(ctx, want)
		return l.explainRoom(err)
	}
	if err != nil {
		return err
	}
	is := have.CachedInfo().Config
	if err := check(is); err != nil {
		return err
	}
	want.Replicas = max(want.Replicas, is.Replicas)
	if l.cfg.ReadOnly {
		return nil
	}
	if is.MaxBytes == want.MaxBytes && is.MaxMsgSize == want.MaxMsgSize && is.Replicas == want.Replicas && is.Duplicates == want.Duplicates &&
		is.AllowDirect == want.AllowDirect {
		return nil
	}
	_, err = l.js.UpdateStream(ctx, want)
	return l.explainRoom(err)
}

// explainRoom adds to a refusal for lack of room how much the log asks for, since a server sets it aside when a stream is made. The
// codes are those of nats-server's errors.json: no suitable peers (10005), insufficient storage resources (10047), insufficient resources (10023).
func (l *Log) explainRoom(err error) error {
	refused, ok := errors.AsType[*jetstream.APIError](err)
	if !ok || !slices.Contains([]jetstream.ErrorCode{10005, 10023, 10047}, refused.ErrorCode) {
		return err
	}
	topics := int64(len(l.cfg.topics()))
	return fmt.Errorf("%w: the log sets %d MiB aside for each of %d topics (bus.retention.bytes), %d GiB on each server that keeps a copy: "+
		"lower it, or raise the server's max_file", err, l.cfg.Retention.BytesMax>>20, topics, (topics*l.cfg.Retention.BytesMax)>>30)
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

func (l *Log) layOutBuckets(ctx context.Context) (err error) {
	if l.positions, err = l.layOutBucket(ctx, l.positionsConfig()); err != nil {
		return err
	}
	l.groups, err = l.layOutBucket(ctx, l.groupsConfig())
	return err
}

func (l *Log) layOutBucket(ctx context.Context, want jetstream.StreamConfig) (jetstream.KeyValue, error) {
	if err := l.ensure(ctx, want, func(jetstream.StreamConfig) error { return nil }); err != nil {
		return nil, fmt.Errorf("bucket %s: %w", want.Name, err)
	}
	bucket, err := l.js.KeyValue(ctx, strings.TrimPrefix(want.Name, keyValuePrefix))
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", want.Name, err)
	}
	return bucket, nil
}

// layOutGroups creates the bucket of groups once more, which a server that is alone has forgotten when it was started again.
func (l *Log) layOutGroups(ctx context.Context) error {
	bounded, cause, cancel := l.bounded(ctx, requestTimeout)
	defer cancel()
	if err := l.ensure(bounded, l.groupsConfig(), func(jetstream.StreamConfig) error { return nil }); err != nil {
		return errors.Join(cause(), fmt.Errorf("bucket of groups: %w", err))
	}
	return nil
}

func (l *Log) positionsConfig() jetstream.StreamConfig {
	c := l.bucketConfig(positionsBucket, "how far each group has come")
	c.Storage = jetstream.FileStorage
	return c
}

// groupsConfig is of the bucket of members and owners. It is in memory, so that after a restart of the server no dead member of the
// process that it ran in is waited for; the living put theirs back.
func (l *Log) groupsConfig() jetstream.StreamConfig {
	c := l.bucketConfig(groupsBucket, "who is a member of each group, and owns which shares")
	c.Storage, c.MaxBytes = jetstream.MemoryStorage, groupsBytesMax
	return c
}

// bucketConfig is a bucket of keys and values as the client library makes it, but for direct reads, which any replica answers,
// also one that is behind: a position or an owner that is out of date.
func (l *Log) bucketConfig(name, what string) jetstream.StreamConfig {
	bucket := l.cfg.Prefix + name
	return jetstream.StreamConfig{
		Name: keyValuePrefix + bucket, Description: "Millrace: " + what, Subjects: []string{"$KV." + bucket + ".>"},
		MaxMsgsPerSubject: 1, MaxBytes: -1, MaxMsgs: -1, MaxMsgSize: -1, MaxConsumers: -1, Discard: jetstream.DiscardNew,
		AllowRollup: true, DenyDelete: true, Duplicates: 2 * time.Minute, Replicas: l.cfg.Replicas,
	}
}
