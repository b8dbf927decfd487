package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/config"
	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/services/standalone"
)

// runDrain is how long the whole process may take to stop, unless told otherwise.
const runDrain = 60 * time.Second

// settings are the flags that run and check share.
type settings struct {
	options service.Options
	set     map[string]string
}

// configFlags declares the flags that make up a configuration.
func configFlags(flags *flag.FlagSet, env *Env) *settings {
	s := &settings{set: map[string]string{}}
	s.options.Env, s.options.Stderr, s.options.Set = env.Environ, env.Stderr, s.set
	for name, flagged := range map[string]struct{ key, usage string }{
		"data": {"data", "`directory` of everything that is kept (default data)"},
		"http": {"http.addr", "`address` of HTTP: sending, queries, live streams, the page (default 127.0.0.1:8080)"},
		"mqtt": {"ingest.mqtt.addr", "`address` of MQTT (default 127.0.0.1:1883)"},
		"nats": {"bus.listen", "`address` for NATS clients, \"\" for none (default 127.0.0.1:4222)"},
	} {
		flags.Func(name, flagged.usage, func(value string) error {
			s.set[flagged.key] = value
			return nil
		})
	}
	flags.BoolFunc("insecure", "allow listeners off loopback without keys or TLS", func(string) error {
		s.set["insecure"] = "true"
		return nil
	})
	flags.Func("set", "set a configuration `key=value`; may be repeated", func(text string) error {
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return errors.New("want key=value")
		}
		s.set[key] = value
		return nil
	})
	flags.StringVar(&s.options.ConfigFile, "config", env.Getenv("MILLRACE_CONFIG"), "configuration `file`; without one the defaults are in force")
	return s
}

// load makes the process and reads the whole configuration.
func (s *settings) load() (*service.Process, standalone.Config, error) {
	cfg := standalone.DefaultConfig()
	p, err := service.New("millrace", s.options)
	if err != nil {
		return nil, cfg, err
	}
	source := p.Source("")
	source.OtherEnv = append(source.OtherEnv, "MILLRACE_URL", "MILLRACE_TOKEN", "MILLRACE_BIN")
	return p, cfg, config.Load(source, &cfg)
}

func runCommand() command {
	return command{
		name: "run", summary: "run everything in one process",
		example: "millrace run\nmillrace run --demo\nmillrace run --config millrace.yml --data /var/lib/millrace",
		setup: func(flags *flag.FlagSet, env *Env) func(context.Context, []string) error {
			s := configFlags(flags, env)
			options := standalone.Options{Out: env.Stdout, Terminal: env.Terminal}
			flags.BoolVar(&options.Demo, "demo", false, "let a simulated house and laboratory send")
			s.options.LogLevel = slog.LevelWarn
			flags.TextVar(&s.options.LogLevel, "log-level", s.options.LogLevel, "lowest `level` logged: debug, info, warn, error")
			flags.StringVar(&s.options.LogFormat, "log-format", "text", "`form` of the log: text or json")
			drain := runDrain
			flags.DurationVar(&drain, "drain-timeout", drain, "how `long` the whole process may take to stop; what is not finished by then is read again after the start")
			err := fromEnvironment(flags, env, "log-level", "log-format", "drain-timeout")
			return func(ctx context.Context, args []string) error {
				if err != nil {
					return err
				}
				if err := noArguments(args); err != nil {
					return err
				}
				p, cfg, err := s.load()
				if err != nil {
					return err
				}
				// The first signal drains, which is Supervise's to begin and to bound.
				p.Drain = drain
				return runInstance(context.WithoutCancel(ctx), p, cfg, env, options)
			}
		},
	}
}

// fromEnvironment sets flags by the variables of their names, such as MILLRACE_LOG_LEVEL; the command line wins.
func fromEnvironment(flags *flag.FlagSet, env *Env, names ...string) error {
	for _, name := range names {
		variable := "MILLRACE_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		if value := env.Getenv(variable); value != "" {
			if err := flags.Set(name, value); err != nil {
				return fmt.Errorf("%s=%q: %w", variable, value, err)
			}
		}
	}
	return nil
}

// noArguments refuses what would be ignored: a file without --config, above all.
func noArguments(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected %q: a configuration file is given with --config", args)
	}
	return nil
}

// runInstance runs until a signal; a second one ends the process at once.
func runInstance(ctx context.Context, p *service.Process, cfg standalone.Config, env *Env, options standalone.Options) error {
	traces, flush, err := service.Tracing(ctx, env.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"), "millrace")
	if err != nil {
		return err
	}
	p.Traces = traces
	err = service.Supervise(ctx, p, env.Signals, func(ctx context.Context, p *service.Process) error {
		return standalone.Run(ctx, cfg, p, options)
	})
	const grace = 3 * time.Second
	last, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if flushErr := flush(last); flushErr != nil {
		p.Log.Warn("the last traces are lost", "error", flushErr)
	}
	if err == nil {
		_, _ = fmt.Fprintln(env.Stdout, "Drained; nothing is lost.")
	}
	return err
}

func checkCommand() command {
	return command{
		name: "check", summary: "check a configuration file, its rules and routes included",
		example: "millrace check --config millrace.yml",
		setup: func(flags *flag.FlagSet, env *Env) func(context.Context, []string) error {
			s := configFlags(flags, env)
			show := flags.Bool("show", false, "print the whole configuration that is in force, with each key's meaning")
			return func(_ context.Context, args []string) error {
				if err := noArguments(args); err != nil {
					return err
				}
				_, cfg, err := s.load()
				if faults, ok := errors.AsType[config.Faults](err); ok {
					_, _ = fmt.Fprintln(env.Stderr, faults)
					return fmt.Errorf("%d %s", len(faults), plural(len(faults), "fault"))
				}
				if err != nil {
					return err
				}
				if *show {
					_, err = fmt.Fprint(env.Stdout, config.Example(cfg))
					return err
				}
				if err := cfg.Router.ReadReference(); err != nil {
					return err
				}
				_, err = fmt.Fprintln(env.Stdout, "The configuration is good.")
				return err
			}
		},
	}
}
