package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/millrace/millrace/pkg/bus"
)

const (
	trimEvery = 30 * time.Second
	trimMax   = 25 * time.Second // for one round
	// trimAgainAfter is how soon a full partition is looked at again.
	trimAgainAfter = 200 * time.Millisecond
	// A partition is trimmed down to this share of its size, so that there is room for what is to be read.
	keepNumerator, keepDenominator = 4, 5
	sampleBytes                    = 256 << 10
)

// sizeEstimate is what is known of a partition's size: from its first to its last record, times what a record takes. Kafka itself
// tells the size on disk only, of whole segments, in which what was trimmed may stay for minutes. Safe for concurrent use.
type sizeEstimate struct {
	mu         sync.Mutex
	mean       float64 // bytes of a record, compressed, as the last batches had them; 0 is not known
	first, end int64   // offsets, as last seen
	asked      time.Time
}

const meanWeight = 1.0 / 16 // of the newest batch

func (s *sizeEstimate) appended(reply produced, records, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sampled(records, bytes)
	if reply.base >= 0 {
		s.first, s.end = reply.logStart, max(s.end, reply.base+int64(records))
	}
}

func (s *sizeEstimate) sampled(records, bytes int) {
	mean := float64(bytes) / float64(records)
	if s.mean > 0 {
		mean = s.mean + (mean-s.mean)*meanWeight
	}
	s.mean = mean
}

func (s *sizeEstimate) located(first, end int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.first, s.end = first, end
}

func (s *sizeEstimate) bytes() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return float64(s.end-s.first) * s.mean
}

// surplus returns the offset through which to trim so that at most keep bytes stay.
func (s *sizeEstimate) surplus(keep float64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mean == 0 {
		return s.first
	}
	return max(s.first, s.end-int64(keep/s.mean))
}

// mayAsk keeps appends to a full partition from looking at all groups each time.
func (s *sizeEstimate) mayAsk(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.asked) < trimAgainAfter {
		return false
	}
	s.asked = now
	return true
}

// partitionBytes is the size at which a partition is full.
func (l *Log) partitionBytes() float64 {
	return float64(l.cfg.Retention.BytesMax) / float64(l.cfg.Partitions)
}

// hasRoom reports whether p can take so many bytes, after trimming it where that is needed.
func (l *Log) hasRoom(ctx context.Context, p *partition, bytes int) bool {
	fits := func() bool { return p.size.bytes()+float64(bytes) <= l.partitionBytes() }
	if fits() {
		return true
	}
	if !p.size.mayAsk(l.cfg.Now()) {
		return false
	}
	if l.cfg.Trim {
		read, err := l.readByAll(ctx)
		if err == nil {
			err = l.trimPartition(ctx, p, read[p.id])
		}
		if err != nil {
			l.cfg.Log.Warn("cannot trim a partition that is full", "partition", p.id.String(), "error", err)
		}
	}
	first, end, err := l.bounds(ctx, p) // another process may have trimmed it
	if err != nil {
		return false
	}
	p.size.located(first, end)
	return fits()
}

// trimNowAndThen trims what is read until the log is closed.
func (l *Log) trimNowAndThen() {
	for pause(l.life, trimEvery) {
		if err := l.Trim(l.life); err != nil && l.life.Err() == nil {
			l.cfg.Log.Warn("cannot trim the log; it goes on growing", "error", err)
		}
	}
}

// Trim deletes from every partition what every group of its topic has read, where that is older than Retention.Age or where the
// partition is larger than four fifths of its part of Retention.BytesMax. The groups of a topic are those whose name begins
// with Config.Prefix and that ever subscribed to it, and those of Config.Readers. A topic without any is trimmed by age and size
// alone. Kafka frees the room on its disks segment by segment. Trim is called every 30 s where Config.Trim is set.
func (l *Log) Trim(ctx context.Context) error {
	ctx, cancel := l.bounded(ctx, trimMax)
	defer cancel()
	read, err := l.readByAll(ctx)
	if err != nil {
		return fmt.Errorf("trim: %w", l.why(err))
	}
	var faults []error
	for _, p := range l.parts {
		if err := l.trimPartition(ctx, p, read[p.id]); err != nil {
			faults = append(faults, fmt.Errorf("trim %s: %w", p.id, l.why(err)))
		}
	}
	return errors.Join(faults...)
}

// unlimited is the offset of a partition whose topic no group reads.
const unlimited = int64(1)<<62 - 1

