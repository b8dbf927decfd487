package cli

import (
	"context"
	"flag"
	"fmt"

	"github.com/millrace/millrace/pkg/connect/stores"
)

func migrateCommand() command {
	return command{
		name: "migrate", summary: "make the tables of ClickHouse, Elasticsearch and PostgreSQL, or bring them up to date",
		example: "millrace migrate --config millrace.yml --dry-run\nmillrace migrate --config millrace.yml",
		setup: func(flags *flag.FlagSet, env *Env) func(context.Context, []string) error {
			s := configFlags(flags, env)
			dry := flags.Bool("dry-run", false, "print what would be done, and change nothing")
			return func(ctx context.Context, args []string) error {
				if err := noArguments(args); err != nil {
					return err
				}
				p, cfg, err := s.load()
				if err != nil {
					return err
				}
				set := stores.New(cfg.StoresConfig(), stores.Deps{Log: p.Log, Now: p.Now, Metrics: p.Metrics})
				n := 0
				err = set.Migrate(ctx, *dry, func(step stores.Step) {
					n++
					if *dry {
						_, _ = fmt.Fprintf(env.Stdout, "-- %s: %s\n%s\n\n", step.Engine, step.Name, step.Text)
						return
					}
					_, _ = fmt.Fprintf(env.Stdout, "%s: %s\n", step.Engine, step.Name)
				})
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(env.Stdout, migrated(n, *dry))
				return err
			}
		},
	}
}

func migrated(steps int, dry bool) string {
	switch {
	case steps == 0:
		return "Everything is up to date."
	case dry:
		return fmt.Sprintf("%d %s to be done; nothing was changed.", steps, plural(steps, "step"))
	default:
		return fmt.Sprintf("%d %s done.", steps, plural(steps, "step"))
	}
}
