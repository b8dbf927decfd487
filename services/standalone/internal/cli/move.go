package cli

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"

	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/connect/archives"
	"github.com/millrace/millrace/pkg/connect/stores"
	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/services/standalone"
	"github.com/millrace/millrace/services/standalone/internal/move"
)

func moveCommand() command {
	return command{
		name: "move", summary: "copy a stopped instance into the engines of another configuration, and compare",
		example: "millrace migrate --config big.yml\nmillrace move --from embedded --to big.yml --data /var/lib/millrace",
		setup: func(flags *flag.FlagSet, env *Env) func(context.Context, []string) error {
			s := configFlags(flags, env)
			from := flags.String("from", stores.Embedded, "what is moved: embedded, the instance of --data (and --config)")
			to := flags.String("to", "", "configuration `file` whose engines take it all")
			return func(ctx context.Context, args []string) error {
				if err := noArguments(args); err != nil {
					return err
				}
				if *from != stores.Embedded {
					return fmt.Errorf("--from %q: want embedded", *from)
				}
				if *to == "" {
					return errors.New("--to: want the configuration file whose engines take it all")
				}
				p, cfg, err := s.load()
				if err != nil {
					return err
				}
				goal := &settings{options: s.options, set: map[string]string{}}
				goal.options.ConfigFile, goal.options.Set = *to, goal.set
				_, target, err := goal.load()
				if err != nil {
					return fmt.Errorf("%s: %w", *to, err)
				}
				if err := movable(&cfg, &target, *to); err != nil {
					return err
				}
				return runMove(ctx, env, p, cfg, target)
			}
		},
	}
}

// movable refuses pairs between which a move would not carry everything over.
func movable(cfg, target *standalone.Config, file string) error {
	switch {
	case cfg.Bus.URL != connect.Embedded:
		return fmt.Errorf("bus.url of the instance is %s, want embedded: a log elsewhere is read again by whatever stores its workers get", cfg.Bus.URL)
	case target.Bus.URL == connect.Embedded:
		return fmt.Errorf("bus.url of %s is embedded: what is moved belongs to a log that ends here, and the other stores to a new one, on NATS or Kafka", file)
	case cfg.Bus.Partitions != target.Bus.Partitions:
		return fmt.Errorf("bus.partitions: the instance has %d and %s has %d: open windows and raised alarms are kept by partition, so both must have the same",
			cfg.Bus.Partitions, file, target.Bus.Partitions)
	case target.Stores == stores.DefaultTables() && target.Archive.URL == "":
		return fmt.Errorf("stores of %s: all of them are embedded, so there is nothing to move", file)
	}
	return nil
}

func runMove(ctx context.Context, env *Env, p *service.Process, cfg, target standalone.Config) (err error) {
	o := move.Options{
		Name: fingerprint(&target), Marker: filepath.Join(cfg.Data, "move.json"), Partitions: cfg.Bus.Partitions, Log: p.Log, Now: p.Now,
		Tell: (&movePrinter{progressLine{out: env.Stdout, terminal: env.Terminal, now: p.Now}}).tell,
	}
	begun, err := move.Begun(o.Marker, o.Name)
	if err != nil {
		return err
	}
	if !begun {
		_, _ = fmt.Fprintln(env.Stdout, "Letting the workers read the log to its end …")
		if err := standalone.Drain(ctx, cfg, p); err != nil {
			return err
		}
	}
	embedded, err := standalone.OpenEmbedded(ctx, cfg, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, embedded.Close()) }()
	to, closeTarget, err := openTarget(ctx, p, &cfg, &target)
	defer func() { err = errors.Join(err, closeTarget()) }()
	if err != nil {
		return err
	}
	result, err := move.Run(ctx, &move.Source{DB: embedded.DB, History: embedded.History, Archive: embedded.Archive}, to, o)
	if err != nil {
		if ctx.Err() != nil {
			return errors.New("interrupted: the same command goes on from here")
		}
		return err
	}
	return report(env.Stdout, result)
}

// report says what became of the move.
func report(w io.Writer, r move.Result) error {
	for _, table := range r.Stays {
		_, _ = fmt.Fprintf(w, "%s: not moved, since the configuration keeps none elsewhere\n", table)
	}
	if len(r.Differences) == 0 {
		_, _ = fmt.Fprintf(w, "PASS: %d rows are equal on both sides.\n", r.Rows)
		return nil
	}
	_, _ = fmt.Fprintln(w, "FAIL")
	for _, d := range r.Differences {
		_, _ = fmt.Fprintln(w, "  "+d)
	}
	return fmt.Errorf("%d %s between the two sides", len(r.Differences), plural(len(r.Differences), "difference"))
}

// fingerprint names a target, without showing what is secret in it.
func fingerprint(target *standalone.Config) string {
	t := target
	text := fmt.Sprintf("%+v %s %s %s %s %s %s", t.Stores, t.ClickHouse.URL, t.Elasticsearch.URL, t.Elasticsearch.Prefix, t.Postgres.URL, t.Postgres.Schema, t.Archive.URL)
	return fmt.Sprintf("%x", sha256.Sum256([]byte(text)))[:16]
}

// openTarget opens what of the target is elsewhere. What it returns last closes all that was opened, also after an error.
func openTarget(ctx context.Context, p *service.Process, cfg, target *standalone.Config) (to move.Target, closeAll func() error, err error) {
	deps := stores.Deps{Log: p.Log, Now: p.Now} // no metrics: the process ends with the move
	set := stores.New(target.StoresConfig(), deps)
	all := &opened{set.Close}
	to.Reader = set.Reader
	from, into := cfg.Stores, target.Stores
	for _, o := range []struct {
		from, into string
		open       func() error
	}{
		{from.State, into.State, opening(ctx, set.State, &to.State)},
		{from.Aggregates, into.Aggregates, opening(ctx, set.Aggregates, &to.Aggregates)},
		{from.Alarms, into.Alarms, opening(ctx, set.Alarms, &to.Alarms)},
		{from.History, into.History, opening(ctx, set.History, &to.History)},
		{from.Logs, into.Logs, opening(ctx, set.Logs, &to.Logs)},
		{from.DeadLetters, into.DeadLetters, opening(ctx, set.DeadLetters, &to.DeadLetters)},
	} {
		if o.from != stores.Embedded || o.into == stores.Embedded {
			continue
		}
		if err := o.open(); err != nil {
			return to, all.close, err
		}
	}
	if from.History == stores.Embedded {
		to.Archive, err = archives.Open(ctx, target.Archive, deps, all.add)
	}
	return to, all.close, err
}

// movePrinter shows the steps of a move.
type movePrinter struct{ progressLine }

func (m *movePrinter) tell(s move.Step) {
	if s.What == move.Standing {
		_, _ = fmt.Fprintln(m.out, "What is now has moved and is equal: the workers of the new configuration may be started. What was follows.")
		return
	}
	line := fmt.Sprintf("%-30s %d of %d", s.What, s.Done, s.Total)
	if s.Total > 0 {
		line += fmt.Sprintf(" (%d %%)", s.Done*100/s.Total)
	}
	if s.PerSecond > 0 {
		line += fmt.Sprintf(", %.0f rows/s", s.PerSecond)
	}
	m.show(line, s.Ended)
}
