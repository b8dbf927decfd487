// Package decoding is the part of the configuration that says how the bodies of devices are read. It lies in the section ingest. The edge
// reads bodies by it, and so does whoever puts a repaired body back later, in another process.
package decoding

import (
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/pkg/config"
	"github.com/millrace/millrace/pkg/telemetry"
)

// Config is the keys of the section ingest that matter to a decoder; see DefaultConfig.
type Config struct {
	Limits  Limits  `yaml:"limits"`
	Formats Formats `yaml:"formats"`
	Clock   Clock   `yaml:"clock"`
}

// Limits are those of one message.
type Limits struct {
	MessageBytes config.Bytes `yaml:"message_bytes"` // 0 is no limit
	JSONDepth    int          `yaml:"json_depth"`    // 0 is telemetry.DefaultDepthMax
}

// Formats says how bodies are read.
type Formats struct {
	TimeField    string            `yaml:"time_field" doc:"Member of a body that holds its time, or its path such as meta.ts, beside the names that are known."`
	Zones        map[string]string `yaml:"zones" doc:"Time zone of times without an offset, by device type, such as Europe/Berlin; default is that of all others. UTC where there is none."`
	DecimalComma []string          `yaml:"decimal_comma" doc:"Device types that write 21,5 for 21.5. Of all others such a text stays a text, and is counted."`
}

// Clock says when a device's clock is believed.
type Clock struct {
	MaxSkew time.Duration `yaml:"max_skew" doc:"How far ahead of ours a device's clock may be; further, and a message's time is that of its arrival."`
	MinTime string        `yaml:"min_time" doc:"A device's time before this date is that of a clock that was never set."`
}

const (
	defaultMessageBytes = 256 << 10
	defaultMinTime      = "2001-01-01"
	defaultZone         = "default"
)

// DefaultConfig returns what is in force where the file says nothing.
func DefaultConfig() Config {
	return Config{
		Limits: Limits{MessageBytes: defaultMessageBytes, JSONDepth: telemetry.DefaultDepthMax},
		Clock:  Clock{MaxSkew: telemetry.DefaultMaxSkew, MinTime: defaultMinTime},
	}
}

// Validate reports every fault by its key.
func (c Config) Validate() error {
	_, err := c.Options()
	return err
}

// Options returns how a decoder reads bodies. They count nothing. The error has every fault by its key.
func (c Config) Options() (telemetry.Options, error) {
	o := telemetry.Options{
		DepthMax: c.Limits.JSONDepth, RecordBytesMax: int(c.Limits.MessageBytes), TimeField: c.Formats.TimeField,
		Zone: map[string]*time.Location{}, DecimalComma: map[string]bool{},
		Clock: telemetry.Clock{MaxSkew: c.Clock.MaxSkew},
	}
	var errs []error
	for kind, name := range c.Formats.Zones {
		zone, err := time.LoadLocation(name)
		if err != nil {
			errs = append(errs, fmt.Errorf("formats.zones.%s: %q, want the name of a time zone such as Europe/Berlin", kind, name))
		}
		if kind == defaultZone {
			kind = ""
		}
		o.Zone[kind] = zone
	}
	for _, kind := range c.Formats.DecimalComma {
		o.DecimalComma[kind] = true
	}
	if c.Clock.MaxSkew <= 0 {
		errs = append(errs, fmt.Errorf("clock.max_skew: %v, want more than 0", c.Clock.MaxSkew))
	}
	if c.Clock.MinTime != "" {
		oldest, err := time.Parse(time.DateOnly, c.Clock.MinTime)
		if err != nil {
			errs = append(errs, fmt.Errorf("clock.min_time: %q, want a date such as 2001-01-01", c.Clock.MinTime))
		}
		o.Clock.MinTime = telemetry.At(oldest)
	}
	return o, errors.Join(errs...)
}

// Decoder returns a decoder that reads as Options says.
func (c Config) Decoder() (*telemetry.Decoder, error) {
	o, err := c.Options()
	if err != nil {
		return nil, err
	}
	return telemetry.NewDecoder(o), nil
}
