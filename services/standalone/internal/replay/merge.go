package replay

import (
	"context"
	"iter"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// span is a time of ingest: from inclusive, to exclusive.
type span struct{ from, to telemetry.Time }

func (s span) has(t telemetry.Time) bool { return t >= s.from && t < s.to }

// passing is one record on its way, with Position set to that of the replay.
type passing struct {
	rec   bus.Record
	topic int // index of the source's topics
	at    telemetry.Time
}

// shareOf is what a share is read from.
type shareOf struct {
	log    bus.Log
	cold   *Cold // nil where there is no archive
	number int
	worker string // for which it passes; "" is none with a name
	topics []string
	when   span
	after  []bus.Position // by topic: what has passed already; nil: nothing
	before []bus.Position // by topic: what is not counted; nil: nothing
	tally  *tally

	given map[bus.Position]bool // origins of the messages that the log has as redelivered, which history has in their place
}

// ownPositions reports whether the records of a topic stem from no message that the router read, so that their own place is their
// identity.
func ownPositions(topic string) bool {
	return topic == bus.Sessions || topic == bus.DeadLetters || topic == bus.Redelivered || topic == bus.Aggregates || topic == bus.AlarmCommands || topic == bus.Alarms
}

// archived reports whether history has what a topic carries.
func archived(topic string) bool { return topic == bus.Telemetry || topic == bus.Events }

// head is a source of records in the order of their positions, with the first that has not passed.
type head struct {
	passing
	next func() (passing, error, bool)
	stop func()
	cold bool
}

// advance takes the next record; false at the end.
func (h *head) advance() (more bool, err error) {
	var ok bool
	h.passing, err, ok = h.next()
	if !ok {
		return false, nil
	}
	return err == nil, err
}

// records yields what passes in one share, in the order of positions, over all topics. Where the log and the archive have the same
// message it comes from the log.
func (s *shareOf) records(ctx context.Context) iter.Seq2[passing, error] {
	return func(yield func(passing, error) bool) {
		heads, err := s.open(ctx)
		defer func() {
			for _, h := range heads {
				h.stop()
			}
		}()
		if err != nil {
			yield(passing{}, err)
			return
		}
		var last bus.Position // that passed from the log
		for len(heads) > 0 {
			first := 0
			for i, h := range heads[1:] {
				c := h.rec.Position.Compare(heads[first].rec.Position)
				if c < 0 || c == 0 && heads[first].cold {
					first = i + 1
				}
			}
			h := heads[first]
			double := h.cold && h.rec.Position == last
			switch {
			case double:
			case h.cold:
				s.count(&s.tally.cold, h)
			default:
				s.count(&s.tally.log, h)
				if !ownPositions(s.topics[h.topic]) {
					last = h.rec.Position
				}
			}
			if !double && !yield(h.passing, nil) {
				return
			}
			more, err := h.advance()
			if err != nil {
				yield(passing{}, err)
				return
			}
			if !more {
				h.stop()
				heads = append(heads[:first:first], heads[first+1:]...)
			}
		}
	}
}

// count counts what passes, unless the worker had it before and only looks back at it.
func (s *shareOf) count(passed *atomic.Uint64, h *head) {
	if s.before == nil || h.rec.Position.Compare(s.before[h.topic]) > 0 {
		passed.Add(1)
	}
}

// open makes the heads: one for each topic of which the log has something, and one for the archive where the log begins too late.
func (s *shareOf) open(ctx context.Context) (heads []*head, err error) {
	var seam bus.Position // before which the archive is read
	endless, cold := false, false
	reaches, err := s.look(ctx)
	if err != nil {
		return nil, err
	}
	for i, topic := range s.topics {
		r := &reaches[i]
		covers := r.covers(s.when.from)
		s.tally.reaches(topic, r, covers || r.whole)
		h, more, err := start(s.fromLog(ctx, i, r), false)
		if err != nil {
			return heads, err
		}
		if more {
			heads = append(heads, h)
		}
		if covers || !archived(topic) {
			continue
		}
		cold = true
		if more && h.rec.Position.Compare(seam) > 0 {
			seam = h.rec.Position
		}
		endless = endless || !more
	}
	if !cold || s.cold == nil {
		return heads, nil
	}
	if s.given, err = s.redelivered(ctx, reaches); err != nil {
		return heads, err
	}
	if endless {
		seam = bus.Position{}
	}
	h, more, err := start(s.fromArchive(ctx, seam), true)
	if err == nil && more {
		heads = append(heads, h)
	}
	return heads, err
}

// look finds out what the log has of each topic.
func (s *shareOf) look(ctx context.Context) ([]reach, error) {
	reaches := make([]reach, len(s.topics))
	looks, looking := errgroup.WithContext(ctx)
	for i, topic := range s.topics {
		looks.Go(func() (err error) {
			reaches[i], err = look(looking, s.log, bus.PartitionID{Topic: topic, Number: s.number})
			return err
		})
	}
	return reaches, looks.Wait()
}

func start(records iter.Seq2[passing, error], cold bool) (h *head, more bool, err error) {
	h = &head{cold: cold}
	h.next, h.stop = iter.Pull2(records)
	if more, err = h.advance(); !more {
		h.stop()
	}
	return h, more, err
}

// passed returns the position through which a topic has passed already.
func (s *shareOf) passed(topic int) bus.Position {
	if s.after == nil {
		return bus.Position{}
	}
	return s.after[topic]
}

// fromLog yields the records of the time that the log has of a topic. What the router appended twice comes once.
func (s *shareOf) fromLog(ctx context.Context, topic int, r *reach) iter.Seq2[passing, error] {
	name := s.topics[topic]
	return func(yield func(passing, error) bool) {
		last := s.passed(topic)
		for rec, err := range r.records(ctx, s.when.from) {
			if err != nil {
				yield(passing{}, err)
				return
			}
			at := taken(name, &rec)
			if !s.when.has(at) {
				continue
			}
			if !ownPositions(name) {
				if !rec.Origin.Known() || int(rec.Origin.Partition) != s.number {
					s.tally.strange(name, s.number, &rec)
					continue
				}
				rec.Position = rec.Origin.Position
			}
			if rec.Position.Compare(last) <= 0 {
				continue
			}
			last = rec.Position
			if !yield(passing{rec, topic, at}, nil) {
				return
			}
		}
	}
}

// fromArchive yields what history has of the time, before an origin.
func (s *shareOf) fromArchive(ctx context.Context, before bus.Position) iter.Seq2[passing, error] {
	return func(yield func(passing, error) bool) {
		what := slice{share: s.number, from: s.when.from, to: s.when.to, after: s.archivedThrough(), before: before}
		for row, err := range s.cold.rows(ctx, what) {
			if err != nil {
				yield(passing{}, err)
				return
			}
			topic := s.topicOf(&row)
			if topic < 0 || s.given[row.Origin.Position] || row.Origin.Compare(s.passed(topic)) <= 0 {
				continue
			}
			rec := bus.Record{Position: row.Origin.Position, Origin: row.Origin, Time: int64(row.IngestTime), Value: telemetry.AppendMessage(nil, &row.Message)}
			if !yield(passing{rec, topic, row.IngestTime}, nil) {
				return
			}
		}
	}
}

// redelivered returns the origins of what the log gives once more to the worker, which were dead letters at first.
func (s *shareOf) redelivered(ctx context.Context, reaches []reach) (map[bus.Position]bool, error) {
	all := map[bus.Position]bool{}
	for i, topic := range s.topics {
		if topic != bus.Redelivered {
			continue
		}
		for rec, err := range reaches[i].records(ctx, s.when.from) {
			if err != nil {
				return nil, err
			}
			var d telemetry.Redelivery
			if telemetry.ParseRedelivery(rec.Value, &d) != nil || d.Worker != s.worker || !s.when.has(telemetry.Time(rec.Time)) {
				continue
			}
			if origin, err := bus.ParseOrigin(d.Origin); err == nil && int(origin.Partition) == s.number {
				all[origin.Position] = true
			}
		}
	}
	return all, nil
}

// archivedThrough returns the position through which all topics that are in history have passed.
func (s *shareOf) archivedThrough() (through bus.Position) {
	first := true
	for i, topic := range s.topics {
		if !archived(topic) {
			continue
		}
		if p := s.passed(i); first || p.Compare(through) < 0 {
			through, first = p, false
		}
	}
	return through
}

// topicOf returns the topic that carried a message of history, which keeps no note of it: events carries what is no channel. -1 is one
// that is not replayed.
func (s *shareOf) topicOf(row *store.MessageRow) int {
	name := bus.Telemetry
	if row.Kind != telemetry.KindChannel {
		name = bus.Events
	}
	for i, topic := range s.topics {
		if topic == name {
			return i
		}
	}
	return -1
}
