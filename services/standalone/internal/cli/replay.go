package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/standalone"
	"github.com/millrace/millrace/services/standalone/internal/replay"
)

// replayFlags are the flags of millrace replay beside those of the configuration.
type replayFlags struct {
	worker, topics, from, to, into string // a store made anew
	rules, device, format          string // or rules tried out
	warm                           time.Duration
	token                          string
}

func replayCommand() command {
	return command{
		name: "replay", summary: "make a store anew from the log and the archive, or see what other rules would have raised",
		example: "millrace replay --worker history-writer --from 2026-03-01 --into /var/lib/millrace-again\n" +
			"millrace replay --worker aggregator --from 2026-03-01 --to 2026-04-01 --into /var/lib/millrace-again\n" +
			"millrace replay --rules changed.yml --from 24h",
		setup: func(flags *flag.FlagSet, env *Env) func(context.Context, []string) error {
			s := configFlags(flags, env)
			var r replayFlags
			flags.StringVar(&r.worker, "worker", "", "`worker` that makes the store anew: "+strings.Join(replay.Workers(), ", "))
			flags.StringVar(&r.topics, "topic", "", "`topics` that pass, separated by commas; without it all that the worker reads")
			flags.StringVar(&r.from, "from", "", "`time` from which messages pass, by when the edge took them: RFC 3339, a date, or a time ago such as 24h")
			flags.StringVar(&r.to, "to", "", "`time` before which they pass, likewise (default now)")
			flags.StringVar(&r.into, "into", "", "`place` of the new store, of the kind that the present one has: a directory, a database, a prefix")
			flags.StringVar(&r.rules, "rules", "", "`file` of rules to be tried out: an alerting section, or its key rules; nothing is raised")
			flags.StringVar(&r.device, "device", "", "with --rules: the only `device` that is looked at")
			flags.StringVar(&r.format, "format", "table", "with --rules: `form` of the answer: table or json")
			flags.DurationVar(&r.warm, "warm", time.Hour, "with --rules: how long before --from the rules begin to look, so that they know what was going on")
			flags.StringVar(&r.token, "token", "", "API `token` of an admin, where the running instance asks for one; better set MILLRACE_TOKEN")
			return func(ctx context.Context, args []string) error {
				if err := noArguments(args); err != nil {
					return err
				}
				r.token = orDefault(r.token, env.Getenv("MILLRACE_TOKEN"))
				if err := r.check(); err != nil {
					return err
				}
				p, cfg, err := s.load()
				if err != nil {
					return err
				}
				if r.rules != "" {
					return tryRules(ctx, env, p, cfg, &r)
				}
				return runReplay(ctx, env, p, cfg, &r)
			}
		},
	}
}

func (r *replayFlags) check() error {
	switch {
	case r.rules != "" && (r.worker != "" || r.into != "" || r.topics != ""):
		return errors.New("--rules: it makes no store, want it without --worker, --into and --topic")
	case r.rules != "" && r.from == "":
		return errors.New("--from: want the time from which the rules are tried out, such as 24h for the last day")
	case r.rules != "":
		return nil
	case r.worker == "alerting":
		return errors.New("--worker alerting: alarms are not raised a second time; --rules FILE says what rules would have raised")
	case !slices.Contains(replay.Workers(), r.worker):
		return fmt.Errorf("--worker %q: want one of %s", r.worker, strings.Join(replay.Workers(), ", "))
	case r.into == "":
		return errors.New("--into: want the place of the new store: a directory, a database, a prefix")
	case r.device != "":
		return errors.New("--device: a store is made anew as a whole, want it with --rules only")
	}
	return nil
}

// times reads --from and --to. The zero from is everything there is.
func (r *replayFlags) times(now time.Time) (from, to telemetry.Time, err error) {
	to = telemetry.At(now)
	if r.from != "" {
		if from, err = parseMoment(r.from, now); err != nil {
			return 0, 0, fmt.Errorf("--from: %w", err)
		}
	}
	if r.to != "" {
		if to, err = parseMoment(r.to, now); err != nil {
			return 0, 0, fmt.Errorf("--to: %w", err)
		}
	}
	if from >= to {
		return 0, 0, fmt.Errorf("--from %s is not before --to %s", from.Std().Format(time.RFC3339), to.Std().Format(time.RFC3339))
	}
	return from, to, nil
}

// parseMoment reads a time as people write it; without a zone it is UTC.
func parseMoment(text string, now time.Time) (telemetry.Time, error) {
	if text == "now" {
		return telemetry.At(now), nil
	}
	if ago, err := time.ParseDuration(text); err == nil {
		return telemetry.At(now.Add(-max(ago, -ago))), nil
	}
	for _, form := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.Parse(form, text); err == nil {
			return telemetry.At(t), nil
		}
	}
	return 0, fmt.Errorf("%q: want a time such as 2026-03-01T12:00:00Z or 2026-03-01, or one ago such as 24h", text)
}

func runReplay(ctx context.Context, env *Env, p *service.Process, cfg standalone.Config, r *replayFlags) (err error) {
	from, to, err := r.times(p.Now())
	if err != nil {
		return err
	}
	place, err := placeOf(&cfg, r.worker, r.into)
	if err != nil {
		return err
	}
	source, closeSource, err := openPast(ctx, p, &cfg, pastOf{from: from, to: to, scratch: place.scratch, token: r.token, history: place.history})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeSource()) }()
	target, closeTarget, err := place.open(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeTarget()) }()
	var topics []string
	if r.topics != "" {
		topics = strings.Split(r.topics, ",")
	} else {
		topics = place.topics
	}
	printer := &replayPrinter{progressLine{out: env.Stdout, terminal: env.Terminal, now: p.Now}}
	result, err := replay.Run(ctx, source, target, replay.Options{
		Worker: r.worker, Topics: topics, From: from, To: to, Marker: place.marker, Windows: cfg.Aggregator,
		Tell: printer.tell, Log: p.Log, Now: p.Now,
	})
	if ctx.Err() != nil {
		return errors.New("interrupted: the same command goes on from here")
	}
	if err != nil {
		return err
	}
	return place.report(env.Stdout, result)
}

// replayPrinter shows the progress of a replay.
type replayPrinter struct{ progressLine }

func (m *replayPrinter) tell(p replay.Progress) {
	line := fmt.Sprintf("%d records, %.0f/s, %.0f %%", p.Records, p.PerSecond, p.Share*100)
	if p.Left > 0 {
		line += ", about " + p.Left.Round(time.Second).String() + " left"
	}
	m.show(line, p.Ended)
}
