package router

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
)

// What a router published and had not committed when it died is routed once more by the next one, perhaps by other routes or with other
// reference data. A reader of one topic drops what it has taken; but a message in a second home would be kept twice, and one that comes to
// a topic behind a later message of its partition would be dropped unseen. So before its first record a task looks what the
// topics hold already.

// routeStep begins what refuses a message while it is routed.
const routeStep = "route: "

// errStranded is why changed routes make a dead letter.
var errStranded = errors.New("the routes, or what they look at, were changed while it was on its way")

func strandedIn(topics string) error {
	return fmt.Errorf("%w: %s had a later message of its partition already, behind which readers would pass it over", errStranded, topics)
}

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

	letters map[bus.Position]string // of bus.DeadLetters: the reasons of those that changed routes made
}

// take remembers the record of the topic if it is of the share's partition, and reports whether that is so, and whether it is one that
// is not committed.
func (s *stood) take(r *bus.Record, number int, committed bus.Position) (own, found bool) {
	origin, reason := r.Origin, ""
	if s.topic == bus.DeadLetters {
		origin, reason = strandedBefore(r.Value)
	}
	own = origin.Known() && int(origin.Partition) == number
	if !own || origin.Compare(committed) <= 0 {
		return own, false
	}
	s.at = append(s.at, origin.Position)
	if reason != "" {
		s.letters[origin.Position] = reason
	}
	return true, true
}

// strandedBefore returns the origin of the message of which a dead letter says that changed routes have stranded it, and what it says; the
// zero Origin for other letters.
func strandedBefore(letter []byte) (bus.Origin, string) {
	var d telemetry.DeadLetter
	if telemetry.ParseDeadLetter(letter, &d) != nil || d.Worker != Worker || d.Topic != bus.Ingested || d.ReplayOf != "" {
		return bus.Origin{}, ""
	}
	reason, ours := strings.CutPrefix(d.Reason, routeStep)
	if !ours || !strings.HasPrefix(reason, errStranded.Error()) {
		return bus.Origin{}, ""
	}
	at, err := bus.ParsePosition(d.Position)
	if err != nil {
		return bus.Origin{}, ""
	}
	return bus.Origin{Partition: d.Partition, Position: at}, strings.Clone(reason)
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
	letter string // the reason of the dead letter that it became; "" where it is none
}

// of returns the place of the message at p.
func (s *standing) of(p bus.Position) (at place) {
	for i := range s.topics {
		t := &s.topics[i]
		switch {
		case t.letters != nil:
			at.letter = t.letters[p]
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
	} else if at.letter != "" {
		return 0, "", errors.New(at.letter) // whoever puts it back shall not have it twice
	}
	left = endpoints &^ at.stands
	stranded := left & at.passed
	if stranded&t.homes != 0 || stranded != 0 && stranded == left && !at.anyhow {
		t.metrics.stranded.Inc()
		return 0, "", fmt.Errorf("%w; put it back", strandedIn(t.names(stranded)))
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
		Reason:  strandedIn(topic).Error(),
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
