package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/bus"
)

// The values that a zero Config stands for.
const (
	defaultPartitions     = 4
	defaultRecordBytesMax = 512 << 10
	defaultBatchBytesMax  = 1_000_000 // Kafka's own limit is 1,048,588 for a batch
	defaultDedupeWindow   = 30 * time.Second
	defaultLease          = 15 * time.Second
	leaseMin              = 6 * time.Second // brokers' group.min.session.timeout.ms
	leaseMax              = 30 * time.Minute
	batchBytesLimit       = 16 << 20
	defaultPrefix         = "millrace."
	urlScheme             = "kafka://"

	requestTimeout = 10 * time.Second
	publishTimeout = 10 * time.Second // for the client; the broker gives up a little earlier
)

// The mechanisms of Config.SASL.
const (
	Plain       = "PLAIN"
	ScramSHA256 = "SCRAM-SHA-256"
	ScramSHA512 = "SCRAM-SHA-512"
)

// Retention is bus.Retention. Its BytesMax is measured in compressed bytes, as the number of records there are times the size of those
// that this process appended lately: exact where records are alike.
type Retention = bus.Retention

// Config says where the log is and how it is laid out. URL and Now must be set.
type Config struct {
	URL      string // "kafka://host:port,host:port": some of the brokers, which name the others
	SASL     string // Plain, ScramSHA256 or ScramSHA512; "" means none, or ScramSHA512 where there is a User
	User     string
	Password string
	TLS      *tls.Config // nil means none. A server name that is empty becomes that of each broker
	// Dial opens a connection; nil means a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	Prefix     string              // of topics and groups; "" means "millrace."
	Partitions int                 // of every topic; 0 means 4. What exists cannot be changed: Open returns an error
	Topics     []string            // beyond bus.Topics
	Readers    map[string][]string // groups by topic, which hold the topic's records before they have ever joined
	Retention  Retention

	// CreateTopics makes Open create what is missing. Without it Open returns an error that says how to.
	CreateTopics bool
	Replicas     int // of the topics that Open creates; 0 means 3, or as many as there are brokers

	Compression    Compression   // of what is appended; "" means zstd
	RecordBytesMax int           // larger values are ErrTooLarge; 0 means 512 KiB, at most BatchBytesMax less 1 KiB
	BatchBytesMax  int           // of one append, before compression; more goes in several. 0 means 1,000,000
	DedupeWindow   time.Duration // within which equal records after an unknown outcome are taken for a repeated append; 0 means 30 s
	Lease          time.Duration // how long after a member's death others take over: the session timeout; 0 means 15 s, at least 6 s

	// Trim makes this process trim what is read, every 30 s. One process of a deployment is enough; several do no harm.
	Trim bool

	Log     *slog.Logger // nil logs nothing
	Now     func() time.Time
	Metrics prometheus.Registerer // nil registers nothing
}

var (
	topicSyntax  = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	prefixSyntax = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
)

func (c Config) withDefaults() Config {
	c.Partitions = orDefault(c.Partitions, defaultPartitions)
	c.Retention = c.Retention.WithDefaults()
	c.BatchBytesMax = orDefault(c.BatchBytesMax, defaultBatchBytesMax)
	c.RecordBytesMax = orDefault(c.RecordBytesMax, min(c.BatchBytesMax-batchOverheadBytes, defaultRecordBytesMax))
	c.DedupeWindow = orDefault(c.DedupeWindow, defaultDedupeWindow)
	c.Lease = orDefault(c.Lease, defaultLease)
	c.Compression = orDefault(c.Compression, Zstd)
	c.Prefix = orDefault(c.Prefix, defaultPrefix)
	if c.SASL == "" && c.User != "" {
		c.SASL = ScramSHA512
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}).DialContext
	}
	return c
}

func orDefault[T comparable](v, byDefault T) T {
	var zero T
	if v == zero {
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
	if _, err := c.brokers(); err != nil {
		errs = append(errs, err)
	}
	fault(c.Now != nil, "now: nil, want a clock")
	fault(slices.Contains([]string{"", Plain, ScramSHA256, ScramSHA512}, c.SASL), "sasl: %q, want %s, %s or %s", c.SASL, Plain, ScramSHA256, ScramSHA512)
	fault(c.SASL == "" || c.User != "", "user: empty, want one for %s", c.SASL)
	fault(prefixSyntax.MatchString(c.Prefix), "prefix: %q, want 1 to 64 of A-Z a-z 0-9 . _ -", c.Prefix)
	fault(c.Partitions > 0 && c.Partitions <= 1024, "partitions: %d, want 1 to 1024", c.Partitions)
	for _, topic := range c.Topics {
		fault(topicSyntax.MatchString(topic), "topics: %q, want 1 to 64 of A-Z a-z 0-9 _ -", topic)
	}
	fault(c.Replicas >= 0 && c.Replicas <= 32, "replicas: %d, want 0 to 32", c.Replicas)
	fault(c.Compression.known(), "compression: %q, want %s, %s, %s or %s", c.Compression, Zstd, Lz4, Snappy, None)
	fault(c.Retention.Age > 0, "retention.age: %v, want more than 0", c.Retention.Age)
	fault(c.Retention.Books > 0, "retention.books: %v, want more than 0", c.Retention.Books)
	fault(c.Retention.BytesMax > 0, "retention.bytes_max: %d, want more than 0", c.Retention.BytesMax)
	fault(c.BatchBytesMax > 2*batchOverheadBytes && c.BatchBytesMax <= batchBytesLimit, "batch_bytes_max: %d, want %d to %d",
		c.BatchBytesMax, 2*batchOverheadBytes, batchBytesLimit)
	fault(c.RecordBytesMax > 0 && c.RecordBytesMax <= c.BatchBytesMax-batchOverheadBytes,
		"record_bytes_max: %d, want 1 to batch_bytes_max less %d (%d)", c.RecordBytesMax, batchOverheadBytes, c.BatchBytesMax-batchOverheadBytes)
	fault(c.DedupeWindow >= time.Second, "dedupe_window: %v, want at least 1s", c.DedupeWindow)
	fault(c.Lease >= leaseMin && c.Lease <= leaseMax, "lease: %v, want %v to %v", c.Lease, leaseMin, leaseMax)
	return errors.Join(errs...)
}

// brokers returns the addresses of URL.
func (c Config) brokers() ([]string, error) {
	list, ok := strings.CutPrefix(c.URL, urlScheme)
	if !ok {
		return nil, errors.New("url: want kafka://host:port,host:port without user or password, which have settings of their own")
	}
	var addresses []string
	for address := range strings.SplitSeq(strings.TrimSuffix(list, "/"), ",") {
		host, port, err := net.SplitHostPort(strings.TrimPrefix(address, urlScheme))
		if err != nil || host == "" || port == "" || strings.ContainsAny(host, "@/") {
			return nil, errors.New("url: want kafka://host:port,host:port without user or password, which have settings of their own")
		}
		addresses = append(addresses, net.JoinHostPort(host, port))
	}
	return addresses, nil
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
