package service

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	// DefaultDrain is how long a drain may take; less than the 30 s after which Kubernetes kills.
	DefaultDrain = 25 * time.Second
	// DefaultMetrics is where metrics and health are served unless told otherwise: a free port of loopback, which the
	// log names, since many processes share a machine.
	DefaultMetrics = "127.0.0.1:0"

	traceGrace   = 3 * time.Second
	codeUsage    = 2
	endpointName = "OTEL_EXPORTER_OTLP_ENDPOINT"
)

// Main is a worker's main: it parses the common flags, makes a Process, serves its metrics and health, calls run, drains
// on SIGINT and SIGTERM, and exits: 0 after a clean end, 1 after an error, 2 for a wrong flag. It does not return.
//
// sections are the top-level keys of the whole configuration file, its own among them (Process.Sections); without them
// any key but those that run reads is a fault, so a file that other workers share needs them.
func Main(name string, run Run, sections ...string) {
	signals := make(chan os.Signal, 2) // two count, and must not be lost while a log line is written
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	os.Exit(program{
		name: name, sections: sections, args: os.Args[1:], env: os.Environ(),
		stdout: os.Stdout, stderr: os.Stderr, signals: signals, run: run,
	}.main())
}

// program is everything that Main takes from outside.
type program struct {
	name           string
	sections       []string
	args, env      []string
	stdout, stderr io.Writer
	signals        <-chan os.Signal
	run            Run
}

// settings are the common flags.
type settings struct {
	Options
	metrics string
	drain   time.Duration
	version bool
}

// main returns the exit code.
func (g program) main() int {
	s, err := g.parse()
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		_, _ = fmt.Fprintf(g.stderr, "%s: %v\n", g.name, err)
		return codeUsage
	case s.version:
		_, _ = fmt.Fprintf(g.stdout, "%s %s %s\n", g.name, Version(), runtime.Version())
		return 0
	}
	p, err := New(g.name, s.Options)
	if err != nil {
		_, _ = fmt.Fprintf(g.stderr, "%s: %v\n", g.name, err)
		return 1
	}
	p.Drain = s.drain
	return p.ExitCode(g.supervise(p, s))
}

func (g program) supervise(p *Process, s settings) error {
	ctx := context.Background()
	traces, flush, err := Tracing(ctx, lookup(g.env, endpointName), g.name)
	if err != nil {
		return err
	}
	p.Traces = traces
	defer func() {
		grace, cancel := context.WithTimeout(ctx, traceGrace)
		defer cancel()
		if err := flush(grace); err != nil {
			p.Log.Warn("the last traces are lost", "error", err)
		}
	}()
	stop, err := p.background(ctx, s.metrics)
	if err != nil {
		return err
	}
	defer stop()
	p.Log.Info("starting", "process", p.Name, "version", p.Version, "config", p.ConfigFile)
	return Supervise(ctx, p, g.signals, g.run)
}

// background serves metrics and health until stop is called, which waits for the end; so they outlast the drain.
func (p *Process) background(ctx context.Context, addr string) (stop func(), err error) {
	if addr == "" {
		return func() {}, nil
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("serve metrics and health: %w", err)
	}
	serving, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.ServeOn(serving, ln); err != nil {
			p.Log.Error("metrics and health are no longer served", "error", err)
		}
	}()
	return func() { cancel(); <-done }, nil
}

// ownVariables are those of the environment that are no configuration keys: the common flags', those of the millrace command's
// clients, which share a shell with it, and the one that makes tests rewrite their golden files, which the processes they start
// inherit.
func ownVariables() []string {
	return []string{
		"MILLRACE_CONFIG", "MILLRACE_LOG_LEVEL", "MILLRACE_LOG_FORMAT", "MILLRACE_METRICS", "MILLRACE_DRAIN_TIMEOUT",
		"MILLRACE_URL", "MILLRACE_TOKEN", "MILLRACE_UPDATE",
	}
}

func (g program) parse() (settings, error) {
	s := settings{Options: Options{Env: g.env, Sections: g.sections, Stderr: g.stderr, Set: make(map[string]string)}}
	fs := flag.NewFlagSet(g.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // main writes the error, once
	fs.StringVar(&s.ConfigFile, "config", "", "the configuration `file`; without it the defaults are in force")
	fs.TextVar(&s.LogLevel, "log-level", s.LogLevel, "the lowest `level` logged: debug, info, warn or error")
	fs.StringVar(&s.LogFormat, "log-format", formatText, "the `format` of the log: text or json")
	fs.StringVar(&s.metrics, "metrics", DefaultMetrics, "the `address` of /metrics, /healthz and /readyz; \"\" for none")
	fs.DurationVar(&s.drain, "drain-timeout", DefaultDrain, "how long a drain may take, such as `25s`")
	fs.BoolVar(&s.version, "version", false, "print the version and exit")
	fs.Func("set", "set a configuration `key=value`, may be repeated; wins over file and environment", func(text string) error {
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return errors.New("want key=value")
		}
		s.Set[key] = value
		return nil
	})
	for _, name := range []string{"config", "log-level", "log-format", "metrics", "drain-timeout"} {
		variable := "MILLRACE_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		if value := lookup(g.env, variable); value != "" {
			if err := fs.Set(name, value); err != nil {
				return s, fmt.Errorf("%s=%q: %w", variable, value, err)
			}
		}
	}
	err := fs.Parse(g.args)
	if errors.Is(err, flag.ErrHelp) {
		g.usage(fs)
	}
	s.Args = fs.Args()
	return s, err
}

func (g program) usage(fs *flag.FlagSet) {
	_, _ = fmt.Fprintf(g.stdout, "Usage: %[1]s [flags]\n\nExample:\n  %[1]s --config millrace.yml --metrics 127.0.0.1:9600\n\nFlags:\n", g.name)
	fs.SetOutput(g.stdout)
	fs.PrintDefaults()
	_, _ = fmt.Fprint(g.stdout, "\nThe flags are also read from MILLRACE_CONFIG, MILLRACE_LOG_LEVEL and so on, "+
		"configuration keys from MILLRACE_SECTION_KEY.\n")
}

// lookup returns the last value of a variable, as the operating system would.
func lookup(env []string, name string) string {
	value := ""
	for _, entry := range env {
		if v, ok := strings.CutPrefix(entry, name+"="); ok {
			value = v
		}
	}
	return value
}
