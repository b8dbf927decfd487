package stores

import (
	"context"
	"fmt"
	"strings"

	"github.com/millrace/millrace/pkg/store/clickhouse"
	"github.com/millrace/millrace/pkg/store/elasticsearch"
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
		ClickHouse: {
			want: "clickhouse://user@host:9000/database",
			url:  func(c *Config) string { return c.ClickHouse.URL },
			open: openClickHouse, migrate: migrateClickHouse,
		},
		Elasticsearch: {
			want: "https://host:9200",
			url:  func(c *Config) string { return c.Elasticsearch.URL },
			open: openElasticsearch, migrate: migrateElasticsearch,
		},
		Postgres: {
			want: "postgres://user@host:5432/database",
			url:  func(c *Config) string { return c.Postgres.URL },
			open: openPostgres, migrate: migratePostgres,
		},
	}
}

func (c ClickHouseConfig) driver(d Deps) (clickhouse.Config, error) {
	t, err := c.TLS.Config()
	if err != nil {
		return clickhouse.Config{}, fault(ClickHouse, err)
	}
	return clickhouse.Config{
		URL: c.URL, Password: c.Password.Reveal(), TLS: t, Cluster: c.Cluster, Replicated: c.Replicated, Compression: c.Compression,
		Retention: clickhouse.Retention{History: c.HistoryFor, Logs: c.LogsFor, DeadLetters: c.LettersFor, Aggregates: c.AggregatesFor},
		Archive: clickhouse.Archive{
			URL: c.Archive.URL, AccessKey: c.Archive.AccessKey, SecretKey: c.Archive.SecretKey.Reveal(), Collection: c.Archive.Collection,
		},
		Queries: clickhouse.QueryConfig{
			User: c.Queries.User, Password: c.Queries.Password.Reveal(), Queries: c.Queries.AtOnce, MemoryBytes: int64(c.Queries.Memory),
		},
		Log: d.Log, Now: d.Now,
	}, nil
}

func openClickHouse(ctx context.Context, c Config, d Deps) (*engine, error) {
	cfg, err := c.ClickHouse.driver(d)
	if err != nil {
		return nil, err
	}
	cfg.Elsewhere = c.Tables.elsewhere(ClickHouse)
	db, err := clickhouse.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &engine{
		state: db.State(), history: db.History(), aggregates: db.Aggregates(), alarms: db.Alarms(), logs: db.Logs(), letters: db.DeadLetters(),
		reader: db, sql: db, close: db.Close,
	}, nil
}

func migrateClickHouse(ctx context.Context, c Config, d Deps, dry bool) ([]Step, error) {
	cfg, err := c.ClickHouse.driver(d)
	if err != nil {
		return nil, err
	}
	applied, err := clickhouse.Migrate(ctx, cfg, clickhouse.MigrateOptions{DryRun: dry})
	return stepsOf(applied, func(s clickhouse.Statement) Step {
		return Step{Name: s.Migration + ": " + headline(s.SQL), Text: s.SQL}
	}), err
}

func (c ElasticsearchConfig) driver(d Deps) (elasticsearch.Config, error) {
	t, err := c.TLS.Config()
	if err != nil {
		return elasticsearch.Config{}, fault(Elasticsearch, err)
	}
	return elasticsearch.Config{
		URL: c.URL, User: c.User, Password: c.Password.Reveal(), APIKey: c.APIKey.Reveal(), TLS: t, Prefix: c.Prefix,
		HistoryFor: c.HistoryFor, LogsFor: c.LogsFor, DeadLettersFor: c.LettersFor, Log: d.Log, Now: d.Now,
	}, nil
}

func openElasticsearch(ctx context.Context, c Config, d Deps) (*engine, error) {
	cfg, err := c.Elasticsearch.driver(d)
	if err != nil {
		return nil, err
	}
	db, err := elasticsearch.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &engine{
		state: db.State(), history: db.History(), aggregates: db.Aggregates(), logs: db.Logs(), letters: db.DeadLetters(), reader: db, close: db.Close,
	}, nil
}

func migrateElasticsearch(ctx context.Context, c Config, d Deps, dry bool) ([]Step, error) {
	cfg, err := c.Elasticsearch.driver(d)
	if err != nil {
		return nil, err
	}
	applied, err := elasticsearch.Migrate(ctx, cfg, elasticsearch.MigrateOptions{DryRun: dry})
	return stepsOf(applied, func(c elasticsearch.Change) Step { return Step{Name: c.What, Text: c.String()} }), err
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
	return stepsOf(applied, func(m postgres.Migration) Step { return Step{Name: m.Name, Text: m.SQL} }), err
}

// headline returns the first line of a statement that says something, shortened.
func headline(sql string) string {
	const longest = 100
	for line := range strings.Lines(sql) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "--") {
			return line[:min(len(line), longest)]
		}
	}
	return ""
}

func stepsOf[S any](applied []S, step func(S) Step) []Step {
	steps := make([]Step, len(applied))
	for i, s := range applied {
		steps[i] = step(s)
	}
	return steps
}
