package router

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
)

// What a router published and had not committed when it died is routed once more by the next one, perhaps by other routes or with other
// reference data. A reader of one topic drops what it has taken; but a message in a second home would be kept twice, and one that comes to
// a topic behind a later message of its partition would be dropped unseen. So before its first record a task looks what the
// topics hold already.

// Limits of looking back.
const (
	firstSection   = 64      // positions of a topic
	sectionGrowth  = 8       // times
	settledRecords = 4096    // older than all that is not committed, until nothing is looked for behind them: an append may come late
	standingMax    = 1 << 20 // origins remembered of one topic, 16 bytes each; what is older is taken to stand nowhere
	topicsAtOnce   = 8
)

// errStranded begins the reason of every dead letter that changed routes make.
var errStranded = errors.New("the routes, or what they look at, were changed while it was on its way")

var errNothingMore = errors.New("what was there a moment ago does not come")

// standing is what the topics held, when the share began, of the messages after the router's last commit. One goroutine uses it, with
// positions that rise.
type standing struct {
	topics []stood
	newest bus.Position // of all
}

// stood is what one topic held.
type stood struct {
	topic string
	bit   uint64         // among endpoints; 0 where no route names it
	home  bool           // it is one of homes
	at    []bus.Position // in ingested, rising
	whole bool           // nothing before the first of at is missing, such as what was trimmed
	next  int            // of at: those before were passed
}

// has reports whether the message at p stands in the topic.
func (s *stood) has(p bus.Position) bool {
	for s.next < len(s.at) && s.at[s.next].Compare(p) < 0 {
		s.next++
	}
	return s.next < len(s.at) && s.at[s.next] == p
}

// passed reports whether readers would drop the message at p as one that they have taken, although it never stood in the topic. In
// doubt it is sent.
func (s *stood) passed(p bus.Position) bool {
	return len(s.at) > 0 && !s.has(p) && s.at[len(s.at)-1].Compare(p) > 0 && (s.whole || s.at[0].Compare(p) < 0)
}

// place is where a message stands, and where it can no longer go. The bits are those of endpoints.
type place struct {
	home   string // "" where it stands in none
	stands uint64 // in them
	anyhow bool   // in a topic at all
	passed uint64 // by their readers
}

// of returns the place of the message at p.
func (s *standing) of(p bus.Position) (at place) {
	for i := range s.topics {
		t := &s.topics[i]
		switch {
		case t.has(p):
			at.stands |= t.bit
			at.anyhow = true
			if t.home && at.home == "" {
				at.home = t.topic
			}
		case t.passed(p):
			at.passed |= t.bit
		}
	}
	return at
}

// settle returns to which of the endpoints that the routes name the message in hand is still to be sent, and its home. One that stands
// in a home stays there. An error says that its home, or all it has, is closed to it.
func (t *task) settle(out *worker.Output[none], r bus.Record, at place, endpoints uint64) (left uint64, home string, err error) {
	if at.home != "" {
		endpoints &^= t.homes
	}
	left = endpoints &^ at.stands
	stranded := left & at.passed
	if stranded&t.homes != 0 || stranded != 0 && stranded == left && !at.anyhow {
		t.metrics.stranded.Inc()
		return 0, "", fmt.Errorf("%w: %s had a later message of its partition already, behind which readers would pass it over; put it back",
			errStranded, t.names(stranded))
	}
	left &^= stranded
	for ; stranded != 0; stranded &= stranded - 1 {
		t.metrics.stranded.Inc()
		t.strand(out, r, t.topics[bits.TrailingZeros64(stranded)])
	}
	if home = at.home; home == "" {
		home = t.home(left)
	}
	return left, home, nil
}

