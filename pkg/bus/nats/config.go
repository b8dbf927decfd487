package nats

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/bus"
)

// The values that a zero Config stands for.
const (
	defaultPartitions     = 4
	defaultFrameBytesMax  = 512 << 10
	defaultRecordBytesMax = 512 << 10
	defaultDedupeWindow   = 30 * time.Second
	defaultLease          = 6 * time.Second
	defaultLeaseCluster   = 15 * time.Second // a cluster takes up to nine seconds to elect a leader, while which nobody can renew
	defaultPrefix         = "MR"
	messageOverheadBytes  = 1 << 10 // what a message has beside its frame: subject and headers
	readBufferBytes       = 4 << 20 // what a reader has asked for ahead of its use
	pingEvery             = 3 * time.Second
	publishTimeout        = 10 * time.Second
	requestTimeout        = 10 * time.Second
)

// Retention is bus.Retention. Its BytesMax is measured in the bytes that the server counts.
type Retention = bus.Retention

// Config says where the log is and how it is laid out. Either URL or Conn must be set.
type Config struct {
	URL  string     // "nats://host:port", several separated by commas
	Conn *nats.Conn // used in place of URL, and left open by Close
	// Options are added to those of a connection by URL: credentials, TLS.
	Options []nats.Option

	Prefix     string              // of streams and buckets; subjects have it in lower case; "" means "MR"
	Partitions int                 // of every topic; 0 means 4. What exists cannot be changed: Open returns an error
	Topics     []string            // beyond bus.Topics
	Readers    map[string][]string // groups by topic, which hold the topic's records before they have ever joined
	Retention  Retention
	// Replicas is how many nodes of a cluster have every stream; 0 means 1, of which Open warns in a cluster. What has more keeps
	// them.
	Replicas int

	FrameBytesMax  int           // 0 means 512 KiB; at most the server's max_payload less 1 KiB
	RecordBytesMax int           // larger values are ErrTooLarge; 0 means FrameBytesMax
	DedupeWindow   time.Duration // within which a repeated append is dropped by the server; 0 means 30 s
	// Lease is how long after a process's death others take over what it owned. 0 means 6 s, and 15 s with several replicas, which
	// take up to 9 s to elect a leader.
	Lease time.Duration

	// Trim makes this process purge what is read, every 30 s. One process of a deployment is enough; several do no harm.
	Trim bool
	// ReadOnly leaves the log as it is: Open creates no stream and no bucket, changes no limit, and returns an error for what is missing.
	// For processes that look on with a configuration which need not be that of the workers.
	ReadOnly bool
	// Synced says that the server is known to sync every append (sync_interval: always). Without it Open warns, since a client
	// cannot see it.
	Synced bool

	// Ends is a file that remembers how far each partition reached, so that Mend knows what the server has lost: for a server whose only
	// appender this process is. "" remembers nothing.
	Ends string

	Log     *slog.Logger // nil logs nothing
	Now     func() time.Time
	Metrics prometheus.Registerer // nil registers nothing
}

var nameSyntax = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func (c Config) withDefaults() Config {
	c.Partitions = orDefault(c.Partitions, defaultPartitions)
	c.Retention = c.Retention.WithDefaults()
	c.Replicas = orDefault(c.Replicas, 1)
	c.FrameBytesMax = orDefault(c.FrameBytesMax, defaultFrameBytesMax)
	c.RecordBytesMax = orDefault(c.RecordBytesMax, min(c.FrameBytesMax, defaultRecordBytesMax))
	c.DedupeWindow = orDefault(c.DedupeWindow, defaultDedupeWindow)
	if c.Replicas > 1 {
		c.Lease = orDefault(c.Lease, defaultLeaseCluster)
	}
	c.Lease = orDefault(c.Lease, defaultLease)
	if c.Prefix == "" {
		c.Prefix = defaultPrefix
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

func orDefault[T int | int64 | time.Duration](v, byDefault T) T {
	if v == 0 {
		return byDefault
	}
	return v
}

// validate reports every fault of a Config that has its defaults.
func (c Config) validate() error {
	var errs []error
	fault := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	fault(c.URL != "" || c.Conn != nil, "url: empty, want nats://host:port")
	fault(c.Now != nil, "now: nil, want a clock")
	fault(nameSyntax.MatchString(c.Prefix), "prefix: %q, want 1 to 64 of A-Z a-z 0-9 _ -", c.Prefix)
	fault(c.Partitions > 0 && c.Partitions <= 1024, "partitions: %d, want 1 to 1024", c.Partitions)
	for _, topic := range c.Topics {
		fault(nameSyntax.MatchString(topic), "topics: %q, want 1 to 64 of A-Z a-z 0-9 _ -", topic)
	}
	fault(c.Retention.Age > 0, "retention.age: %v, want more than 0", c.Retention.Age)
	fault(c.Retention.Books > 0, "retention.books: %v, want more than 0", c.Retention.Books)
	fault(c.Retention.BytesMax >= int64(c.Partitions)*int64(c.FrameBytesMax)*2,
		"retention.bytes_max: %d, want room for two frames of %d bytes in each of %d partitions", c.Retention.BytesMax, c.FrameBytesMax, c.Partitions)
	fault(c.FrameBytesMax > 0 && c.FrameBytesMax <= readBufferBytes/2, "frame_bytes_max: %d, want 1 to %d", c.FrameBytesMax, readBufferBytes/2)
	fault(c.RecordBytesMax > 0 && c.RecordBytesMax <= c.FrameBytesMax,
		"record_bytes_max: %d, want 1 to frame_bytes_max (%d)", c.RecordBytesMax, c.FrameBytesMax)
	fault(c.DedupeWindow >= time.Second, "dedupe_window: %v, want at least 1s", c.DedupeWindow)
	fault(c.Lease >= time.Second, "lease: %v, want at least 1s", c.Lease)
	return errors.Join(errs...)
}

// topics returns all topics, each once.
func (c Config) topics() []string {
	var all []string
	for _, topic := range slices.Concat(bus.Topics(), c.Topics) {
		if !slices.Contains(all, topic) {
			all = append(all, topic)
		}
	}
	return all
}