// readByAll returns the offset up to which every group has read, for each partition.
func (l *Log) readByAll(ctx context.Context) (map[bus.PartitionID]int64, error) {
	groups, err := l.groups(ctx)
	if err != nil {
		return nil, err
	}
	byTopic := map[string]string{}
	for _, topic := range l.topics {
		byTopic[l.cfg.Prefix+topic] = topic
	}
	read := map[bus.PartitionID]int64{}
	for id := range l.parts {
		read[id] = unlimited
	}
	seen := map[string]map[bus.PartitionID]bool{}
	for _, group := range groups {
		res, err := l.fetchOffsets(ctx, &kafkago.OffsetFetchRequest{GroupID: group})
		if err != nil {
			return nil, fmt.Errorf("what group %s has read: %w", group, err)
		}
		seen[group] = map[bus.PartitionID]bool{}
		for name, list := range res.Topics {
			for _, c := range list {
				id := bus.PartitionID{Topic: byTopic[name], Number: c.Partition}
				if c.Error != nil {
					return nil, fmt.Errorf("what group %s has read of %s: %w", group, id, c.Error)
				}
				if at, ours := read[id]; ours && c.CommittedOffset >= 0 {
					seen[group][id] = true
					read[id] = min(at, c.CommittedOffset)
				}
			}
		}
	}
	for topic, names := range l.cfg.Readers {
		for _, name := range names {
			for n := range l.cfg.Partitions {
				id := bus.PartitionID{Topic: topic, Number: n}
				if !seen[l.cfg.Prefix+name][id] {
					read[id] = 0
				}
			}
		}
	}
	return read, nil
}

// groups returns the names of all groups that are ours. Each broker knows those that it coordinates, so all must answer.
func (l *Log) groups(ctx context.Context) ([]string, error) {
	res, err := l.client.ListGroups(ctx, &kafkago.ListGroupsRequest{})
	if err == nil {
		err = res.Error
	}
	if err != nil {
		return nil, fmt.Errorf("list the groups: %w", err)
	}
	var names []string
	for _, group := range res.Groups {
		if name, ours := strings.CutPrefix(group.GroupID, l.cfg.Prefix); ours && !bus.Onlooker(name) {
			names = append(names, group.GroupID)
		}
	}
	for _, readers := range l.cfg.Readers { // perhaps on a broker that is away
		for _, name := range readers {
			names = append(names, l.cfg.Prefix+name)
		}
	}
	// A group is missing from the list while it moves from one broker to another, so those that were there once count on.
	l.groupsMu.Lock()
	defer l.groupsMu.Unlock()
	names = append(names, l.groupsSeen...)
	slices.Sort(names)
	l.groupsSeen = slices.Compact(names)
	return slices.Clone(l.groupsSeen), nil
}

// trimPartition trims p, at most up to the offset read.
func (l *Log) trimPartition(ctx context.Context, p *partition, read int64) error {
	first, end, err := l.bounds(ctx, p)
	if err != nil {
		return err
	}
	p.size.located(first, end)
	limit := min(read, end)
	if limit <= first {
		return nil
	}
	if err := l.sample(ctx, p, first); err != nil {
		return err
	}
	bySize := p.size.surplus(l.partitionBytes() * keepNumerator / keepDenominator)
	byAge, err := l.offsetAt(ctx, p, l.cfg.Now().Add(-l.cfg.Retention.Of(p.id.Topic)).UnixNano())
	if err != nil {
		return err
	}
	to := min(limit, max(bySize, byAge))
	if to <= first {
		return nil
	}
	start, err := l.deleteRecords(ctx, p, to)
	if err != nil {
		return fmt.Errorf("delete what is before offset %d: %w", to, err)
	}
	p.size.located(max(start, first), end)
	l.metrics.trims.Add(float64(max(start-first, 0)))
	return nil
}

// sample looks at the first records where this process has not appended any, to know what a record takes.
func (l *Log) sample(ctx context.Context, p *partition, first int64) error {
	p.size.mu.Lock()
	known := p.size.mean > 0
	p.size.mu.Unlock()
	if known {
		return nil
	}
	reply, err := l.fetch(ctx, p, first, 0, sampleBytes)
	if err != nil {
		return err
	}
	next, err := endOf(reply.batches, first)
	if err != nil || next == first {
		return err
	}
	p.size.mu.Lock()
	defer p.size.mu.Unlock()
	p.size.sampled(int(next-first), len(reply.batches))
	return nil
}

func (l *Log) deleteRecords(ctx context.Context, p *partition, to int64) (first int64, err error) {
	ctx, cancel := l.bounded(ctx, requestTimeout)
	defer cancel()
	body, err := l.ask(ctx, p, protocol.DeleteRecords, deleteRecordsVersion, deleteRecordsRequest(p.topic, p.number, to, replicasMax))
	if err != nil {
		return 0, err
	}
	first, fault, err := parseDeleted(body)
	if err == nil && fault != 0 {
		err = kafkago.Error(fault)
	}
	return first, err
}
