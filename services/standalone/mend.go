package standalone

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/nats"
	"github.com/millrace/millrace/pkg/store/duckdb"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/router"
	"github.com/millrace/millrace/services/standalone/internal/damage"
)

const (
	endsName     = "log-ends.json" // how far the embedded log reaches, remembered outside of it
	manifestName = "manifest.json"
	databaseName = "millrace.duckdb"

	clockSkew = 5 * time.Minute // by which a message may be stamped before it is taken
)

// found is what opening finds wrong with the stores, for mend to act upon once the log is open too.
type found struct {
	worked bool           // this directory has been used before
	mended *duckdb.Mended // nil: the database was as it should be

	stateDone bool // rebuild has made the latest values again
}

// openBook opens the book of damages and looks for what a directory that was in use must have.
func (p *plant) openBook(context.Context) error {
	for _, name := range []string{endsName, manifestName} {
		if _, err := os.Lstat(filepath.Join(p.cfg.Data, name)); err == nil {
			p.found.worked = true
		}
	}
	var err error
	p.book, err = damage.Open(p.cfg.Data, p.metrics, p.log, p.process.Now)
	return err
}

// openDatabase opens the embedded tables. A database that cannot be read is set aside, unless everything is to stay as it is.
func (p *plant) openDatabase(ctx context.Context, cfg duckdb.Config) error {
	var err error
	if p.still {
		p.db, err = duckdb.Open(ctx, cfg)
		return err
	}
	_, missing := os.Lstat(cfg.Path)
	p.db, p.found.mended, err = duckdb.OpenMended(ctx, cfg, p.book.Aside())
	if err != nil {
		return err
	}
	if p.found.worked && errors.Is(missing, fs.ErrNotExist) {
		p.found.mended = &duckdb.Mended{Reason: "it is not there", Lost: duckdb.Stores()}
	}
	return nil
}

// mend makes what was opened whole again as far as that can be, before any worker runs, and writes down what it found.
func (p *plant) mend(ctx context.Context) error {
	log, ok := p.bus.(*nats.Log)
	if !ok || p.server == nil {
		return p.mendStores(ctx, nil)
	}
	if err := log.Damage(); err != nil {
		p.book.Take(damage.Entry{Kind: damage.Note, Path: filepath.Join(p.cfg.Data, endsName), What: err.Error() + "; it is written anew"})
	}
	witnesses, err := p.witnesses(ctx)
	if err != nil {
		return err
	}
	losses, err := log.Mend(ctx, witnesses)
	for _, l := range losses {
		if err := p.takeLoss(ctx, log, l); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	return p.mendStores(ctx, log)
}

// takeLoss notes what the log has lost. What the router wrote it can write again: it is set back to where the topic ends.
func (p *plant) takeLoss(ctx context.Context, log *nats.Log, l nats.Loss) error {
	e := damage.Entry{Kind: damage.Log, Path: filepath.Join(p.cfg.Data, "log"), What: l.String()}
	homes := slices.Concat([]string{bus.Telemetry, bus.Logs, bus.Events}, p.cfg.Router.Topics())
	switch {
	case len(l.Unread) == 0:
	case l.Tail && slices.Contains(homes, l.Partition.Topic):
		from := bus.Position{Index: 1} // before every record
		for _, o := range l.Before {
			if int(o.Partition) == l.Partition.Number {
				from = o.Position
			}
		}
		id := bus.PartitionID{Topic: bus.Ingested, Number: l.Partition.Number}
		first, _, err := log.Begins(ctx, id)
		if err != nil {
			return err
		}
		back := bus.Progress{Through: from, Origins: bus.Origins{{Partition: int32(id.Number), Position: from}}} //nolint:gosec // partitions are few
		if err := log.Rewind(ctx, router.Worker, id, back); err != nil {
			return err
		}
		e.What += fmt.Sprintf("; the router reads %v again after %v and writes it once more", id, from)
		if first > from.Seq+1 {
			e.Lost = fmt.Sprintf("what %v had from %d to %d, which the log has no longer", id, from.Seq+1, first-1)
		}
	default:
		e.Lost = fmt.Sprintf("messages of %v from sequence %d through %d, where no store below has them", l.Partition, l.From, l.Through)
	}
	p.book.Take(e)
	return nil
}

// mendStores lets stores whose state is gone begin anew, and notes what they cannot get from the log any more. log is nil where it is not
// embedded.
func (p *plant) mendStores(ctx context.Context, log *nats.Log) error {
	since, err := p.wholeSince(ctx, log)
	if err != nil {
		return err
	}
	m := p.found.mended
	if m != nil {
		for _, name := range m.Stateless {
			if err := p.db.BeginAnew(ctx, name, since); err != nil {
				return err
			}
		}
		p.book.Take(p.explainMended(m, since))
	}
	if log == nil {
		return nil
	}
	return p.noteBehind(ctx, log)
}

// wholeSince returns from when on the log has everything that devices have sent; 0 where it has it from its beginning.
func (p *plant) wholeSince(ctx context.Context, log *nats.Log) (telemetry.Time, error) {
	if log == nil {
		return telemetry.At(p.process.Now()), nil // not known
	}
	var since telemetry.Time
	for n := range log.Partitions(bus.Telemetry) {
		first, at, err := log.Begins(ctx, bus.PartitionID{Topic: bus.Telemetry, Number: n})
		if err != nil {
			return 0, err
		}
		switch {
		case first <= 1:
		case at.IsZero():
			since = max(since, telemetry.At(p.process.Now()))
		default:
			since = max(since, telemetry.At(at.Add(clockSkew)))
		}
	}
	return since, nil
}

func (p *plant) explainMended(m *duckdb.Mended, since telemetry.Time) damage.Entry {
	e := damage.Entry{Kind: damage.Database, Path: filepath.Join(p.cfg.Data, databaseName), What: m.String(), Aside: m.Aside}
	if m.Reason == "" {
		e.Kind, e.Path = damage.Checkpoint, filepath.Join(p.cfg.Data, databaseName+".checkpoints")
	}
	if since == 0 {
		return e // the log has everything from the first message on
	}
	before := "before " + since.Std().UTC().Format(time.RFC3339)
	var lost []string
	for _, name := range m.Lost {
		if name == "state" {
			lost = append(lost, "of devices that last sent "+before+" their sessions and logs; latest values are made again from history")
			continue
		}
		lost = append(lost, name+" "+before)
	}
	for _, name := range m.Stateless {
		lost = append(lost, "corrections of "+name+" "+before)
	}
	e.Lost = strings.Join(lost, "; ")
	return e
}
