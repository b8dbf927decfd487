package alerting

import (
	"fmt"

	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/pkg/worker"
	"github.com/millrace/millrace/services/alerting/internal/engine"
)

// NewTask returns the rules of one of shares, fresh and as Run has them, for whoever wants to know what they would raise: it takes the
// records of Topics, and what comes out is told to nobody. fault, which may be nil, is told of each message on which a rule's condition
// could not be told.
func NewTask(cfg Config, shares int, fault func(rule, device, channel string, err error)) (worker.Task[telemetry.Alarm], error) { //nolint:ireturn // as worker.Loop takes it
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", Worker, err)
	}
	compiled, err := cfg.compiled()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Worker, err)
	}
	return cfg.engine(compiled, max(1, shares), engine.Hooks{Fault: fault}), nil
}
