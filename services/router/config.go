package router

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/rules"
)

// Limits of the configuration.
const (
	RoutesMax       = 10_000
	TopicsMax       = 64 // different endpoints of all routes together
	RepeatWindowMax = 1 << 16
	DevicesMax      = 10_000_000
)

// Config says what goes where.
type Config struct {
	Routes       []Route       `yaml:"routes" doc:"Your routes, beside the built-in ones: channel (to telemetry), log (to logs) and event (to events). A route that bears the name of a built-in one takes its place."`
	Fallback     []string      `yaml:"fallback" doc:"Endpoints of the messages that no route wants, and of those on which a condition failed and no other route took to telemetry, logs or events."`
	Reference    []Reference   `yaml:"reference" doc:"Reference data, with which messages are enriched and which conditions may look at."`
	RepeatWindow int           `yaml:"repeat_window" doc:"How many of its last message ids are remembered of each device, to drop what it sends again; 0 drops nothing."`
	MaxDevices   int           `yaml:"max_devices" doc:"Of how many devices ids are remembered; beyond it those that were silent for longest are forgotten. One takes up to 8 bytes an id."`
	WarmRecords  int           `yaml:"warm_records" doc:"How many records of each partition are read again after a start to remember the ids in them."`
	CommitEvery  time.Duration `yaml:"commit_every" doc:"How long routed messages may gather before they are appended; 0 appends whenever nothing more is at hand."`
}

// Route sends the messages for which its condition holds to endpoints. A message goes to each endpoint once, however many
// routes name it.
type Route struct {
	Name      string   `yaml:"name" doc:"Name of the route in metrics and logs; each is there once."`
	Source    string   `yaml:"source" doc:"The topic that is routed; there is only ingested, which is also the default."`
	Condition string   `yaml:"condition" doc:"CEL over the message, such as kind == \"channel\" && channelKey == \"temperature\" && value > 30; empty means every message."`
	Endpoints []string `yaml:"endpoints" doc:"Topics to which the message goes: telemetry, logs, events, or names of your own, which are made."`
	Enabled   *bool    `yaml:"enabled" doc:"false switches the route off."`
}

// SetDefaults fills what a route of a file has where the file says nothing.
func (r *Route) SetDefaults() { r.Source = bus.Ingested }

// On reports whether the route is switched on.
func (r *Route) On() bool { return r.Enabled == nil || *r.Enabled }

// DefaultConfig returns the defaults: the built-in routes alone.
func DefaultConfig() Config {
	return Config{
		Fallback:     []string{bus.Events},
		RepeatWindow: 128,
		MaxDevices:   100_000,
		WarmRecords:  50_000,
	}
}

// AllRoutes returns the built-in routes and those of the configuration, which replace built-in ones of the same name.
func (c Config) AllRoutes() []Route {
	builtin := []Route{
		{Name: "channel", Condition: `kind == "channel"`, Endpoints: []string{bus.Telemetry}},
		{Name: "log", Condition: `kind == "log"`, Endpoints: []string{bus.Logs}},
		{Name: "event", Condition: `kind == "event"`, Endpoints: []string{bus.Events}},
	}
	builtin = slices.DeleteFunc(builtin, func(b Route) bool {
		return slices.ContainsFunc(c.Routes, func(r Route) bool { return r.Name == b.Name })
	})
	return append(builtin, c.Routes...)
}

// Topics returns the endpoints that are not Millrace's own topics, sorted: the bus must be opened with them.
func (c Config) Topics() []string {
	var topics []string
	for _, topic := range c.endpoints() {
		if !slices.Contains(bus.Topics(), topic) {
			topics = append(topics, topic)
		}
	}
	slices.Sort(topics)
	return topics
}

// endpoints returns every endpoint once: those of routes that are switched on, then the fallback's.
func (c Config) endpoints() []string {
	var topics []string
	add := func(endpoints []string) {
		for _, e := range endpoints {
			if !slices.Contains(topics, e) {
				topics = append(topics, e)
			}
		}
	}
	for _, r := range c.AllRoutes() {
		if r.On() {
			add(r.Endpoints)
		}
	}
	add(c.Fallback)
	return topics
}

