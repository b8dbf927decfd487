package router

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/pkg/bus"
)

// Limits of looking back.
const (
	firstSection   = 64      // positions of a topic
	sectionGrowth  = 8       // times
	sectionMax     = 4096    // positions
	settledRecords = 4096    // older than all that is not committed, until nothing is looked for behind them: an append may come late
	settledBytes   = 4 << 20 // likewise
	standingMax    = 1 << 20 // origins remembered of one topic, 16 bytes each; what is older is taken to stand nowhere
	topicsAtOnce   = 8
)

// lookBack returns what the topics hold of the share's messages after committed, nil where there are none.
func (t *table) lookBack(ctx context.Context, log bus.Log, ingested bus.Partition, committed bus.Position) (*standing, error) {
	end, err := ingested.End(ctx)
	if err != nil {
		return nil, fmt.Errorf("look what is routed already: %w", err)
	}
	if end.Compare(committed) <= 0 {
		return nil, nil // nothing can be
	}
	s := &standing{}
	for i, topic := range t.topics {
		s.topics = append(s.topics, stood{topic: topic, bit: 1 << i, home: slices.Contains(homes(), topic)})
	}
	for _, topic := range homes() { // also those that no route names any more
		if !slices.Contains(t.topics, topic) {
			s.topics = append(s.topics, stood{topic: topic, home: true})
		}
	}
	s.topics = append(s.topics, stood{topic: bus.DeadLetters, letters: make(map[bus.Position]string)})
	looking, ctx := errgroup.WithContext(ctx)
	looking.SetLimit(topicsAtOnce)
	for i := range s.topics {
		looking.Go(func() error { return s.topics[i].read(ctx, log, ingested.ID().Number, committed) })
	}
	if err := looking.Wait(); err != nil {
		return nil, fmt.Errorf("look what is routed already: %w", err)
	}
	found := false
	for i := range s.topics {
		if n := len(s.topics[i].at); n > 0 {
			found = true
			if last := s.topics[i].at[n-1]; last.Compare(s.newest) > 0 {
				s.newest = last
			}
		}
	}
	if !found {
		return nil, nil
	}
	return s, nil
}

// holder is a partition that says whether it has any record that was not trimmed away. One that does not is waited for.
type holder interface {
	Holds(ctx context.Context) (bool, error)
}

// newest returns the end of a partition, zero where it holds nothing.
func newest(ctx context.Context, p bus.Partition) (bus.Position, error) {
	if h, ok := p.(holder); ok {
		if holds, err := h.Holds(ctx); err != nil || !holds {
			return bus.Position{}, err
		}
	}
	return p.End(ctx)
}

// read finds what the topic holds of partition number after committed: backwards in sections of growing length, as origins rise but for
// what was appended twice.
func (s *stood) read(ctx context.Context, log bus.Log, number int, committed bus.Position) error {
	p, err := log.Partition(ctx, bus.PartitionID{Topic: s.topic, Number: number % max(1, log.Partitions(s.topic))})
	if err != nil {
		return err
	}
	through, err := newest(ctx, p)
	if err != nil {
		return err
	}
	var behind tail // read so far behind the oldest that is not committed
	for length := uint64(firstSection); !through.IsZero() && !behind.settled(); {
		if len(s.at) >= standingMax {
			break
		}
		from := bus.Position{}
		if through.Seq > length {
			from.Seq = through.Seq - length
		}
		section, err := s.section(ctx, p, number, committed, from, through)
		if err != nil {
			return fmt.Errorf("%s %s..%s: %w", p.ID(), from, through, err)
		}
		if section.records == 0 {
			s.whole = behind.own // else it may be among what was trimmed
			break
		}
		if section.found {
			behind = section.tail
		} else {
			behind.add(section.tail)
		}
		s.whole = behind.settled() || section.first.Seq <= 1 || from.IsZero() && behind.own
		through = from
		grown := min(length*sectionGrowth, sectionMax)
		if !section.found { // not much more than what is still wanted, going by how dense this section was
			wanted := uint64(max(settledRecords-behind.records, 0))
			grown = min(grown, 1+length*wanted/uint64(section.records)) //nolint:gosec // not negative
		}
		length = grown
	}
	slices.SortFunc(s.at, bus.Position.Compare)
	s.at = slices.Compact(s.at)
	return nil
}

// tail is what stands in a section before the first origin that is not committed.
type tail struct {
	records, bytes int
	own            bool // one of them is of the share's partition
}

func (t *tail) add(o tail) {
	t.records, t.bytes, t.own = t.records+o.records, t.bytes+o.bytes, t.own || o.own
}

func (t *tail) settled() bool { return t.records >= settledRecords || t.bytes >= settledBytes }

type section struct {
	records int
	first   bus.Position
	found   bool // something that is not committed
	tail    tail
}

// section takes the records after from, through through.
func (s *stood) section(ctx context.Context, p bus.Partition, number int, committed, from, through bus.Position) (all section, err error) {
	err = eachRecord(ctx, p, from, through, func(r *bus.Record) {
		if all.records == 0 {
			all.first = r.Position
		}
		all.records++
		own, found := s.take(r, number, committed)
		if all.found = all.found || found; !all.found {
			all.tail.add(tail{1, len(r.Value), own})
		}
	})
	if all.records == 0 && errors.Is(err, errNothingMore) {
		err = nil // trimmed away
	}
	return all, err
}
