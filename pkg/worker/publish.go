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

// append puts records at the end of the share's partition of topic, trying until it works, and returns those that are larger
// than the log takes. The halves of a batch that holds one go in order.
func (s *share[Row]) append(ctx context.Context, topic string, records []bus.Record) (tooLarge []bus.Record, err error) {
	id := bus.PartitionID{Topic: topic, Number: s.bus.Number % max(1, s.loop.Bus.Partitions(topic))}
	err = s.retry(ctx, "publish to "+id.String(), func() error { return s.loop.Bus.Append(ctx, id, records) })
	if !errors.Is(err, bus.ErrTooLarge) {
		return nil, err
	}
	if len(records) == 1 {
		return records, nil
	}
	half := len(records) / 2
	first, err := s.append(ctx, topic, records[:half])
	if err != nil {
		return nil, err
	}
	second, err := s.append(ctx, topic, records[half:])
	return append(slices.Clip(first), second...), err
}
