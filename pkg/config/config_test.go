package config_test

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/millrace/millrace/pkg/config"
)

// file is a configuration with one of everything.
type file struct {
	Bus    string `yaml:"bus" doc:"Where the bus is."`
	Ingest ingest `yaml:"ingest" doc:"The edge."`
	Router router `yaml:"router" doc:"The router."`
	Tree   tree   `yaml:"tree"`
	Unread func()
}

type ingest struct {
	MQTT    mqtt          `yaml:"mqtt" doc:"The MQTT listener."`
	Token   config.Secret `yaml:"token" doc:"The token of the API."`
	Level   slog.Level    `yaml:"level" doc:"What is logged."`
	From    time.Time     `yaml:"from" doc:"Nothing older is taken."`
	Retry   *retry        `yaml:"retry" doc:"How often to try again."`
	Literal string        `yaml:"literal"`
}

type retry struct {
	Times int           `yaml:"times" doc:"Tries."`
	Wait  time.Duration `yaml:"wait" doc:"Time between tries."`
}

func (r *retry) SetDefaults() { r.Wait = time.Second }

type mqtt struct {
	Addr        string       `yaml:"addr" doc:"Where MQTT listens."`
	MaxMessage  config.Bytes `yaml:"max_message" doc:"The largest message."`
	Connections uint16       `yaml:"connections" doc:"How many connections | at most."`
	TLS         bool         `yaml:"tls" doc:"Whether to speak TLS."`
}

func (m mqtt) Validate() error {
	if m.Addr == "0.0.0.0:8883" && !m.TLS {
		return errors.New("a listener beyond loopback wants tls: true")
	}
	return nil
}

type router struct {
	MaxSkew   time.Duration       `yaml:"max_skew" doc:"How far a clock may be ahead."`
	Share     float64             `yaml:"share"`
	Mode      string              `yaml:"mode" enum:"fast|safe" doc:"How to write."`
	Routes    []route             `yaml:"routes" doc:"Who gets what."`
	Endpoints map[string]endpoint `yaml:"endpoints" doc:"Where to."`
	Labels    map[string]string   `yaml:"labels"`
	Ports     map[int]string      `yaml:"ports"`
	Cache     `yaml:",inline"`
}

// Cache is inlined into router.
type Cache struct {
	Size int `yaml:"cache_size" doc:"Entries kept."`
}

type route struct {
	Name    string   `yaml:"name" doc:"The route's name."`
	Enabled bool     `yaml:"enabled" doc:"Whether it is in force."`
	To      []string `yaml:"to" doc:"The endpoints."`
}

func (r *route) SetDefaults() { r.Enabled = true }

func (r *route) Validate() error {
	var errs []error
	if r.Name == "" {
		errs = append(errs, errors.New("name: is missing"))
	}
	if len(r.To) == 0 {
		errs = append(errs, errors.New("to: no endpoints, want at least one"))
	}
	return errors.Join(errs...)
}

type endpoint struct {
	URL string `yaml:"url"`
}

func (e endpoint) Validate() error {
	if e.URL == "" {
		return errors.New(`url: "", want a URL`)
	}
	return nil
}

type tree struct {
	Children []tree `yaml:"children"`
}

func (r router) Validate() error {
	var errs []error
	if r.MaxSkew <= 0 {
		errs = append(errs, fmt.Errorf("max_skew: %v, want more than 0", r.MaxSkew))
	}
	for i := range r.Routes { // Load does this as well: it must not be told twice
		if r.Routes[i].Name == "" {
			errs = append(errs, fmt.Errorf("routes[%d].name: is missing", i))
		}
	}
	return errors.Join(errs...)
}

func defaults() file {
	return file{
		Bus: "mem:",
		Ingest: ingest{
			MQTT:    mqtt{Addr: "127.0.0.1:1883", MaxMessage: 256 << 10, Connections: 10_000},
			Literal: "${x}: [a]",
		},
		Router: router{
			MaxSkew: 5 * time.Minute,
			Share:   0.5,
			Mode:    "fast",
			Routes:  []route{{Name: "all", Enabled: true, To: []string{"telemetry"}}},
			Labels:  map[string]string{"site": "a, b"},
			Cache:   Cache{Size: 128},
		},
	}
}
