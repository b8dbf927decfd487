package worker

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/millrace/millrace/pkg/bus"
)

// topicBatch is what one commit publishes to one topic, in order.
type topicBatch struct {
	topic   string
	records []bus.Record
	tooBig  []bus.Record // those that the log can never take
}

// publish appends what the task published: to several topics at once, within a topic in order.
func (s *share[Row]) publish(ctx context.Context) error {
	s.gather()
	errs := make([]error, len(s.topics))
	var appends sync.WaitGroup
	for i := range s.topics {
		t := &s.topics[i]
		if len(t.records) == 0 {
			continue
		}
		f := func() { t.tooBig, errs[i] = s.append(ctx, t.topic, t.records) }
		if len(s.topics) == 1 {
			f()
			continue
		}
		appends.Go(f)
	}
	appends.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for i := range s.topics {
		t := &s.topics[i]
		s.loop.Metrics.published.WithLabelValues(s.loop.Worker, t.topic).Add(float64(len(t.records) - len(t.tooBig)))
		for _, r := range t.tooBig {
			s.refuseTooLarge(ctx, t.topic, r)
		}
		clear(t.records)
		t.records, t.tooBig = t.records[:0], nil
	}
	return nil
}

// gather sorts out.Publish by topic.
func (s *share[Row]) gather() {
	last := -1
	for i := range s.out.Publish {
		p := &s.out.Publish[i]
		if last < 0 || s.topics[last].topic != p.Topic {
			last = s.topicIndex(p.Topic)
		}
		s.topics[last].records = append(s.topics[last].records, p.Record)
	}
}

func (s *share[Row]) topicIndex(topic string) int {
	for i := range s.topics {
		if s.topics[i].topic == topic {
			return i
		}
	}
	s.topics = append(s.topics, topicBatch{topic: topic})
	return len(s.topics) - 1
}

// What goes to the log in one append. A log may have taken the first part of an append when it refuses the rest, and is then
// given the whole again; so what is much might never come to its end in a log that is nearly full.
const (
	appendBytesMax   = 256 << 10
	appendRecordsMax = 8192
)

// append puts records at the end of the share's partition of topic, trying until it works, and returns those that are larger
// than the log takes.
func (s *share[Row]) append(ctx context.Context, topic string, records []bus.Record) (tooLarge []bus.Record, err error) {
	id := bus.PartitionID{Topic: topic, Number: s.bus.Number % max(1, s.loop.Bus.Partitions(topic))}
	for len(records) > 0 {
		n := atOnce(records)
		refused, err := s.appendOnce(ctx, id, records[:n])
		if err != nil {
			return nil, err
		}
		tooLarge = append(tooLarge, refused...)
		records = records[n:]
	}
	return tooLarge, nil
}

// atOnce returns how many of records make one append: at least one.
func atOnce(records []bus.Record) int {
	bytes := 0
	for i := range records {
		bytes += len(records[i].Value)
		if i > 0 && (bytes > appendBytesMax || i >= appendRecordsMax) {
			return i
		}
	}
	return len(records)
}

// appendOnce is append for what makes one append. The halves of a batch that holds one that is too large go in order.
func (s *share[Row]) appendOnce(ctx context.Context, id bus.PartitionID, records []bus.Record) (tooLarge []bus.Record, err error) {
	err = s.retry(ctx, "publish to "+id.String(), func() error { return s.loop.Bus.Append(ctx, id, records) })
	if !errors.Is(err, bus.ErrTooLarge) {
		return nil, err
	}
	if len(records) == 1 {
		return records, nil
	}
	half := len(records) / 2
	first, err := s.appendOnce(ctx, id, records[:half])
	if err != nil {
		return nil, err
	}
	second, err := s.appendOnce(ctx, id, records[half:])
	return append(slices.Clip(first), second...), err
}
