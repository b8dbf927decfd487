package aggregator

import (
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/services/aggregator/internal/window"
)

// Config says which windows are computed and for how long they wait. A change of windows takes effect with a restart: windows
// of a spec that is gone are written with what they hold, those of a new one begin with the next message.
type Config struct {
	Windows       []WindowSpec  `yaml:"windows" doc:"The windows that are computed of every numeric channel; a list replaces the default one, tumbling windows of 10s, 1m and 1h."`
	Lateness      time.Duration `yaml:"lateness" doc:"How far a device's clock must have passed the end of a window before it closes; of a silent device the time of ingest counts."`
	CorrectWithin time.Duration `yaml:"correct_within" doc:"How late after that, by the device's clock, a message still corrects its window; later ones are in history only. 0 corrects nothing."`
	RunningEvery  time.Duration `yaml:"running_every" doc:"How often the running values of open windows are published, at best once a second; 0 publishes none."`
	RunningMax    int           `yaml:"running_max" doc:"Most running values that a share publishes at once; the other windows follow with the next time."`
	CommitEvery   time.Duration `yaml:"commit_every" doc:"How long rows may gather before they are written together with the state of the open windows."`
	DevicesMax    int           `yaml:"devices_max" doc:"Most devices of a share that are kept in memory; messages of others are merged into the stored windows one by one, which is slower, and make no sessions."`
	ChannelsMax   int           `yaml:"channels_max" doc:"Most channels of a device that are kept in memory; messages of others are merged likewise."`
	WindowsMax    int           `yaml:"windows_max" doc:"Most open windows of a share (200 bytes to some kilobytes each); messages for others are merged likewise."`
}

// WindowSpec is one series of windows.
type WindowSpec struct {
	Kind   string        `yaml:"kind" enum:"tumbling|hopping|session" doc:"tumbling: one after the other. hopping: one begins every hop. session: from a message until none has followed for a gap."`
	Length time.Duration `yaml:"length" doc:"How long a tumbling or hopping window is; windows are aligned to 1970-01-01 UTC."`
	Hop    time.Duration `yaml:"hop" doc:"How often a hopping window begins."`
	Gap    time.Duration `yaml:"gap" doc:"How long a channel must be silent to end a session. What is later than lateness joins no session that has closed."`
}

// SetDefaults fills what a window of a file has where the file says nothing.
func (w *WindowSpec) SetDefaults() { w.Kind = "tumbling" }

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	tumbling := func(length time.Duration) WindowSpec { return WindowSpec{Kind: "tumbling", Length: length} }
	return Config{
		Windows:       []WindowSpec{tumbling(10 * time.Second), tumbling(time.Minute), tumbling(time.Hour)},
		Lateness:      30 * time.Second,
		CorrectWithin: time.Hour,
		RunningEvery:  time.Second,
		RunningMax:    4096,
		CommitEvery:   time.Second,
		DevicesMax:    100_000,
		ChannelsMax:   1000,
		WindowsMax:    1_000_000,
	}
}

// The limits of a configuration.
const (
	specsMax     = 16
	lengthMin    = 100 * time.Millisecond
	lengthMax    = 31 * 24 * time.Hour
	overlapMax   = 64 // hopping windows that hold one record
	latenessMax  = 24 * time.Hour
	correctMax   = 7 * 24 * time.Hour
	commitMax    = time.Minute
	stateReserve = 10 * time.Minute // that states are kept beyond what corrections need
)

// Validate reports every fault by its key.
func (c Config) Validate() error {
	var errs []error
	duration := func(key string, d, least, most time.Duration) {
		if d < least || d > most {
			errs = append(errs, fmt.Errorf("%s: %v, want %v to %v", key, d, least, most))
		}
	}
	number := func(key string, n, most int) {
		if n < 1 || n > most {
			errs = append(errs, fmt.Errorf("%s: %d, want 1 to %d", key, n, most))
		}
	}
	if len(c.Windows) == 0 || len(c.Windows) > specsMax {
		errs = append(errs, fmt.Errorf("windows: %d of them, want 1 to %d", len(c.Windows), specsMax))
	}
	lengths := make(map[time.Duration]int)
	for i, w := range c.Windows {
		key := fmt.Sprintf("windows[%d]", i)
		errs = append(errs, w.validate(key))
		// The key of a row is its start and length: two series must not write the same.
		length := max(w.Length, w.Gap)
		if other, twice := lengths[length]; twice {
			errs = append(errs, fmt.Errorf("%s: windows[%d] has the same length or gap, %v", key, other, length))
		}
		lengths[length] = i
	}
	duration("lateness", c.Lateness, 0, latenessMax)
	duration("correct_within", c.CorrectWithin, 0, correctMax)
	duration("running_every", c.RunningEvery, 0, time.Hour)
	duration("commit_every", c.CommitEvery, 0, commitMax)
	number("running_max", c.RunningMax, 1_000_000)
	number("devices_max", c.DevicesMax, 10_000_000)
	number("channels_max", c.ChannelsMax, 1_000_000)
	number("windows_max", c.WindowsMax, 100_000_000)
	return errors.Join(errs...)
}

func (w WindowSpec) validate(key string) error {
	var errs []error
	within := func(part string, d, least, most time.Duration) {
		if d < least || d > most {
			errs = append(errs, fmt.Errorf("%s.%s: %v, want %v to %v", key, part, d, least, most))
		}
	}
	unused := func(part string, d time.Duration) {
		if d != 0 {
			errs = append(errs, fmt.Errorf("%s.%s: %v, want none for kind %s", key, part, d, w.Kind))
		}
	}
	switch w.Kind {
	case "tumbling":
		within("length", w.Length, lengthMin, lengthMax)
		unused("hop", w.Hop)
		unused("gap", w.Gap)
	case "hopping":
		within("length", w.Length, lengthMin, lengthMax)
		within("hop", w.Hop, max(lengthMin, (w.Length+overlapMax-1)/overlapMax), w.Length)
		unused("gap", w.Gap)
	case "session":
		within("gap", w.Gap, lengthMin, lengthMax)
		unused("length", w.Length)
		unused("hop", w.Hop)
	default:
		errs = append(errs, fmt.Errorf("%s.kind: %q, want tumbling, hopping or session", key, w.Kind))
	}
	return errors.Join(errs...)
}

// stateAge is how long the state of a window is kept after its end or its last change.
func (c Config) stateAge() time.Duration { return c.CorrectWithin + c.Lateness + stateReserve }

func (c Config) windows() window.Config {
	w := window.Config{
		Lateness: c.Lateness, CorrectWithin: c.CorrectWithin, RunningEvery: c.RunningEvery, RunningMax: c.RunningMax,
		DevicesMax: c.DevicesMax, ChannelsMax: c.ChannelsMax, WindowsMax: c.WindowsMax,
	}
	for _, s := range c.Windows {
		spec := window.Spec{Kind: window.Tumbling, Length: s.Length, Hop: s.Hop, Gap: s.Gap}
		switch s.Kind {
		case "hopping":
			spec.Kind = window.Hopping
		case "session":
			spec.Kind = window.Session
		}
		w.Specs = append(w.Specs, spec)
	}
	return w
}
