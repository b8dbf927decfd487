package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/pkg/connect/archives"
	"github.com/millrace/millrace/pkg/connect/stores"
	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/archive/bucket"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/standalone"
	"github.com/millrace/millrace/services/standalone/internal/replay"
)

// pastOf says which past is opened.
type pastOf struct {
	from, to       telemetry.Time
	scratch, token string
	history        bool // history has some of it
}

// openPast opens the log, for looking on, and the archive.
func openPast(ctx context.Context, p *service.Process, cfg *standalone.Config, of pastOf) (source replay.Source, closeAll func() error, err error) {
	all := &opened{}
	defer func() {
		if err != nil {
			err = errors.Join(err, all.close())
		}
	}()
	log, closeLog, err := standalone.OpenLog(ctx, *cfg, p, of.token)
	if err != nil {
		return source, nil, err
	}
	all.add(closeLog)
	source.Log = log
	if !of.history {
		return source, all.close, nil
	}
	const sortBytes = 512 << 20
	files := replay.Files{Scratch: of.scratch, Memory: sortBytes, Ahead: cfg.Ingest.Clock.MaxSkew}
	switch {
	case cfg.Archive.URL != "" && (cfg.Stores.History != stores.Embedded || cfg.History.Retention > 0):
		t, err := cfg.Archive.TLS.Config()
		if err != nil {
			return source, nil, fmt.Errorf("archive.%w", err)
		}
		files.Bucket, err = bucket.Open(ctx, bucket.Config{
			URL: cfg.Archive.URL, AccessKey: cfg.Archive.AccessKey, SecretKey: cfg.Archive.SecretKey.Reveal(), TLS: t,
		})
		if err != nil {
			return source, nil, fmt.Errorf("open the archive: %w", err)
		}
	case cfg.Stores.History == stores.Embedded:
		files.Dir, files.Manifest = filepath.Join(cfg.Data, "archive"), filepath.Join(cfg.Data, "manifest.json")
	}
	source.Cold, err = replay.OpenFiles(ctx, files, of.from, of.to, p.Log, p.Now)
	if err != nil {
		return source, nil, err
	}
	if source.Cold != nil {
		all.add(source.Cold.Close)
	}
	return source, all.close, nil
}

// open opens the new store, and makes its tables where it is an engine of its own.
func (d *place) open(ctx context.Context, p *service.Process) (to replay.Target, closeAll func() error, err error) {
	if d.dir != "" {
		return d.openEmbedded(ctx, p)
	}
	deps := stores.Deps{Log: p.Log, Now: p.Now} // no metrics: the process ends with the replay
	all := &opened{}
	defer func() {
		if err != nil {
			err = errors.Join(err, all.close())
		}
	}()
	if d.worker == "archive-writer" {
		to.Archive, err = archives.Open(ctx, d.cfg.Archive, deps, all.add)
		return to, all.close, err
	}
	set := stores.New(d.cfg.StoresConfig(), deps)
	all.add(set.Close)
	if err := set.Migrate(ctx, false, func(stores.Step) {}); err != nil {
		return to, nil, err
	}
	switch d.worker {
	case "history-writer":
		err = opening(ctx, set.History, &to.History)()
	case "state-projector":
		err = opening(ctx, set.State, &to.State)()
	case "aggregator":
		err = opening(ctx, set.Aggregates, &to.Aggregates)()
	case "log-consumer":
		err = errors.Join(opening(ctx, set.Logs, &to.Logs)(), opening(ctx, set.DeadLetters, &to.DeadLetters)())
	}
	return to, all.close, err
}

func (d *place) openEmbedded(ctx context.Context, p *service.Process) (to replay.Target, closeAll func() error, err error) {
	if err := os.MkdirAll(d.dir, 0o750); err != nil {
		return to, nil, fmt.Errorf("--into: %w", err)
	}
	embedded, err := standalone.OpenEmbedded(ctx, d.cfg, p)
	if err != nil {
		return to, nil, err
	}
	switch d.worker {
	case "history-writer":
		to.History = store.HistoryWriter(embedded.History)
	case "state-projector":
		to.State = embedded.DB.State()
	case "aggregator":
		to.Aggregates = embedded.DB.Aggregates()
	case "log-consumer":
		to.Logs, to.DeadLetters = embedded.DB.Logs(), embedded.DB.DeadLetters()
	}
	return to, embedded.Close, nil
}
