package alerting

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millrace/millrace/services/alerting/internal/engine"
)

// Limits of the configuration.
const (
	RulesMax      = 10_000
	TargetsMax    = 64
	MaxTrackedMax = 10_000_000
	FlapMaxMax    = 1000
)

// Config says what raises alarms, and who is told.
type Config struct {
	Rules       []Rule        `yaml:"rules" doc:"The rules. A list that is given takes the place of the default ones, which fit the devices of the demo."`
	Flap        Flap          `yaml:"flap" doc:"When an alarm counts as flapping."`
	Notify      []Target      `yaml:"notify" doc:"Who is told of alarms; each change at least once."`
	MaxTracked  int           `yaml:"max_tracked" doc:"How many devices' channels all rules together follow. Beyond it those that are idle and were heard longest ago give way; where none is idle, new ones are not followed, counted and logged."`
	CommitEvery time.Duration `yaml:"commit_every" doc:"How long changes may gather before they are written and published; the first after a pause is at once."`
}

// Flap damps alarms that come and go: one that is raised for the Max-th time within Window stays raised, and clears only after
// Window of calm. Rules on change are never damped.
type Flap struct {
	Window time.Duration `yaml:"window" doc:"Time within which an alarm may be raised max times."`
	Max    int           `yaml:"max" doc:"How many times; 0 damps nothing."`
}

// DefaultConfig returns the defaults: rules that fit the demo, told to the log.
func DefaultConfig() Config {
	return Config{
		Rules:       defaultRules(),
		Flap:        Flap{Window: 10 * time.Minute, Max: 5},
		Notify:      []Target{{Name: "log", Log: true, MinSeverity: "info"}},
		MaxTracked:  engine.TracksMaxDefault,
		CommitEvery: 200 * time.Millisecond,
	}
}

func defaultRules() []Rule {
	up, down := 1.5, -1.5
	return []Rule{
		{
			Name: "panel-alarm", On: OnMessages, Channel: "status@secvest", Severity: "critical",
			Condition: `json.Partitions.exists(p, p.state == "alarm")`, Summary: "The alarm panel {device} is in alarm",
		},
		{
			Name: "window-open", On: OnMessages, Channel: "window", Condition: `channelValue == "open"`, For: 2 * time.Minute,
			Severity: "warning", Summary: "{device} has been open for two minutes",
		},
		{
			Name: "strong-wind", On: OnAggregates, Channel: "wind_speed", Window: 10 * time.Second, Running: true,
			Condition: "max > 20", Clear: "max < 15", Severity: "warning", Summary: "Gusts of {value} m/s at {device}",
		},
		{
			Name: "thermostat-high", On: OnMessages, Device: "thermostat-*", Channel: "temperature", Condition: "hasValue && value > 39",
			For: 10 * time.Second, Clear: "hasValue && value < 38", Severity: "error", Summary: "{device} is too warm: {value} °C",
		},
		{
			Name: "thermostat-rate", On: OnMessages, Device: "thermostat-*", Channel: "temperature",
			Rate: &Rate{Per: 30 * time.Second, Above: &up, Below: &down}, ClearFor: 10 * time.Second,
			Severity: "warning", Summary: "{device} changes by more than 1.5 °C in 30 s, now {value} °C",
		},
		{
			Name: "motion", On: OnMessages, Channel: "motion", OnChange: true, Condition: `new == "true"`, Severity: "info",
			Summary: "{device} sees something move",
		},
		{
			Name: "critical-log", On: OnCritical, ClearFor: 10 * time.Minute, Severity: "critical", Summary: "{device}: {value}",
		},
		{
			Name: "device-silent", On: OnMessages, Silent: time.Minute, Severity: "warning",
			Summary: "{device} has sent nothing since {value}",
		},
	}
}

// Validate reports every fault by its key.
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Rules) > RulesMax {
		fault("rules: %d rules, want at most %d", len(c.Rules), RulesMax)
	}
	for i := range c.Rules {
		r := &c.Rules[i]
		_, faults := r.compile()
		for _, err := range faults {
			fault("rules[%d].%w", i, err)
		}
		if slices.ContainsFunc(c.Rules[:i], func(o Rule) bool { return o.Name == r.Name }) {
			fault("rules[%d].name: %q is the name of another rule too", i, r.Name)
		}
	}
	if len(c.Notify) > TargetsMax {
		fault("notify: %d targets, want at most %d", len(c.Notify), TargetsMax)
	}
	for i := range c.Notify {
		t := &c.Notify[i]
		for _, err := range t.check() {
			fault("notify[%d].%w", i, err)
		}
		if slices.ContainsFunc(c.Notify[:i], func(o Target) bool { return o.Name == t.Name }) {
			fault("notify[%d].name: %q is the name of another target too", i, t.Name)
		}
	}
	if c.Flap.Window < 0 || c.Flap.Window > DurationMax {
		fault("flap.window: %v, want 0s to 366d", c.Flap.Window)
	}
	if c.Flap.Max < 0 || c.Flap.Max > FlapMaxMax {
		fault("flap.max: %d, want 0 to %d", c.Flap.Max, FlapMaxMax)
	}
	if c.MaxTracked < 1 || c.MaxTracked > MaxTrackedMax {
		fault("max_tracked: %d, want 1 to %d", c.MaxTracked, MaxTrackedMax)
	}
	if c.CommitEvery < 0 || c.CommitEvery > time.Minute {
		fault("commit_every: %v, want 0s to 1m", c.CommitEvery)
	}
	return errors.Join(errs...)
}

// compiled returns the rules that are switched on, as the engine takes them.
func (c Config) compiled() ([]*engine.Rule, error) {
	var out []*engine.Rule
	for i := range c.Rules {
		if !c.Rules[i].Enables() {
			continue
		}
		r, faults := c.Rules[i].compile()
		if err := errors.Join(faults...); err != nil {
			return nil, fmt.Errorf("rules[%d]: %w", i, err)
		}
		out = append(out, r)
	}
	return out, nil
}
