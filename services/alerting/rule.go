package alerting

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/services/alerting/internal/engine"
)

// Limits of a rule.
const (
	GlobBytesMax    = 256
	SummaryBytesMax = 1024
	DurationMax     = 366 * 24 * time.Hour
)

// What a rule may look at, as Rule.On says it.
const (
	OnMessages   = "messages"
	OnAggregates = "aggregates"
	OnCritical   = "critical"
)

// Rule says when an alarm is raised, and when it is cleared. There is one alarm at a time for each device and channel that the
// rule looks at; for each device where it is on critical logs, or on the silence of devices.
type Rule struct {
	Name      string        `yaml:"name" doc:"Name of the rule; each is there once."`
	On        string        `yaml:"on" enum:"messages|aggregates|critical" doc:"What the rule looks at: the messages of channels, the windows of the aggregator, or critical log lines."`
	Device    string        `yaml:"device" doc:"Devices that the rule looks at; * is any run of characters and ? any one. Empty means all."`
	Channel   string        `yaml:"channel" doc:"Channels that the rule looks at, likewise."`
	Condition string        `yaml:"condition" doc:"CEL over the message, such as value > 39; over the window, such as max > 20; of rules on change also over old and new. Of silent and rate rules it says which messages count."`
	For       time.Duration `yaml:"for" doc:"How long the condition must hold before the alarm is raised."`
	Clear     string        `yaml:"clear" doc:"CEL that clears the alarm, such as value < 38; empty means that the condition no longer holds."`
	ClearFor  time.Duration `yaml:"clear_for" doc:"How long the clear condition must hold before the alarm is cleared; of rules on change and on critical logs: clears when nothing has happened for so long."`
	OnChange  bool          `yaml:"on_change" doc:"Raise once for each change of a channel's text for which the condition holds, however often a state is repeated."`
	Silent    time.Duration `yaml:"silent" doc:"Raise when a device has sent nothing for so long; where channel is given, when one of these channels has not."`
	Rate      *Rate         `yaml:"rate" doc:"Raise when a value changes too quickly."`
	Window    time.Duration `yaml:"window" doc:"Rules on aggregates: the length of the windows."`
	Running   bool          `yaml:"running" doc:"Rules on aggregates: windows still open may raise the alarm too, which is quicker. Only closed ones clear it."`
	Severity  string        `yaml:"severity" enum:"info|warning|error|critical" doc:"Severity of the alarm."`
	Summary   string        `yaml:"summary" doc:"A sentence for people, in which {device}, {channel}, {value}, {old} and {rule} are filled in."`
	Enabled   *bool         `yaml:"enabled" doc:"false switches the rule off; alarms that it has raised are cleared."`
}

// Rate is a limit on how quickly a value changes: by how much it differs from the oldest value that is not older than Per.
type Rate struct {
	Per   time.Duration `yaml:"per" doc:"The time within which the change is measured."`
	Above *float64      `yaml:"above" doc:"Raise when the value has risen by more than this."`
	Below *float64      `yaml:"below" doc:"Raise when the change is less than this: -2 is a fall by more than 2."`
}

// SetDefaults fills what a rule of a file has where the file says nothing.
func (r *Rule) SetDefaults() { r.On, r.Severity = OnMessages, "warning" }

// Enables reports whether the rule is switched on.
func (r *Rule) Enables() bool { return r.Enabled == nil || *r.Enabled }

var (
	ruleName    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)
	placeholder = regexp.MustCompile(`\{[^{}]*\}`)
)

func severities() []string { return []string{"info", "warning", "error", "critical"} }

// compile makes the engine's rule, or reports every fault by its key.
func (r *Rule) compile() (*engine.Rule, []error) {
	errs := r.check()
	out := &engine.Rule{
		Name: r.Name, Severity: r.Severity, Summary: r.Summary, Device: r.Device, Channel: r.Channel,
		For: r.For, ClearFor: r.ClearFor, OnChange: r.OnChange, Silent: r.Silent, Window: r.Window, Running: r.Running,
	}
	switch r.On {
	case OnAggregates:
		out.On = engine.Aggregates
	case OnCritical:
		out.On = engine.Critical
	}
	if out.Severity == "" {
		out.Severity = "warning"
	}
	if r.Rate != nil {
		out.Rate = &engine.Rate{Per: r.Rate.Per, Above: r.Rate.Above, Below: r.Rate.Below}
	}
	for _, c := range []struct {
		key, expr string
		into      **engine.Condition
	}{{"condition", r.Condition, &out.Condition}, {"clear", r.Clear, &out.Clear}} {
		condition, err := engine.Compile(out.On, r.OnChange, c.expr)
		for _, one := range separate(err) {
			errs = append(errs, fmt.Errorf("%s: %w", c.key, one))
		}
		for _, name := range condition.References() {
			errs = append(errs, fmt.Errorf("%s: reference.%s: rules cannot look at reference data; let the router set a property from it", c.key, name))
		}
		*c.into = condition
	}
	return out, errs
}

