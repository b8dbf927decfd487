package stores

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/pkg/store/postgres"
)

// opener is how one engine is opened and migrated.
type opener struct {
	want    string // what its URL looks like
	url     func(c *Config) string
	open    func(ctx context.Context, c Config, d Deps) (*engine, error)
	migrate func(ctx context.Context, c Config, d Deps, dry bool) ([]Step, error)
}

func (o opener) missing(name string) error {
	return fmt.Errorf("%s.url: it is empty, and stores names %s, want %s", name, name, o.want)
}

// openers is the one switch from an engine's name to its driver.
func openers() map[string]opener {
	return map[string]opener{
		Postgres: {
			want: "postgres://user@host:5432/database",
			url:  func(c *Config) string { return c.Postgres.URL },
			open: openPostgres, migrate: migratePostgres,
		},
	}
}

func (c PostgresConfig) driver(d Deps) (postgres.Config, error) {
	t, err := c.TLS.Config()
	if err != nil {
		return postgres.Config{}, fault(Postgres, err)
	}
	return postgres.Config{URL: c.URL, Password: c.Password.Reveal(), TLS: t, Schema: c.Schema, Log: d.Log}, nil
}

func openPostgres(ctx context.Context, c Config, d Deps) (*engine, error) {
	cfg, err := c.Postgres.driver(d)
	if err != nil {
		return nil, err
	}
	db, err := postgres.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &engine{alarms: db.Alarms(), reader: db, close: db.Close}, nil
}

func migratePostgres(ctx context.Context, c Config, d Deps, dry bool) ([]Step, error) {
	cfg, err := c.Postgres.driver(d)
	if err != nil {
		return nil, err
	}
	applied, err := postgres.Migrate(ctx, cfg, postgres.MigrateOptions{DryRun: dry})
	steps := make([]Step, len(applied))
	for i, m := range applied {
		steps[i] = Step{Name: m.Name, Text: m.SQL}
	}
	return steps, err
}
