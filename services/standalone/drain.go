package standalone

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/services/alerting"
)

const (
	drainRest   = 2 * time.Second // that all workers have taken nothing for and know of nothing more, before their places are looked at
	drainStuck  = 6 * time.Second // likewise, though they know of more, or have not heard of all
	drainRounds = 3               // without any progress, after which the drain gives up
)

// Lag is a reader of the log that is not at its end.
type Lag struct {
	Reader    string // a worker, or notify-<target>
	Partition bus.PartitionID
	At, End   bus.Position
}

// String says it to people.
func (l Lag) String() string {
	return fmt.Sprintf("%s has read %v up to %v, it ends at %v", l.Reader, l.Partition, l.At, l.End)
}

// Drain runs the workers of an instance that stands still, without taking messages, until each has read the log to its end, and
// closes everything. It fails where one gets no further, and says which.
func Drain(ctx context.Context, cfg Config, p *service.Process) (err error) {
	cfg.Workers = slices.DeleteFunc(Workers(), func(w string) bool { return w == "ingest" || w == "live" })
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	pl, err := open(life, cfg, p)
	if err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	defer func() { err = errors.Join(err, pl.close()) }()
	var before string
	for idle := 0; ; {
		lags, err := pl.lags(ctx)
		if err != nil {
			return fmt.Errorf("drain: %w", err)
		}
		if len(lags) == 0 { // at once, as a rule: an instance that ended well has nothing left to read
			return nil
		}
		if now := fmt.Sprint(lags); now != before {
			before, idle = now, 0
		} else if idle++; idle >= drainRounds {
			return fmt.Errorf("drain: %s: start the instance again with `millrace run` and see what its log says", explain(lags))
		}
		if err := pl.work(ctx); err != nil {
			return fmt.Errorf("drain: %w", err)
		}
	}
}

func explain(lags []Lag) string {
	texts := make([]string, len(lags))
	for i, l := range lags {
		texts[i] = l.String()
	}
	return strings.Join(texts, "; ")
}

// work runs the workers until none has anything to do, or gets any further.
func (p *plant) work(ctx context.Context) error {
	working, stop := context.WithCancel(ctx)
	defer stop()
	workers := &group{log: p.log, now: p.process.Now}
	workers.start(working, slices.DeleteFunc(p.readers(), func(u unit) bool { return u.name == "upkeep" || u.name == "rebuild" }))
	p.rest(working)
	stop()
	workers.wait()
	return ctx.Err()
}

// rest waits until the workers have taken nothing for a while.
func (p *plant) rest(ctx context.Context) {
	tick := time.NewTicker(settleEvery)
	defer tick.Stop()
	var before uint64
	since := p.process.Now()
	for {
		records, behind := reading(p.loops.Statuses())
		now := p.process.Now()
		if records != before {
			before, since = records, now
		}
		if rest := now.Sub(since); rest >= drainStuck || rest >= drainRest && !behind {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// progresses is the part of a store that knows how far a worker came.
type progresses interface {
	Progress(ctx context.Context, worker string, p bus.PartitionID) (bus.Progress, bool, error)
}

// lags returns who has not read a partition to its end. No worker may be running.
func (p *plant) lags(ctx context.Context) ([]Lag, error) {
	stores := map[string]progresses{
		"state-projector": p.keep.state, "history-writer": p.keep.history, "aggregator": p.keep.aggregates, "alerting": p.keep.alarms,
		"log-consumer": p.keep.logs, "dead-letter-writer": p.keep.letters, connect.ArchiveWriter: p.keep.archive,
	}
	readers := connect.Readers(p.keep.archive != nil)
	for _, target := range p.cfg.Alerting.Notify {
		readers[bus.Alarms] = append(readers[bus.Alarms], alerting.NotifyGroup(target.Name))
	}
	var all []Lag
	for topic, groups := range readers {
		ends, err := p.ends(ctx, topic)
		if err != nil {
			return nil, err
		}
		for _, reader := range groups {
			at := p.storedAt(stores[reader], reader, topic)
			if stores[reader] == nil { // it keeps its place on the log
				if at, err = p.committedAt(ctx, reader, topic); err != nil {
					return nil, err
				}
			}
			for n, end := range ends {
				has, err := at(ctx, n)
				if err != nil {
					return nil, fmt.Errorf("%s on %s[%d]: %w", reader, topic, n, err)
				}
				if has.Compare(end) < 0 {
					all = append(all, Lag{reader, bus.PartitionID{Topic: topic, Number: n}, has, end})
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b Lag) int { return strings.Compare(a.String(), b.String()) })
	return all, nil
}

func (p *plant) ends(ctx context.Context, topic string) ([]bus.Position, error) {
	ends := make([]bus.Position, p.bus.Partitions(topic))
	for n := range ends {
		id := bus.PartitionID{Topic: topic, Number: n}
		part, err := p.bus.Partition(ctx, id)
		if err == nil {
			ends[n], err = part.End(ctx)
		}
		if err != nil {
			return nil, fmt.Errorf("find the end of %v: %w", id, err)
		}
	}
	return ends, nil
}

// place returns how far a reader has read a partition of a topic.
type place func(ctx context.Context, partition int) (bus.Position, error)

func (p *plant) storedAt(s progresses, reader, topic string) place {
	return func(ctx context.Context, n int) (bus.Position, error) {
		progress, _, err := s.Progress(ctx, reader, bus.PartitionID{Topic: topic, Number: n})
		return progress.Through, err
	}
}

// committedAt joins the group for the moment that it takes to read what it has committed.
func (p *plant) committedAt(ctx context.Context, group, topic string) (place, error) {
	const patience = 30 * time.Second
	joined, leave := context.WithTimeout(ctx, patience)
	defer leave()
	var mu sync.Mutex
	found := map[int]bus.Position{}
	err := p.bus.Subscribe(joined, group, []string{topic}, func(ctx context.Context, s bus.Share) error {
		for _, part := range s.Partitions {
			progress, _, err := part.Committed(ctx)
			if err != nil {
				return err
			}
			mu.Lock()
			found[s.Number] = progress.Through
			if len(found) == p.bus.Partitions(topic) {
				leave()
			}
			mu.Unlock()
		}
		<-ctx.Done()
		return nil
	})
	if err == nil && len(found) < p.bus.Partitions(topic) {
		err = cmp.Or(ctx.Err(), errors.New("not all partitions were given to it in time"))
	}
	if err != nil {
		return nil, fmt.Errorf("ask how far %s has read %s: %w", group, topic, err)
	}
	return func(_ context.Context, n int) (bus.Position, error) { return found[n], nil }, nil
}
