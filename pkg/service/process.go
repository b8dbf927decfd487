package service

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/millrace/millrace/pkg/config"
)

// Options are what New needs; the zero value is a process without a file or environment that logs at info to stderr.
type Options struct {
	// ConfigFile is the configuration's path; empty means that only defaults, Env and Set count.
	ConfigFile string
	// Set maps dotted configuration keys to values; they win over the file and Env.
	Set map[string]string
	// Env is the environment as os.Environ gives it.
	Env []string
	// Sections are the top-level keys of the whole file. A process reads some of them, and knows the rest by name, so
	// that each process refuses a key that none reads.
	Sections []string
	// LogLevel is the lowest level logged.
	LogLevel slog.Level
	// LogFormat is "text" (also when empty) or "json".
	LogFormat string
	// Stderr takes the log; nil means os.Stderr.
	Stderr io.Writer
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Args are the arguments after the flags.
	Args []string
}

// Process is what a worker's run gets. Its fields may be changed before they are handed on, not later.
type Process struct {
	Name    string
	Version string
	Log     *slog.Logger
	// Metrics is this process's own registry, both Registerer and Gatherer; it holds Go's and the process's metrics.
	Metrics *prometheus.Registry
	// Health holds the gates of readiness. A worker sets its own: Health.Set("bus", nil).
	Health *Health
	// Traces is a provider that does nothing unless an endpoint was configured, see Tracing.
	Traces trace.TracerProvider
	// Drain is how long the process may take to end after a signal: DefaultDrain, unless a main says otherwise.
	Drain time.Duration
	// Now is the clock.
	Now        func() time.Time
	Args       []string
	ConfigFile string
	// Sections is Options.Sections; a main may set it before the first call of Config.
	Sections []string

	stderr    io.Writer
	logFormat string
	text      []byte
	env       []string
	set       map[string]string
}

// New makes a process: it reads the configuration file once, opens nothing else and starts nothing.
// Errors: the file cannot be read (as config.Faults), or an option is unknown.
func New(name string, o Options) (*Process, error) {
	p := &Process{
		Name:       name,
		Version:    Version(),
		Metrics:    prometheus.NewRegistry(),
		Traces:     noop.NewTracerProvider(),
		Drain:      DefaultDrain,
		Now:        o.Now,
		Args:       o.Args,
		ConfigFile: o.ConfigFile,
		Sections:   o.Sections,
		stderr:     o.Stderr,
		logFormat:  o.LogFormat,
		env:        o.Env,
		set:        o.Set,
	}
	if p.Now == nil {
		p.Now = time.Now
	}
	if p.stderr == nil {
		p.stderr = os.Stderr
	}
	var err error
	if p.Log, err = newLogger(p.stderr, o.LogFormat, o.LogLevel); err != nil {
		return nil, err
	}
	p.Health = &Health{Log: p.Log}
	if err := p.registerOwn(); err != nil {
		return nil, err
	}
	if o.ConfigFile != "" {
		if p.text, err = config.ReadFile(o.ConfigFile); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Source is where this process's configuration comes from, for a caller that loads the whole file into one struct;
// with a section it is what Config uses.
func (p *Process) Source(section string) config.Source {
	return config.Source{
		File: p.ConfigFile, YAML: p.text, Env: p.env, Flags: p.set,
		Section: section, OtherSections: p.Sections, OtherEnv: ownVariables(),
	}
}

// Config reads one top-level section of the file, with its variables and flags, strictly over the defaults in cfg (a
// pointer) and validates it. The error is config.Faults when the operator is to blame. All top-level keys but the
// section and Sections are faults.
func (p *Process) Config(section string, cfg any) error {
	return config.Load(p.Source(section), cfg)
}

// ExitCode reports err, when there is one, and returns what the process should exit with: 0 for nil, else 1.
// Faults of the configuration are reported one by one: as plain lines in the text format, else as log records.
func (p *Process) ExitCode(err error) int {
	if err == nil {
		return 0
	}
	faults, isFaults := errors.AsType[config.Faults](err)
	switch {
	case !isFaults:
		p.Log.Error("stopped by an error", "error", err)
	case p.logFormat == formatJSON:
		for _, f := range faults {
			p.Log.Error("fault in the configuration", "where", f.Where, "key", f.Key, "fault", f.Text)
		}
	default:
		_, _ = fmt.Fprintf(p.stderr, "%s: faults in the configuration: %d\n%v\n", p.Name, len(faults), faults)
	}
	return 1
}

// registerOwn registers what every process tells of itself.
func (p *Process) registerOwn() error {
	about := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "millrace_build_info",
		Help:        "Always 1; the labels say which process this is, and of which version.",
		ConstLabels: prometheus.Labels{"process": p.Name, "version": p.Version},
	})
	about.Set(1)
	ready := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "millrace_ready",
		Help: "1 when every gate of readiness is open, as /readyz says.",
	}, func() float64 {
		if p.Health.Ready() != nil {
			return 0
		}
		return 1
	})
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), about, ready,
	} {
		if err := p.Metrics.Register(c); err != nil {
			return fmt.Errorf("register the metrics of the process: %w", err)
		}
	}
	return nil
}
