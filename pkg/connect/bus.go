package connect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	natsgo "github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/kafka"
	"github.com/millrace/millrace/pkg/bus/nats"
	"github.com/millrace/millrace/pkg/config"
	"github.com/millrace/millrace/pkg/listen"
)

// Embedded is the URL of the log that lives within `millrace run`.
const Embedded = "embedded"

// BusConfig is the section "bus" of the configuration file.
type BusConfig struct {
	URL        string          `yaml:"url" doc:"Where the log is: embedded (within millrace run), nats://host:port or kafka://host:port, several hosts separated by commas."`
	Listen     string          `yaml:"listen" doc:"Where the embedded log takes NATS clients: subscribers of live.> and workers of other processes; empty means nobody."`
	ListenTLS  listen.TLS      `yaml:"listen_tls" doc:"The certificate of bus.listen; without one it speaks without TLS."`
	Partitions int             `yaml:"partitions" doc:"Partitions of every topic; what exists cannot be changed."`
	Retention  RetentionConfig `yaml:"retention" doc:"How long the log keeps what every worker has read; what is unread always stays."`
	Prefix     string          `yaml:"prefix" doc:"What the names of topics, streams and groups begin with; empty means MR at NATS and millrace. at Kafka."`
	Replicas   int             `yaml:"replicas" doc:"Copies of every partition; 0 means 1 at NATS, and 3 at Kafka or as many as there are brokers."`
	Create     bool            `yaml:"create_topics" doc:"Create the topics that Kafka lacks; without it they are named, and how to create them."`
	Lease      time.Duration   `yaml:"lease" doc:"How long after the death of a worker others take over its partitions; Kafka calls it the session timeout. 0 means 6s, and 15s on Kafka, which wants 6s at least, or with replicas."`
	Synced     bool            `yaml:"synced" doc:"The NATS server is known to run with sync_interval: always, which a client cannot see; without it workers warn at start."`
	SASL       string          `yaml:"sasl" doc:"How Kafka is told user and password: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; empty means the last where there is a user."`
	User       string          `yaml:"user" doc:"User name at the server."`
	Password   config.Secret   `yaml:"password" doc:"Password at the server."`
	Token      config.Secret   `yaml:"token" doc:"Token at the NATS server, in place of user and password."`
	Creds      string          `yaml:"credentials" doc:"File of NATS credentials (JWT and seed)."`
	TLS        ClientTLS       `yaml:"tls" doc:"TLS towards the server."`
}

// RetentionConfig says how long the log keeps what has been read.
type RetentionConfig struct {
	Age   time.Duration `yaml:"age" doc:"Age at which read records are trimmed."`
	Books time.Duration `yaml:"books" doc:"Age for the topic books, by which an audit looks back."`
	Bytes config.Bytes  `yaml:"bytes" doc:"Size of one topic at which read records are trimmed, and at which the edge refuses (503, no PUBACK) when they are unread."`
}

// DefaultBus returns the section's defaults.
func DefaultBus() BusConfig {
	return BusConfig{
		URL: Embedded, Listen: "127.0.0.1:4222", Partitions: 4, Create: true,
		Retention: RetentionConfig{Age: 24 * time.Hour, Books: 30 * 24 * time.Hour, Bytes: 8 << 30},
	}
}

// Validate reports every fault by its key.
func (c BusConfig) Validate() error {
	var errs []error
	if c.URL != Embedded {
		u, err := url.Parse(c.URL)
		if err != nil || !slices.Contains([]string{"nats", "tls", "kafka"}, u.Scheme) || u.Host == "" {
			errs = append(errs, fmt.Errorf("url: %q, want embedded, nats://host:port, tls://host:port or kafka://host:port", c.URL))
		}
	}
	if c.Partitions < 1 || c.Partitions > 1024 {
		errs = append(errs, fmt.Errorf("partitions: %d, want 1 to 1024", c.Partitions))
	}
	if c.Replicas < 0 || c.Replicas > 5 {
		errs = append(errs, fmt.Errorf("replicas: %d, want 0 to 5", c.Replicas))
	}
	if !slices.Contains([]string{"", kafka.Plain, kafka.ScramSHA256, kafka.ScramSHA512}, c.SASL) {
		errs = append(errs, fmt.Errorf("sasl: %q, want %s, %s or %s", c.SASL, kafka.Plain, kafka.ScramSHA256, kafka.ScramSHA512))
	}
	least := time.Second
	if c.onKafka() {
		least = 6 * time.Second // the brokers' group.min.session.timeout.ms
	}
	if c.Lease != 0 && c.Lease < least {
		errs = append(errs, fmt.Errorf("lease: %v, want at least %v", c.Lease, least))
	}
	if c.Retention.Age <= 0 {
		errs = append(errs, fmt.Errorf("retention.age: %v, want more than 0", c.Retention.Age))
	}
	if c.Retention.Books <= 0 {
		errs = append(errs, fmt.Errorf("retention.books: %v, want more than 0", c.Retention.Books))
	}
	const bytesMin = 64 << 20
	if c.Retention.Bytes < bytesMin {
		errs = append(errs, fmt.Errorf("retention.bytes: %v, want at least 64MiB", c.Retention.Bytes))
	}
	if err := c.TLS.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("tls.%w", err))
	}
	if err := c.ListenTLS.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("listen_tls.%w", err))
	}
	return errors.Join(errs...)
}

