package connect

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/pkg/bus/nats"
	"github.com/millrace/millrace/pkg/service"
)

// Worker opens the log for a worker that is a process of its own: it reads the section "bus" of its configuration file, and
// opens the gate "bus" when the log is there. topics are those beyond bus.Topics. The caller closes the log.
func Worker(ctx context.Context, p *service.Process, topics []string) (*nats.Log, error) {
	p.Health.Set("bus", service.ErrStarting)
	cfg := DefaultBus()
	if err := p.Config("bus", &cfg); err != nil {
		return nil, err
	}
	log, err := Bus(ctx, cfg, Deps{Log: p.Log, Now: p.Now, Metrics: p.Metrics, Topics: topics})
	if err != nil {
		return nil, err
	}
	p.Health.Set("bus", nil)
	return log, nil
}

// Tenant reads the key "tenant" of the configuration file.
func Tenant(p *service.Process, otherwise string) (string, error) {
	tenant := otherwise
	if err := p.Config("tenant", &tenant); err != nil {
		return "", fmt.Errorf("tenant: %w", err)
	}
	return tenant, nil
}
