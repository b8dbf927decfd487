package standalone

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/nats"
	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/connect/stores"
	"github.com/millrace/millrace/services/standalone/internal/damage"
)

// witnesses are how far the stores of this process have read the log.
func (p *plant) witnesses(ctx context.Context) ([]nats.Witness, error) {
	kept := p.progresses()
	var all []nats.Witness
	for topic, groups := range connect.Readers(p.keep.archive != nil) {
		for _, group := range groups {
			s, ok := kept[group]
			if !ok {
				continue
			}
			for n := range p.bus.Partitions(topic) {
				id := bus.PartitionID{Topic: topic, Number: n}
				progress, ok, err := s.Progress(ctx, group, id)
				if err != nil {
					return nil, fmt.Errorf("ask how far %s has come on %v: %w", group, id, err)
				}
				if ok {
					all = append(all, nats.Witness{Group: group, Partition: id, Progress: progress})
				}
			}
		}
	}
	return all, nil
}

// progresses returns the stores that this process has, by the worker that keeps its progress there.
func (p *plant) progresses() map[string]progresses {
	all := map[string]progresses{}
	add := func(worker string, there bool, s progresses) {
		if there {
			all[worker] = s
		}
	}
	k := &p.keep
	add("state-projector", k.state != nil, k.state)
	add("history-writer", k.history != nil, k.history)
	add("aggregator", k.aggregates != nil, k.aggregates)
	add("alerting", k.alarms != nil, k.alarms)
	add("log-consumer", k.logs != nil, k.logs)
	add("dead-letter-writer", k.letters != nil, k.letters)
	add(connect.ArchiveWriter, k.archive != nil, k.archive)
	return all
}

// noteBehind notes where a store has less than its worker once told the log that it had, and the log has no longer what lies between.
func (p *plant) noteBehind(ctx context.Context, log *nats.Log) error {
	committed, err := log.Committed(ctx)
	if err != nil {
		return err
	}
	kept := p.progresses()
	for _, c := range committed {
		s, ok := kept[c.Group]
		if !ok || c.Progress.Through.IsZero() {
			continue
		}
		has, _, err := s.Progress(ctx, c.Group, c.Partition)
		if err != nil {
			return fmt.Errorf("ask how far %s has come on %v: %w", c.Group, c.Partition, err)
		}
		if has.Through.Compare(c.Progress.Through) >= 0 {
			continue
		}
		first, at, err := log.Begins(ctx, c.Partition)
		if err != nil {
			return err
		}
		e := damage.Entry{
			Kind: damage.Database, Path: p.fileOf(c.Group),
			What: fmt.Sprintf("%s had read %v through %v and its store has it through %v only, as an older copy would: it reads the log again", c.Group, c.Partition, c.Progress.Through, has.Through),
		}
		if first > has.Through.Seq+1 {
			e.Lost = fmt.Sprintf("%v from sequence %d to %d, which the log has no longer (it begins at %s)", c.Partition, has.Through.Seq+1, first-1, at.UTC().Format(time.RFC3339))
		}
		if p.found.mended == nil || e.Lost != "" {
			p.book.Take(e)
		}
	}
	return nil
}

// fileOf returns where the embedded store of a worker is.
func (p *plant) fileOf(worker string) string {
	if worker == "history-writer" && p.cfg.Stores.History == stores.Embedded {
		return filepath.Join(p.cfg.Data, manifestName)
	}
	return filepath.Join(p.cfg.Data, databaseName)
}
