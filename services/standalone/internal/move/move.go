package move

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// Target is where everything goes. What is nil stays where it is.
type Target struct {
	State       store.StateWriter
	Aggregates  store.AggregateWriter
	Alarms      store.AlarmWriter
	History     store.Writer[store.MessageRow]
	Archive     store.HistoryWriter // beside History
	Logs        store.LogWriter
	DeadLetters store.DeadLetterWriter
	// Reader returns what answers for a table that is moved.
	Reader func(table string) store.Reader
}

// Options say how to move.
type Options struct {
	Name       string // of the target, for Marker: another name is another move
	Marker     string // file beside the source that says which rows were there when the move began, and how far it came
	Partitions int    // of every topic, the same on both sides
	// Patience is for an engine such as Elasticsearch, which shows what it took after a while: how long a table that differs is looked at
	// again. 0 means 15 s, negative not at all.
	Patience time.Duration
	Tell     func(Step)
	Log      *slog.Logger
	Now      func() time.Time
}

// Standing is the Step that says that what is now has moved and is equal: the target's workers may begin.
const Standing = "standing"

// Step is where the move is.
type Step struct {
	What        string // such as "device_messages", or "compare device_messages"
	Done, Total uint64 // rows
	PerSecond   float64
	Ended       bool
}

// Result says what became of a move that came to its end.
type Result struct {
	Rows        uint64   // on both sides, where they are equal
	Differences []string // for people; none means that both sides are equal
	Stays       []string // tables that the target's configuration leaves where they are
}

// ErrBegun is returned when the target's workers have begun before what they go on from was there.
var ErrBegun = errors.New("the workers of the target have begun already; they may start once this part of the move is done. " +
	"Empty the target's tables, and begin anew")

// Run copies and compares. Repeating it goes on where it was. It returns with differences as soon as a part has some.
func Run(ctx context.Context, from *Source, to Target, o Options) (Result, error) {
	r := &runner{source: from, to: to, o: o, log: o.Log}
	parts, err := r.plan(ctx)
	if err != nil {
		return Result{}, err
	}
	m, err := r.mark(parts)
	if err != nil {
		return Result{}, err
	}
	if !m.Standing {
		if err := r.fresh(ctx); err != nil {
			return Result{}, err
		}
	}
	var result Result
	for _, standing := range []bool{true, false} {
		if standing && m.Standing {
			continue // the workers of the target may have gone on from there
		}
		if err := r.movePart(ctx, parts, standing, &result); err != nil || len(result.Differences) > 0 {
			return result, err
		}
		if standing {
			m.Standing = true
			if err := m.save(o.Marker); err != nil {
				return result, err
			}
			r.tell(Step{What: Standing, Ended: true})
		}
	}
	return result, nil
}

func (r *runner) movePart(ctx context.Context, parts []part, standing bool, result *Result) error {
	var mine []part
	for _, p := range parts {
		switch {
		case p.standing != standing:
		case p.copy == nil:
			result.Stays = append(result.Stays, p.name)
		default:
			mine = append(mine, p)
		}
	}
	for _, p := range mine {
		if err := p.copy(ctx); err != nil {
			return err
		}
		r.ended()
	}
	for _, p := range mine {
		if p.compare == nil {
			continue
		}
		differences, err := p.compare(ctx)
		if err != nil {
			return err
		}
		r.ended()
		result.Rows += p.units
		result.Differences = append(result.Differences, differences...)
	}
	return nil
}

// fresh refuses a target whose workers have begun.
func (r *runner) fresh(ctx context.Context) error {
	type progress interface {
		Progress(ctx context.Context, worker string, p bus.PartitionID) (bus.Progress, bool, error)
	}
	workers := map[string]progress{}
	if r.to.State != nil {
		workers["state-projector"] = r.to.State
	}
	if r.to.Aggregates != nil {
		workers["aggregator"] = r.to.Aggregates
	}
	if r.to.Alarms != nil {
		workers["alerting"] = r.to.Alarms
	}
	for worker, s := range workers {
		for n := range r.o.Partitions {
			id := bus.PartitionID{Topic: bus.Telemetry, Number: n}
			var begun bool
			err := r.retry(ctx, worker, func() (err error) {
				_, begun, err = s.Progress(ctx, worker, id)
				return err
			})
			if err != nil {
				return fmt.Errorf("ask whether %s has begun: %w", worker, err)
			}
			if begun {
				return fmt.Errorf("%s on %v: %w", worker, id, ErrBegun)
			}
		}
	}
	return nil
}

// runner is one move under way.
type runner struct {
	source *Source
	to     Target
	o      Options
	log    *slog.Logger

	step  Step
	since time.Time // when the step began
	from  uint64    // where it began
	told  time.Time
}

// tellEvery is how often a step that goes on is told.
const tellEvery = 500 * time.Millisecond

func (r *runner) tell(s Step) {
	if r.o.Tell != nil {
		r.o.Tell(s)
	}
}

func (r *runner) began(what string, done, total uint64) {
	r.since, r.from = r.o.Now(), done
	r.told = r.since
	r.step = Step{What: what, Done: done, Total: total}
	r.tell(r.step)
}

func (r *runner) reached(done uint64) {
	now := r.o.Now()
	r.step.Done = done
	r.step.PerSecond = float64(done-r.from) / max(now.Sub(r.since).Seconds(), 1e-3)
	if now.Sub(r.told) >= tellEvery {
		r.told = now
		r.tell(r.step)
	}
}

func (r *runner) ended() {
	if r.step.Ended || r.step.What == "" {
		return
	}
	r.reached(r.step.Done)
	r.step.Ended = true
	r.tell(r.step)
}

// weigh is what a message takes in memory, roughly.
func weigh(m *store.MessageRow) int {
	const fields = 400
	return fields + len(m.ChannelValue) + len(m.Text) + len(m.Attributes)
}

func weighLetter(d *store.DeadLetterRow) int { return 300 + len(d.Payload) + len(d.Reason) }

func weighAggregate(a *store.AggregateRow) int { return 300 + len(a.State) }

func weighAlarm(a *telemetry.Alarm) int { return 300 + len(a.Detail) + len(a.Value) }
