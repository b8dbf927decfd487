// Package archives opens the archive on object storage. It stands apart from the other stores because it links the libraries of three
// clouds, which only what writes history needs.
package archives

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/connect/stores"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/archive"
	"github.com/millrace/millrace/pkg/store/archive/bucket"
)

const closeWithin = 20 * time.Second // what is in memory goes to the bucket before that

// Open opens the archive that c names, patiently; nil where it names none. The archive is closed by what is registered with onClose.
func Open(ctx context.Context, c connect.ArchiveConfig, d stores.Deps, onClose func(func() error)) (store.HistoryWriter, error) {
	if c.URL == "" {
		return nil, nil //nolint:nilnil // none is configured
	}
	t, err := c.TLS.Config()
	if err != nil {
		return nil, fmt.Errorf("archive.%w", err)
	}
	metrics := archive.NewMetrics(d.Metrics)
	return connect.Patiently(ctx, d.Log, "archive", func() (store.HistoryWriter, error) {
		b, err := bucket.Open(ctx, bucket.Config{URL: c.URL, AccessKey: c.AccessKey, SecretKey: c.SecretKey.Reveal(), TLS: t})
		if err != nil {
			return nil, backoff.Permanent(fmt.Errorf("open the archive: %w", err))
		}
		a, err := archive.Open(ctx, archive.Config{
			Bucket: b, FileAge: c.FileAge, FileBytes: int64(c.FileBytes), MemoryBytes: int64(c.Memory), Retention: c.Retention,
			Metrics: metrics, Log: d.Log, Now: d.Now,
		})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open the archive: %w", err), b.Close())
		}
		onClose(func() error {
			closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
			defer cancel()
			return errors.Join(a.Close(closing), b.Close())
		})
		return a, nil
	})
}

// Of opens the archive that the configuration file of a worker names; nil where it names none.
func Of(ctx context.Context, w *connect.Worker) (store.HistoryWriter, error) {
	cfg := connect.DefaultArchive()
	if err := w.Config("archive", &cfg); err != nil {
		return nil, err
	}
	return Open(ctx, cfg, stores.Deps{Log: w.Log, Now: w.Now, Metrics: w.Metrics}, w.OnClose)
}
