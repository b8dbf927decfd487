package replay

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

const notesMax = 20

// tally counts what passes, over all shares, and notes what people must know. Safe for concurrent use.
type tally struct {
	log, cold, passed atomic.Uint64

	mu      sync.Mutex
	oldest  map[string]telemetry.Time // by topic: since when the log has all of it, where that is after what was asked for
	at      map[int]telemetry.Time    // by share: when what passed last was taken
	first   telemetry.Time            // when what passed first was; 0: nothing did
	odd     map[string]uint64         // what cannot be replayed, by why
	refused uint64
	reasons map[string]uint64 // why the worker refused records
	more    uint64            // reasons beyond notesMax
}

func newTally() *tally {
	return &tally{oldest: map[string]telemetry.Time{}, at: map[int]telemetry.Time{}, odd: map[string]uint64{}, reasons: map[string]uint64{}}
}

// reaches notes how far back the log goes, unless that is far enough.
func (t *tally) reaches(topic string, r *reach, enough bool) {
	if enough || topic == bus.Redelivered { // history has that in its place
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if at, known := t.oldest[topic]; !known || r.oldest > at {
		t.oldest[topic] = r.oldest // 0 where it has nothing
	}
}

// strange notes a record of the log that has no place in a replay.
func (t *tally) strange(topic string, share int, r *bus.Record) {
	why := fmt.Sprintf("records of %s that stem from no message of the edge", topic)
	if r.Origin.Known() {
		why = fmt.Sprintf("records of %s[%d] that stem from ingested[%d]", topic, share, r.Origin.Partition)
	}
	t.lacks(why, 1)
}

func (t *tally) lacks(why string, n uint64) {
	if n == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.odd[why] += n
}

// reached notes how far a share has come.
func (t *tally) reached(share int, at telemetry.Time, records int) {
	t.passed.Add(uint64(records)) //nolint:gosec // a length
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at[share] = max(t.at[share], at)
	if t.first == 0 || at < t.first {
		t.first = at
	}
}

// share returns which share of the time has passed, 0 to 1.
func (t *tally) share(when span, shares int) float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum, begin := 0.0, max(when.from, t.first) // from may be the beginning of all time
	for _, at := range t.at {
		sum += float64(at-begin) / float64(max(1, when.to-begin))
	}
	return min(1, max(0, sum/float64(max(1, shares))))
}

// letter notes a record that the worker refused.
func (t *tally) letter(value []byte) {
	var d telemetry.DeadLetter
	reason := "unreadable letter"
	if telemetry.ParseDeadLetter(value, &d) == nil {
		reason = d.Reason
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refused++
	if _, known := t.reasons[reason]; known || len(t.reasons) < notesMax {
		t.reasons[reason]++
	} else {
		t.more++
	}
}

// notes returns what people must know, line by line. cold is nil where there is no archive.
func (t *tally) notes(cold *Cold) (lines []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if cold != nil {
		lines = append(lines, cold.lacks...)
	}
	for _, topic := range slices.Sorted(maps.Keys(t.oldest)) {
		begins := "has nothing of it any more"
		if at := t.oldest[topic]; at != 0 {
			begins = "has it from " + at.Std().Format("2006-01-02T15:04:05Z") + " on"
		}
		switch {
		case !archived(topic):
			lines = append(lines, fmt.Sprintf("%s: the log %s, and history does not keep it: what was before is not replayed", topic, begins))
		case cold != nil:
			lines = append(lines, fmt.Sprintf("%s: the log %s; what was before comes from the archive, as far as that goes back", topic, begins))
		default:
			lines = append(lines, fmt.Sprintf("%s: the log %s, and there is no archive of Parquet files: what was before is not replayed", topic, begins))
		}
	}
	for _, why := range slices.Sorted(maps.Keys(t.odd)) {
		lines = append(lines, fmt.Sprintf("not replayed: %d %s", t.odd[why], why))
	}
	for _, reason := range slices.Sorted(maps.Keys(t.reasons)) {
		lines = append(lines, fmt.Sprintf("refused by the worker: %d × %s", t.reasons[reason], reason))
	}
	if t.more > 0 {
		lines = append(lines, fmt.Sprintf("refused by the worker: %d for other reasons", t.more))
	}
	return lines
}

// lacking reports whether something could not be replayed that the log has.
func (t *tally) lacking() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.odd) > 0
}

func (t *tally) refusals() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.refused
}