// strand makes a dead letter of what cannot go to one endpoint, beside what goes to others.
func (t *task) strand(out *worker.Output[none], r bus.Record, topic string) {
	d := telemetry.DeadLetter{
		Worker: Worker, Topic: bus.Ingested, Partition: r.Origin.Partition, Position: r.Position.String(),
		Reason:  fmt.Sprintf("%v: %s had a later message of its partition already, behind which readers would pass it over", errStranded, topic),
		Payload: t.value, Tenant: t.head.Tenant, DeviceID: t.head.DeviceID, ReceivedAt: telemetry.Time(r.Time),
		Context: fmt.Sprintf(`{"origin":%q,"published_to":%q}`, r.Origin.ID(), topic),
	}
	out.Publish = append(out.Publish, worker.Publication{Topic: bus.DeadLetters, Record: bus.Record{Value: telemetry.AppendDeadLetter(nil, &d)}})
	t.routed.Line(d.Tenant, d.DeviceID, d.ReceivedAt).RouterLetters++
}

// names returns the topics of a mask as "a, b".
func (t *table) names(endpoints uint64) string {
	var names []string
	for ; endpoints != 0; endpoints &= endpoints - 1 {
		names = append(names, t.topics[bits.TrailingZeros64(endpoints)])
	}
	return strings.Join(names, ", ")
}

// home returns the home among endpoints, "" where there is none.
func (t *table) home(endpoints uint64) string {
	if home := endpoints & t.homes; home != 0 {
		return t.topics[bits.TrailingZeros64(home)]
	}
	return ""
}

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

// read finds what the topic holds of partition number after committed: backwards in sections of growing length, as origins rise but for
// what was appended twice.
func (s *stood) read(ctx context.Context, log bus.Log, number int, committed bus.Position) error {
	p, err := log.Partition(ctx, bus.PartitionID{Topic: s.topic, Number: number % max(1, log.Partitions(s.topic))})
	if err != nil {
		return err
	}
	through, err := p.End(ctx)
	if err != nil {
		return err
	}
	var behind tail // read so far behind the oldest that is not committed
	for length := uint64(firstSection); !through.IsZero() && behind.records < settledRecords; {
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
			behind.records, behind.own = behind.records+section.tail.records, behind.own || section.tail.own
		}
		s.whole = behind.records >= settledRecords || section.first.Seq <= 1
		through = from
		length *= sectionGrowth
		if !section.found { // not much more than what is still wanted, going by how dense this section was
			wanted := uint64(max(settledRecords-behind.records, 0)) //nolint:gosec // not negative
			length = min(length, 1+length/sectionGrowth*wanted/uint64(section.records))
		}
	}
	slices.SortFunc(s.at, bus.Position.Compare)
	s.at = slices.Compact(s.at)
	return nil
}

// tail is what stands in a section before the first origin that is not committed.
type tail struct {
	records int
	own     bool // one of them is of the share's partition
}

type section struct {
	records int
	first   bus.Position
	found   bool // something that is not committed
	tail    tail
}

// section takes the records after from, through through.
func (s *stood) section(ctx context.Context, p bus.Partition, number int, committed, from, through bus.Position) (all section, err error) {
	reading, cancel := context.WithTimeout(ctx, warmWait)
	defer cancel()
	for batch, err := range p.After(reading, bus.Start{Position: from}) {
		if err != nil {
			return all, err
		}
		for _, r := range batch.Records {
			if r.Position.Compare(through) > 0 {
				return all, nil
			}
			if all.records == 0 {
				all.first = r.Position
			}
			all.records++
			own := r.Origin.Known() && int(r.Origin.Partition) == number
			switch {
			case own && r.Origin.Compare(committed) > 0:
				s.at = append(s.at, r.Origin.Position)
				all.found = true
			case !all.found:
				all.tail.records, all.tail.own = all.tail.records+1, all.tail.own || own
			}
		}
		if batch.Last().Compare(through) >= 0 {
			return all, nil
		}
	}
	switch {
	case ctx.Err() != nil:
		return all, ctx.Err()
	case all.records == 0:
		return all, nil // trimmed away
	default:
		return all, errNothingMore
	}
}
