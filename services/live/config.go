package live

import (
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/pkg/feed"
)

// Config says what live serves and within which limits.
type Config struct {
	HTTP  HTTPConfig  `yaml:"http" doc:"The listener of the worker on its own; within millrace run there is one listener for everything, see http."`
	Feed  feed.Config `yaml:"feed" doc:"Limits of those who follow live."`
	SSE   SSEConfig   `yaml:"sse" doc:"Server-sent events, GET /v1/live."`
	Query QueryConfig `yaml:"query" doc:"Limits of the query API."`
	NATS  bool        `yaml:"nats" doc:"Publish events on the NATS subjects live.<stream>.<device>.<channel> as well; several live workers share that out among them."`
	Page  bool        `yaml:"page" doc:"Serve the page at /."`
}

// HTTPConfig is a listener.
type HTTPConfig struct {
	Addr string `yaml:"addr" doc:"Address to listen on."`
	Cert string `yaml:"cert" doc:"File of the TLS certificate; without it there is no TLS."`
	Key  string `yaml:"key" doc:"File of the key of cert."`
}

// SSEConfig sets the pace of server-sent events.
type SSEConfig struct {
	Heartbeat    time.Duration `yaml:"heartbeat" doc:"How often a stream on which nothing happens sends a comment, so that proxies keep it and the dead are noticed."`
	WriteTimeout time.Duration `yaml:"write_timeout" doc:"How long a subscriber may take nothing before its connection is cut; it may come back to where it was."`
}

// QueryConfig limits queries.
type QueryConfig struct {
	MaxRows    int           `yaml:"max_rows" doc:"Rows in the answer to one SQL query; the answer says when there were more."`
	MaxTimeout time.Duration `yaml:"max_timeout" doc:"How long one query may run."`
	PageRows   int           `yaml:"page_rows" doc:"Most rows in one answer of the other resources; the rest is had by its cursor."`
	AckWait    time.Duration `yaml:"ack_wait" doc:"How long the answer to an acknowledgement waits for the alarm to show it (200); after that it is 202."`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		HTTP:  HTTPConfig{Addr: "127.0.0.1:8081"},
		Feed:  feed.DefaultConfig(),
		SSE:   SSEConfig{Heartbeat: 15 * time.Second, WriteTimeout: 10 * time.Second},
		Query: QueryConfig{MaxRows: 100_000, MaxTimeout: 30 * time.Second, PageRows: 10_000, AckWait: 2 * time.Second},
		NATS:  true,
		Page:  true,
	}
}

// Validate reports every fault by its key. Feed's own are reported by its Validate.
func (c Config) Validate() error {
	var errs []error
	between := func(key string, d, low, high time.Duration) {
		if d < low || d > high {
			errs = append(errs, fmt.Errorf("%s: %v, want %v to %v", key, d, low, high))
		}
	}
	between("sse.heartbeat", c.SSE.Heartbeat, time.Second, 5*time.Minute)
	between("sse.write_timeout", c.SSE.WriteTimeout, time.Second, 5*time.Minute)
	between("query.max_timeout", c.Query.MaxTimeout, 100*time.Millisecond, 10*time.Minute)
	between("query.ack_wait", c.Query.AckWait, 0, time.Minute)
	const rowsMax, pageMax = 10_000_000, 100_000
	if c.Query.MaxRows < 1 || c.Query.MaxRows > rowsMax {
		errs = append(errs, fmt.Errorf("query.max_rows: %d, want 1 to %d", c.Query.MaxRows, rowsMax))
	}
	if c.Query.PageRows < 1 || c.Query.PageRows > pageMax {
		errs = append(errs, fmt.Errorf("query.page_rows: %d, want 1 to %d", c.Query.PageRows, pageMax))
	}
	if (c.HTTP.Cert == "") != (c.HTTP.Key == "") {
		errs = append(errs, errors.New("http.key: cert and key belong together"))
	}
	return errors.Join(errs...)
}
