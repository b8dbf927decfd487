package standalone

import (
	"context"

	"github.com/millrace/millrace/pkg/connect/archives"
	"github.com/millrace/millrace/pkg/connect/stores"
	"github.com/millrace/millrace/pkg/store"
)

// keepers are the stores that the workers of this process write, embedded or not; nil where no worker here needs one.
type keepers struct {
	state      store.StateWriter
	history    store.Writer[store.MessageRow]
	archive    store.HistoryWriter // nil also where there is none beside history
	aggregates store.AggregateWriter
	alarms     store.AlarmWriter
	logs       store.LogWriter
	letters    store.DeadLetterWriter
}

// embeds reports whether a worker of this process writes or asks an embedded store.
func (p *plant) embeds() bool {
	t := p.cfg.Stores
	for worker, engines := range map[string][]string{
		"state-projector": {t.State}, "history-writer": {t.History}, "aggregator": {t.Aggregates}, "alerting": {t.Alarms},
		"log-consumer": {t.Logs, t.DeadLetters}, "live": {t.State, t.History, t.Aggregates, t.Alarms, t.Logs, t.DeadLetters},
	} {
		for _, engine := range engines {
			if p.cfg.runs(worker) && engine == stores.Embedded {
				return true
			}
		}
	}
	return false
}

// openStores finds or opens the store of each worker of this process.
func (p *plant) openStores(ctx context.Context) error {
	p.stores = stores.New(p.cfg.StoresConfig(), stores.Deps{Log: p.log, Now: p.process.Now, Metrics: p.metrics})
	p.closers = append(p.closers, p.stores.Close)
	t := p.cfg.Stores
	for _, o := range []struct {
		worker, engine string
		embedded       func()
		open           func() error
	}{
		{"state-projector", t.State, func() { p.keep.state = p.db.State() }, opening(ctx, p.stores.State, &p.keep.state)},
		{"history-writer", t.History, func() { p.keep.history = p.history }, opening(ctx, p.stores.History, &p.keep.history)},
		{"history-writer", "", nil, opening(ctx, p.openArchive, &p.keep.archive)},
		{"aggregator", t.Aggregates, func() { p.keep.aggregates = p.db.Aggregates() }, opening(ctx, p.stores.Aggregates, &p.keep.aggregates)},
		{"alerting", t.Alarms, func() { p.keep.alarms = p.db.Alarms() }, opening(ctx, p.stores.Alarms, &p.keep.alarms)},
		{"log-consumer", t.Logs, func() { p.keep.logs = p.db.Logs() }, opening(ctx, p.stores.Logs, &p.keep.logs)},
		{"log-consumer", t.DeadLetters, func() { p.keep.letters = p.db.DeadLetters() }, opening(ctx, p.stores.DeadLetters, &p.keep.letters)},
	} {
		switch {
		case !p.cfg.runs(o.worker):
		case o.engine == stores.Embedded:
			o.embedded()
		default:
			if err := o.open(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *plant) openArchive(ctx context.Context) (store.HistoryWriter, error) {
	return archives.Open(ctx, p.cfg.Archive, stores.Deps{Log: p.log, Now: p.process.Now, Metrics: p.metrics}, func(closer func() error) {
		p.closers = append(p.closers, closer)
	})
}

// opening returns what opens a store into where it belongs.
func opening[S any](ctx context.Context, open func(context.Context) (S, error), into *S) func() error {
	return func() (err error) {
		*into, err = open(ctx)
		return err
	}
}

// reader returns what answers for a table; nil where nothing does that can be reached from here.
func (p *plant) reader(table string) store.Reader {
	if r := p.stores.Reader(table); r != nil {
		return r
	}
	if p.db == nil {
		return nil
	}
	return p.db
}
