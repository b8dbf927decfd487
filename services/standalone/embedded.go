package standalone

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/pkg/store/duckdb"
	"github.com/millrace/millrace/pkg/store/parquet"
)

// Embedded is the stores of an instance that stands still. History is not maintained, so all stay as they are.
type Embedded struct {
	DB      *duckdb.DB
	History *parquet.History
	Archive string // directory of History's files
	plant   *plant
}

// OpenEmbedded opens them. It fails while the instance runs, since only one process can have its files open.
func OpenEmbedded(ctx context.Context, cfg Config, p *service.Process) (*Embedded, error) {
	cfg.Workers = nil // the stores are those of all
	pl := &plant{cfg: cfg, process: p, log: p.Log, still: true}
	err := pl.openEmbedded(ctx)
	if err == nil && pl.db == nil {
		err = errors.New("the configuration has none")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the embedded stores: %w", err), pl.close())
	}
	return &Embedded{DB: pl.db, History: pl.history, Archive: cfg.archive(), plant: pl}, nil
}

// Close closes them.
func (e *Embedded) Close() error { return e.plant.close() }
