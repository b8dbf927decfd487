package stores

import (
	"context"
	"fmt"
)

// Step is one change of an engine's tables, templates or functions.
type Step struct {
	Engine string // that of Tables
	Name   string // such as "001_tables.sql"
	Text   string // what is sent: SQL, or a request with its JSON
}

// Migrate makes the tables of every engine that the configuration names, or brings them up to date, and calls each with every step once
// it is done. dry changes nothing: the steps are those that would be done. It may be repeated at any time, and go on while
// workers of the release before work. After an error the engines before it are migrated.
func (s *Set) Migrate(ctx context.Context, dry bool, each func(Step)) error {
	for _, name := range []string{ClickHouse, Elasticsearch, Postgres} {
		if !s.cfg.Tables.Uses(name) {
			continue
		}
		o := openers()[name]
		if o.url(&s.cfg) == "" {
			return o.missing(name)
		}
		steps, err := o.migrate(ctx, s.cfg, s.deps, dry)
		for _, step := range steps {
			step.Engine = name
			each(step)
		}
		if err != nil {
			return fmt.Errorf("migrate %s: %w", name, err)
		}
	}
	return nil
}
