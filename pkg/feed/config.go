package feed

import (
	"errors"
	"fmt"

	"github.com/millrace/millrace/pkg/config"
)

// Config limits subscribers.
type Config struct {
	Subscribers  int          `yaml:"subscribers" doc:"How many may follow live at once; one more is refused (503)."`
	QueueRecords int          `yaml:"queue_records" doc:"How many events one subscriber may lag behind; the oldest give way, and it is told how many."`
	QueueBytes   config.Bytes `yaml:"queue_bytes" doc:"How many bytes of events one subscriber may lag behind."`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{Subscribers: 1000, QueueRecords: 4096, QueueBytes: 4 << 20}
}

// Validate reports every fault by its key.
func (c Config) Validate() error {
	var errs []error
	const subscribersMax, recordsMax = 100_000, 1 << 20
	if c.Subscribers < 1 || c.Subscribers > subscribersMax {
		errs = append(errs, fmt.Errorf("subscribers: %d, want 1 to %d", c.Subscribers, subscribersMax))
	}
	if c.QueueRecords < 1 || c.QueueRecords > recordsMax {
		errs = append(errs, fmt.Errorf("queue_records: %d, want 1 to %d", c.QueueRecords, recordsMax))
	}
	if c.QueueBytes < 64<<10 {
		errs = append(errs, fmt.Errorf("queue_bytes: %d, want at least 64KiB", c.QueueBytes))
	}
	return errors.Join(errs...)
}