// separate returns the errors that were joined to err, so that each is reported under its key.
func separate(err error) []error {
	var joined interface{ Unwrap() []error }
	switch {
	case err == nil:
		return nil
	case errors.As(err, &joined):
		return joined.Unwrap()
	}
	return []error{err}
}

// check reports what is wrong beside the conditions.
func (r *Rule) check() []error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !ruleName.MatchString(r.Name) {
		fault("name: %q, want up to 63 letters, digits, ., - and _, the first a letter or digit", r.Name)
	}
	if on := []string{"", OnMessages, OnAggregates, OnCritical}; !slices.Contains(on, r.On) {
		fault("on: %q, want messages, aggregates or critical", r.On)
	}
	if r.Severity != "" && !slices.Contains(severities(), r.Severity) {
		fault("severity: %q, want %s", r.Severity, strings.Join(severities(), ", "))
	}
	for _, g := range []struct{ key, glob string }{{"device", r.Device}, {"channel", r.Channel}} {
		if len(g.glob) > GlobBytesMax {
			fault("%s: %d bytes, want at most %d", g.key, len(g.glob), GlobBytesMax)
		}
	}
	for _, d := range []struct {
		key string
		d   time.Duration
	}{{"for", r.For}, {"clear_for", r.ClearFor}, {"silent", r.Silent}, {"window", r.Window}} {
		if d.d < 0 || d.d > DurationMax {
			fault("%s: %v, want 0s to 366d", d.key, d.d)
		}
	}
	if len(r.Summary) > SummaryBytesMax {
		fault("summary: %d bytes, want at most %d", len(r.Summary), SummaryBytesMax)
	}
	for _, p := range placeholder.FindAllString(r.Summary, -1) {
		if !slices.Contains([]string{"{rule}", "{device}", "{channel}", "{value}", "{old}"}, p) {
			fault("summary: %s, want {rule}, {device}, {channel}, {value} or {old}", p)
		}
	}
	return append(append(errs, r.checkRate()...), r.checkSort()...)
}

func (r *Rule) checkRate() []error {
	if r.Rate == nil {
		return nil
	}
	var errs []error
	if r.Rate.Per <= 0 || r.Rate.Per > DurationMax {
		errs = append(errs, fmt.Errorf("rate.per: %v, want more than 0s, up to 366d", r.Rate.Per))
	}
	if r.Rate.Above == nil && r.Rate.Below == nil {
		errs = append(errs, errors.New("rate: neither above nor below is given, want at least one"))
	}
	return errs
}

// checkSort reports keys that say nothing for the rule's sort, and those that it needs.
func (r *Rule) checkSort() []error {
	var errs []error
	sort, sorts := "", 0
	for _, s := range []struct {
		name string
		is   bool
	}{{"on: aggregates", r.On == OnAggregates}, {"on: critical", r.On == OnCritical}, {"on_change", r.OnChange}, {"silent", r.Silent != 0}, {"rate", r.Rate != nil}} {
		if !s.is {
			continue
		}
		if sorts++; sorts > 1 {
			errs = append(errs, fmt.Errorf("%s: the rule is of the sort %q already, want one rule for each", strings.TrimPrefix(s.name, "on: "), sort))
			continue
		}
		sort = s.name
	}
	refuse := func(key string, given bool, sortsWithout ...string) {
		if given && slices.Contains(sortsWithout, sort) {
			errs = append(errs, fmt.Errorf("%s: says nothing for a rule of the sort %q", key, sort))
		}
	}
	refuse("for", r.For != 0, "on: critical", "on_change", "silent")
	refuse("clear", r.Clear != "", "on: critical", "silent")
	refuse("channel", r.Channel != "", "on: critical")
	refuse("window", r.Window != 0, "", "on: critical", "on_change", "silent", "rate")
	refuse("running", r.Running, "", "on: critical", "on_change", "silent", "rate")
	if strings.TrimSpace(r.Condition) == "" && (sort == "" || sort == "on: aggregates") {
		errs = append(errs, errors.New("condition: it is empty, want CEL such as value > 39"))
	}
	if sort == "on: aggregates" && r.Window == 0 {
		errs = append(errs, errors.New("window: missing, want the length of the windows, such as 10s"))
	}
	return errs
}
