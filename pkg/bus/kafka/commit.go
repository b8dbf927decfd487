package kafka

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/millrace/millrace/pkg/bus"
)

const (
	// metadataMax is what brokers take beside an offset (offset.metadata.max.bytes). It is room for some 370 origins; there is
	// one for each partition of the topic Ingested from which this one stems, which is one unless their number was changed.
	metadataMax  = 4096
	commitWithin = requestTimeout
	commitPause  = 200 * time.Millisecond // while the group settles anew
)

// commit is the progress of a group on one partition of a share: as an offset that Kafka's own tools understand, with the progress
// itself in its metadata. Where the two disagree, somebody has reset the offset, and that counts.
type commit struct {
	member *member
	term   *term
	part   *partition

	mu       sync.Mutex
	known    bool // progress and exists are what the group has; nobody else changes it during the term
	exists   bool
	progress bus.Progress
}

// get returns what is committed; the zero Progress where there is nothing.
func (c *commit) get(ctx context.Context) (bus.Progress, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.load(ctx); err != nil {
		return bus.Progress{}, err
	}
	return c.progress.Clone(), nil
}

// put records progress unless it is behind what is recorded.
func (c *commit) put(ctx context.Context, progress bus.Progress) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.load(ctx); err != nil {
		return err
	}
	if c.exists && progress.Through.Compare(c.progress.Through) < 0 {
		return nil
	}
	return c.write(ctx, progress)
}

// mark makes the group known on the partition, so that the trimmer keeps what it has not read.
func (c *commit) mark(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.load(ctx); err != nil || c.exists {
		return err
	}
	return c.write(ctx, bus.Progress{})
}

func (c *commit) load(ctx context.Context) error {
	l := c.member.log
	if err := l.fault(); err != nil || c.known {
		return err
	}
	progress, exists, err := l.committed(ctx, c.member.group, c.part)
	if err != nil {
		return err
	}
	c.known, c.exists, c.progress = true, exists, progress
	return nil
}

// committed asks what a group, by Kafka's name for it, has committed on a partition.
func (l *Log) committed(ctx context.Context, group string, p *partition) (progress bus.Progress, exists bool, err error) {
	ctx, cancel := l.bounded(ctx, requestTimeout)
	defer cancel()
	res, err := l.fetchOffsets(ctx, &kafkago.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{p.topic: {int(p.number)}}})
	if err != nil {
		return bus.Progress{}, false, err
	}
	list := res.Topics[p.topic]
	if len(list) != 1 || list[0].Error != nil {
		return bus.Progress{}, false, fmt.Errorf("offset fetch: %d partitions, want 1: %w", len(list), errors.Join(errReply, firstError(list)))
	}
	progress, exists = parseCommit(list[0].CommittedOffset, list[0].Metadata)
	return progress, exists, nil
}

// fetchOffsets asks for what a group has committed, until ctx ends where its coordinator is just moving to another broker.
func (l *Log) fetchOffsets(ctx context.Context, req *kafkago.OffsetFetchRequest) (*kafkago.OffsetFetchResponse, error) {
	for {
		res, err := l.client.OffsetFetch(ctx, req)
		if err == nil {
			err = res.Error
		}
		moving := errors.Is(err, kafkago.NotCoordinatorForGroup) || errors.Is(err, kafkago.GroupCoordinatorNotAvailable) ||
			errors.Is(err, kafkago.GroupLoadInProgress)
		if !moving || !pause(ctx, commitPause) {
			return res, err
		}
	}
}

func firstError(list []kafkago.OffsetFetchPartition) error {
	for _, p := range list {
		if p.Error != nil {
			return p.Error
		}
	}
	return nil
}

// write commits as the member that owns the share, under whatever generation its group has by now.
func (c *commit) write(ctx context.Context, progress bus.Progress) error {
	metadata, dropped := commitMetadata(progress, c.progress.Origins)
	if dropped > 0 {
		c.member.log.metrics.originsDropped.Add(float64(dropped))
		c.member.log.cfg.Log.Warn("a commit has no room for all origins; records that are on the log twice may be taken twice after a restart",
			"group", c.member.group, "partition", c.part.id.String(), "origins", len(progress.Origins), "dropped", dropped)
	}
	l := c.member.log
	ctx, cancel := l.bounded(ctx, commitWithin)
	defer cancel()
	for {
		err := c.commitOffset(ctx, kafkago.OffsetCommit{
			Partition: int(c.part.number), Offset: int64(progress.Through.Seq), Metadata: metadata, //nolint:gosec // an offset
		})
		if err == nil {
			c.known, c.exists, c.progress = true, true, progress.Clone()
			return nil
		}
		// The group is being dealt anew: the share may stay, and then the next generation may commit.
		settling := errors.Is(err, kafkago.RebalanceInProgress) || errors.Is(err, kafkago.IllegalGeneration)
		if !settling || !pause(ctx, commitPause) {
			return err
		}
	}
}

func (c *commit) commitOffset(ctx context.Context, what kafkago.OffsetCommit) error {
	id, generation := c.member.standing()
	if c.term.over.Load() {
		return bus.ErrLost
	}
	res, err := c.member.log.client.OffsetCommit(ctx, &kafkago.OffsetCommitRequest{
		GroupID: c.member.group, GenerationID: int(generation), MemberID: id,
		Topics: map[string][]kafkago.OffsetCommit{c.part.topic: {what}},
	})
	if err != nil {
		return err
	}
	list := res.Topics[c.part.topic]
	if len(list) != 1 {
		return fmt.Errorf("%w: offset commit", errReply)
	}
	if errors.Is(list[0].Error, kafkago.UnknownMemberId) {
		return fmt.Errorf("%w: %w", bus.ErrLost, list[0].Error)
	}
	return list[0].Error
}

// commitMetadata writes progress as a commit's metadata. Where not all origins fit, those that have risen since the last commit
// are kept first: they are of the partitions that still bring something.
func commitMetadata(progress bus.Progress, before bus.Origins) (metadata string, dropped int) {
	encode := func(p bus.Progress) string { return base64.RawStdEncoding.EncodeToString(p.AppendBinary(nil)) }
	metadata = encode(progress)
	if len(metadata) <= metadataMax {
		return metadata, 0
	}
	risen, rest := bus.Origins{}, bus.Origins{}
	for _, o := range progress.Origins {
		if slices.Contains(before, o) {
			rest = append(rest, o)
		} else {
			risen = append(risen, o)
		}
	}
	keep := len(progress.Origins)
	for len(metadata) > metadataMax {
		keep -= 1 + keep/64
		some := slices.Clone(slices.Concat(risen, rest)[:keep])
		slices.SortFunc(some, func(a, b bus.Origin) int { return int(a.Partition) - int(b.Partition) })
		metadata = encode(bus.Progress{Through: progress.Through, Origins: some})
	}
	return metadata, len(progress.Origins) - keep
}

// parseCommit reads what a group has committed.
func parseCommit(offset int64, metadata string) (progress bus.Progress, exists bool) {
	if offset < 0 {
		return bus.Progress{}, false
	}
	if b, err := base64.RawStdEncoding.DecodeString(metadata); err == nil {
		if p, err := bus.ParseProgress(b); err == nil && p.Through.Seq == uint64(offset) {
			return p, true
		}
	}
	if offset == 0 {
		return bus.Progress{Through: bus.Position{Index: 1}}, true // before every record, but not nothing
	}
	return bus.Progress{Through: bus.Position{Seq: uint64(offset)}}, true
}