// Validate reports every fault by its key.
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Routes) > RoutesMax {
		fault("routes: %d routes, want at most %d", len(c.Routes), RoutesMax)
	}
	for i, r := range c.Routes {
		key := fmt.Sprintf("routes[%d]", i)
		errs = append(errs, c.checkRoute(key, r)...)
		if slices.ContainsFunc(c.Routes[:i], func(o Route) bool { return o.Name == r.Name }) {
			fault("%s.name: %q is the name of another route too", key, r.Name)
		}
	}
	errs = append(errs, checkEndpoints("fallback", c.Fallback)...)
	if n := len(c.endpoints()); n > TopicsMax {
		fault("routes: they name %d different endpoints, want at most %d", n, TopicsMax)
	}
	for i, r := range c.Reference {
		key := fmt.Sprintf("reference[%d]", i)
		errs = append(errs, checkReference(key, r)...)
		if slices.ContainsFunc(c.Reference[:i], func(o Reference) bool { return o.Name == r.Name }) {
			fault("%s.name: %q is the name of other reference data too", key, r.Name)
		}
	}
	if c.RepeatWindow < 0 || c.RepeatWindow > RepeatWindowMax {
		fault("repeat_window: %d, want 0 to %d", c.RepeatWindow, RepeatWindowMax)
	}
	if c.MaxDevices < 1 || c.MaxDevices > DevicesMax {
		fault("max_devices: %d, want 1 to %d", c.MaxDevices, DevicesMax)
	}
	if c.WarmRecords < 0 {
		fault("warm_records: %d, want 0 or more", c.WarmRecords)
	}
	if c.CommitEvery < 0 {
		fault("commit_every: %v, want 0 or more", c.CommitEvery)
	}
	return errors.Join(errs...)
}

func (c Config) checkRoute(key string, r Route) []error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(key+"."+format, args...)) }
	if r.Name == "" {
		fault("name: it is empty, want a name")
	}
	if r.Source != "" && r.Source != bus.Ingested {
		fault("source: %q, want %s", r.Source, bus.Ingested)
	}
	errs = append(errs, checkEndpoints(key+".endpoints", r.Endpoints)...)
	if r.Condition == "" {
		return errs
	}
	condition, err := rules.CompileMessage(r.Condition)
	if err != nil {
		for _, one := range separate(err) {
			fault("condition: %w", one)
		}
		return errs
	}
	for _, name := range condition.References() {
		if !slices.ContainsFunc(c.Reference, func(r Reference) bool { return r.Name == name }) {
			fault("condition: there is no reference data %q", name)
		}
	}
	return errs
}

// separate returns the errors that were joined to err, so that each is reported under its key.
func separate(err error) []error {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()
	}
	return []error{err}
}

var topicName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// homes returns the topics of which a message has exactly one, however many routes name several: their readers keep what they
// hold, and would keep it twice.
func homes() []string { return []string{bus.Telemetry, bus.Logs, bus.Events} }

func checkEndpoints(key string, endpoints []string) []error {
	var errs []error
	if len(endpoints) == 0 {
		errs = append(errs, fmt.Errorf("%s: none, want at least one topic", key))
	}
	for i, e := range endpoints {
		switch {
		case slices.Contains(homes(), e):
		case slices.Contains(bus.Topics(), e):
			// Others write these, or they hold something else; a second writer would break the order of origins.
			errs = append(errs, fmt.Errorf("%s[%d]: %q is written by Millrace itself, want telemetry, logs, events or a name of your own", key, i, e))
		case !topicName.MatchString(e):
			errs = append(errs, fmt.Errorf("%s[%d]: %q, want up to 63 lower-case letters, digits, - and _, the first a letter or digit", key, i, e))
		}
	}
	if named := slices.DeleteFunc(slices.Clone(endpoints), func(e string) bool { return !slices.Contains(homes(), e) }); len(named) > 1 {
		errs = append(errs, fmt.Errorf("%s: names %s, want at most one of telemetry, logs and events: a message has one home", key, strings.Join(named, " and ")))
	}
	return errs
}
