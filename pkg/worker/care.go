package worker

import (
	"context"
	"log/slog"

	"github.com/millrace/millrace/pkg/bus"
)

// Before a record is held to be poison.
const (
	failuresMax       = 2 // of a record on which the task itself panics, hangs or dies
	commitFailuresMax = 4 // of a record that was committed alone
	blamesMax         = 3 // records that were held to be poison since a commit went through: beyond it is not the records' fault
)

// suspect is a record on which lives of the task broke.
type suspect struct {
	times  int
	reason string
	poison bool // it is to become a dead letter
}

// care is what the lives of a share's task hand on to each other: which records broke them. Where a commit broke, it was any of what
// had gathered, so the next life takes half as many at once, and so on until one is left. What passes doubles the number again.
type care struct {
	suspects map[place]*suspect
	limit    int // most records of one commit; 0: no limit
	blamed   int // records that were held to be poison since a commit went through
}

// clone returns a copy for a life, which keeps it to itself as long as it lives: one that was given up may come back at any time.
func (c *care) clone() *care {
	mine := *c
	mine.suspects = make(map[place]*suspect, len(c.suspects))
	for at, s := range c.suspects {
		one := *s
		mine.suspects[at] = &one
	}
	return &mine
}

func newCare() *care { return &care{suspects: make(map[place]*suspect)} }

// learn takes note of how a life ended, and returns how often that was for the same record.
func (c *care) learn(f *failed) (times int) {
	if f.inCommit() && f.taken > 1 {
		c.limit = f.taken / 2
		return 1
	}
	bad := c.suspects[f.at]
	if bad == nil {
		bad = new(suspect)
		c.suspects[f.at] = bad
	}
	bad.times++
	if f.at == (place{}) { // such as in Tick: nobody to blame
		return bad.times
	}
	bad.reason = f.reason(bad.times)
	enough := failuresMax
	if f.inCommit() {
		c.limit, enough = 1, commitFailuresMax
	}
	if bad.times >= enough && !bad.poison && c.blamed < blamesMax {
		bad.poison = true
		if f.inCommit() {
			c.blamed++
		}
	}
	return bad.times
}

// poison returns why a record is to be a dead letter, "" where it is none.
func (c *care) poison(at place) string {
	if bad := c.suspects[at]; bad != nil && bad.poison {
		return bad.reason
	}
	return ""
}

// passed takes note of a commit through a position: no record up to there is suspected any more.
func (c *care) passed(id bus.PartitionID, through bus.Position) {
	for at := range c.suspects {
		if at.id == id && at.position.Compare(through) <= 0 {
			delete(c.suspects, at)
		}
	}
}

// grow lets the next commit have more records, after one went through; content says that it had something to write or publish.
func (c *care) grow(batch int, content bool) {
	if content {
		c.blamed = 0
	}
	if c.limit == 0 {
		return
	}
	if c.limit *= 2; c.limit >= batch {
		c.limit = 0
	}
}

// told logs how a life ended, and counts it.
func (l *Loop[Row]) told(ctx context.Context, share int, f *failed, times int) {
	switch f.how {
	case broken:
		l.Metrics.panics.WithLabelValues(l.Worker).Inc()
	case hung:
		l.Metrics.hangs.WithLabelValues(l.Worker).Inc()
	case unstored, died:
	}
	l.Log.LogAttrs(ctx, slog.LevelError, "the task broke, it begins again from the last commit", slog.String("worker", l.Worker), slog.Int("share", share),
		slog.String("topic", f.at.id.Topic), slog.String("position", f.at.position.String()), slog.Int("times", times), slog.Int("in_commit", f.taken),
		slog.String("error", f.Error()), slog.String("stack", f.stack))
}