// Deps are what opening a log needs of its process.
type Deps struct {
	Log     *slog.Logger
	Now     func() time.Time
	Metrics prometheus.Registerer
	Topics  []string // beyond bus.Topics: the endpoints of routes
	Archive bool     // there is an archive on object storage, for which the log keeps what it has not read
	// ReadOnly opens the log for looking on: nothing of it is created, changed or trimmed.
	ReadOnly bool
}

// Publisher is a log that also carries messages which nobody keeps: NATS.
type Publisher interface {
	// Publish sends data to whoever subscribes to subject now. It keeps nothing of data.
	Publish(subject string, data []byte) error
}

// Publish returns how to publish what nobody keeps through log; nil where log has no such thing.
func Publish(log bus.Log) func(subject string, data []byte) error {
	if p, ok := log.(Publisher); ok {
		return p.Publish
	}
	return nil
}

// NATS returns the driver's configuration without a connection, for the embedded server as for one by URL.
func (c BusConfig) NATS(d Deps) nats.Config {
	return nats.Config{
		Partitions: c.Partitions, Topics: d.Topics, Readers: Readers(d.Archive), Prefix: c.Prefix, Replicas: c.Replicas, Lease: c.Lease,
		Retention: nats.Retention{Age: c.Retention.Age, Books: c.Retention.Books, BytesMax: int64(c.Retention.Bytes)},
		Trim:      !d.ReadOnly, ReadOnly: d.ReadOnly, Synced: c.Synced || d.ReadOnly, Log: d.Log, Now: d.Now, Metrics: d.Metrics,
	}
}

// Bus opens the log that c names; the caller closes it. The embedded one is refused: it exists only within `millrace run`.
func Bus(ctx context.Context, c BusConfig, d Deps) (bus.Log, error) {
	if c.URL == Embedded {
		return nil, backoff.Permanent(errors.New("bus.url is embedded: that log lives within `millrace run`; a worker of its own needs " +
			"the URL of a server, such as nats://127.0.0.1:4222 or kafka://127.0.0.1:9092"))
	}
	open := c.openNATS
	if c.onKafka() {
		open = c.openKafka
	}
	log, err := open(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("open the log %s: %w", c.URL, err)
	}
	return log, nil
}

func (c BusConfig) onKafka() bool { return strings.HasPrefix(c.URL, "kafka://") }

func (c BusConfig) openNATS(ctx context.Context, d Deps) (bus.Log, error) {
	cfg := c.NATS(d)
	cfg.URL = c.URL
	options, err := c.options()
	if err != nil {
		return nil, backoff.Permanent(err)
	}
	cfg.Options = options
	return nats.Open(ctx, cfg)
}

func (c BusConfig) openKafka(ctx context.Context, d Deps) (bus.Log, error) {
	t, err := c.TLS.Config()
	if err != nil {
		return nil, backoff.Permanent(fmt.Errorf("bus.%w", err))
	}
	return kafka.Open(ctx, kafka.Config{
		URL: c.URL, SASL: c.SASL, User: c.User, Password: c.Password.Reveal(), TLS: t,
		Prefix: c.Prefix, Partitions: c.Partitions, Topics: d.Topics, Readers: Readers(d.Archive), CreateTopics: c.Create && !d.ReadOnly, Replicas: c.Replicas,
		Retention: kafka.Retention{Age: c.Retention.Age, Books: c.Retention.Books, BytesMax: int64(c.Retention.Bytes)}, Lease: c.Lease,
		Trim: !d.ReadOnly, Log: d.Log, Now: d.Now, Metrics: d.Metrics,
	})
}

func (c BusConfig) options() ([]natsgo.Option, error) {
	var options []natsgo.Option
	switch {
	case c.Token != "":
		options = append(options, natsgo.Token(c.Token.Reveal()))
	case c.User != "":
		options = append(options, natsgo.UserInfo(c.User, c.Password.Reveal()))
	case c.Creds != "":
		options = append(options, natsgo.UserCredentials(c.Creds))
	}
	t, err := c.TLS.Config()
	if err != nil {
		return nil, fmt.Errorf("bus.%w", err)
	}
	if t != nil {
		options = append(options, natsgo.Secure(t))
	}
	return options, nil
}
