package aggregator

import (
	"fmt"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/worker"
	"github.com/millrace/millrace/services/aggregator/internal/window"
)

// NewTask returns the windows of one share, fresh and as Run has them, for whoever wants to see them again: it takes the records of
// Topics, and what comes out is written nowhere. A row whose Revision is 0 is a correction that Run would merge into the window it has
// written; records are running values.
func NewTask(cfg Config) (worker.Task[store.AggregateRow], error) { //nolint:ireturn // as worker.Loop takes it
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", Worker, err)
	}
	counts, err := newMetrics(nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Worker, err)
	}
	task, err := window.New(cfg.windows(), &counts.windows)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Worker, err)
	}
	return task, nil
}
