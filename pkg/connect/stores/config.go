package stores

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/config"
	"github.com/millrace/millrace/pkg/connect"
)

// The engines that keep tables. Embedded is the one within `millrace run`.
const (
	Embedded      = "embedded"
	ClickHouse    = "clickhouse"
	Elasticsearch = "elasticsearch"
	Postgres      = "postgres"
)

// Tables is the section "stores" of the configuration file: which engine keeps what.
type Tables struct {
	State       string `yaml:"state" doc:"Engine of device_state and devices: embedded, clickhouse or elasticsearch."`
	History     string `yaml:"history" doc:"Engine of device_messages: embedded, clickhouse or elasticsearch."`
	Aggregates  string `yaml:"aggregates" doc:"Engine of aggregates: embedded, clickhouse or elasticsearch."`
	Alarms      string `yaml:"alarms" doc:"Engine of alarms: embedded, clickhouse or postgres."`
	Logs        string `yaml:"logs" doc:"Engine of logs: embedded, clickhouse or elasticsearch."`
	DeadLetters string `yaml:"dead_letters" doc:"Engine of dead_letters: embedded, clickhouse or elasticsearch."`
}

// Config is every section that says where tables are and how their engines are reached.
type Config struct {
	Tables        Tables
	ClickHouse    ClickHouseConfig
	Elasticsearch ElasticsearchConfig
	Postgres      PostgresConfig
}

// ClickHouseConfig is the section "clickhouse".
type ClickHouseConfig struct {
	URL           string                  `yaml:"url" doc:"clickhouse://user@host:9000/database for the native protocol, http://user@host:8123/database or https:// for HTTP; several hosts separated by commas, of which the first that answers is used."`
	Password      config.Secret           `yaml:"password" doc:"Password of the user."`
	TLS           connect.ClientTLS       `yaml:"tls" doc:"TLS towards the server."`
	Cluster       string                  `yaml:"cluster" doc:"Cluster of the servers' configuration on which millrace migrate works (ON CLUSTER, Replicated engines); empty means one server."`
	Replicated    bool                    `yaml:"replicated" doc:"Replicated engines without ON CLUSTER: for a database whose engine is Replicated."`
	Compression   string                  `yaml:"compression" doc:"Of what is sent: lz4, zstd or none."`
	HistoryFor    time.Duration           `yaml:"history_for" doc:"How long device_messages keeps a row, by event time; 0 means for ever. millrace migrate puts it into the tables."`
	LogsFor       time.Duration           `yaml:"logs_for" doc:"How long logs are kept; 0 means for ever."`
	LettersFor    time.Duration           `yaml:"dead_letters_for" doc:"How long dead letters are kept; 0 means for ever."`
	AggregatesFor time.Duration           `yaml:"aggregates_for" doc:"How long aggregates are kept, by window start; 0 means for ever."`
	Archive       ClickHouseArchiveConfig `yaml:"archive" doc:"The archive on object storage, as ClickHouse itself reaches it, for the views archive and history."`
	Queries       ClickHouseQueriesConfig `yaml:"queries" doc:"SQL from outside (POST /v1/sql)."`
}

// ClickHouseQueriesConfig is about SQL from outside.
type ClickHouseQueriesConfig struct {
	User     string        `yaml:"user" doc:"A user that may only read the views; empty means the one that writes, and then only our own look at each query keeps it off the rest of the server. See docs/sql.md."`
	Password config.Secret `yaml:"password" doc:"Password of that user."`
	AtOnce   int           `yaml:"at_once" doc:"Queries that may run at once; one more waits, then is refused."`
	Memory   config.Bytes  `yaml:"memory" doc:"Memory of the server that one query may use; beyond half of it sorting and grouping go to its disk."`
}

// ClickHouseArchiveConfig is how ClickHouse reads the archive on object storage.
type ClickHouseArchiveConfig struct {
	URL        string        `yaml:"url" doc:"URL of the files as the function s3 takes it, such as https://s3.example.com/bucket/prefix/dt=*/hour=*/*.parquet; empty means that the view archive is empty."`
	AccessKey  string        `yaml:"access_key" doc:"Access key; it stands in the view. Empty means that the server has access by itself."`
	SecretKey  config.Secret `yaml:"secret_key" doc:"Secret key; it stands in the view."`
	Collection string        `yaml:"collection" doc:"Named collection of the server that has the credentials, in place of the keys."`
}

// ElasticsearchConfig is the section "elasticsearch".
type ElasticsearchConfig struct {
	URL        string            `yaml:"url" doc:"http:// or https:// URL of the cluster, several separated by commas."`
	User       string            `yaml:"user" doc:"User name."`
	Password   config.Secret     `yaml:"password" doc:"Password of the user."`
	APIKey     config.Secret     `yaml:"api_key" doc:"API key, in its encoded form, in place of user and password."`
	TLS        connect.ClientTLS `yaml:"tls" doc:"TLS towards the servers."`
	Prefix     string            `yaml:"prefix" doc:"What the names of indices and templates begin with."`
	HistoryFor time.Duration     `yaml:"history_for" doc:"How long device_messages keeps a row, by event time; 0 means for ever."`
	LogsFor    time.Duration     `yaml:"logs_for" doc:"How long logs are kept, by event time; 0 means for ever."`
	LettersFor time.Duration     `yaml:"dead_letters_for" doc:"How long dead letters are kept; 0 means for ever."`
}

// PostgresConfig is the section "postgres".
type PostgresConfig struct {
	URL      string            `yaml:"url" doc:"postgres://user@host:5432/database?sslmode=verify-full"`
	Password config.Secret     `yaml:"password" doc:"Password of the user."`
	TLS      connect.ClientTLS `yaml:"tls" doc:"TLS towards the server, beside what sslmode says."`
	Schema   string            `yaml:"schema" doc:"Schema of the tables."`
}

const day = 24 * time.Hour

// DefaultTables returns the section "stores" of a file that says nothing.
func DefaultTables() Tables {
	return Tables{State: Embedded, History: Embedded, Aggregates: Embedded, Alarms: Embedded, Logs: Embedded, DeadLetters: Embedded}
}

// DefaultConfig returns the defaults of all sections.
func DefaultConfig() Config {
	return Config{
		Tables:        DefaultTables(),
		ClickHouse:    DefaultClickHouse(),
		Elasticsearch: DefaultElasticsearch(),
		Postgres:      DefaultPostgres(),
	}
}

// DefaultClickHouse returns the section's defaults.
func DefaultClickHouse() ClickHouseConfig {
	return ClickHouseConfig{
		Compression: "lz4", HistoryFor: 90 * day, LogsFor: 30 * day, LettersFor: 30 * day,
		Queries: ClickHouseQueriesConfig{AtOnce: 4, Memory: 4 << 30},
	}
}

// DefaultElasticsearch returns the section's defaults.
func DefaultElasticsearch() ElasticsearchConfig {
	return ElasticsearchConfig{Prefix: "millrace", HistoryFor: 90 * day, LogsFor: 30 * day, LettersFor: 30 * day}
}

// DefaultPostgres returns the section's defaults.
func DefaultPostgres() PostgresConfig { return PostgresConfig{Schema: "millrace"} }

// Validate reports every fault by its key.
func (t Tables) Validate() error {
	var errs []error
	for _, p := range purposes(&t) {
		if !slices.Contains(p.engines, *p.engine) {
			errs = append(errs, fmt.Errorf("%s: %q, want %s", p.key, *p.engine, strings.Join(p.engines, ", ")))
		}
	}
	return errors.Join(errs...)
}

// purpose is one key of Tables.
type purpose struct {
	key     string
	engine  *string
	engines []string // that can keep it
}

func purposes(t *Tables) []purpose {
	telemetry := []string{Embedded, ClickHouse, Elasticsearch}
	return []purpose{
		{"state", &t.State, telemetry},
		{"history", &t.History, telemetry},
		{"aggregates", &t.Aggregates, telemetry},
		{"alarms", &t.Alarms, []string{Embedded, ClickHouse, Postgres}},
		{"logs", &t.Logs, telemetry},
		{"dead_letters", &t.DeadLetters, telemetry},
	}
}

// Uses reports whether engine keeps anything.
func (t Tables) Uses(engine string) bool {
	return slices.ContainsFunc(purposes(&t), func(p purpose) bool { return *p.engine == engine })
}

// Validate reports every fault by its key. An empty URL is none: what needs the engine says so.
func (c ClickHouseConfig) Validate() error {
	errs := []error{
		checkURL(c.URL, "clickhouse", "http", "https"), checkTLS(c.TLS), checkKept(c.HistoryFor, c.LogsFor, c.LettersFor),
	}
	if c.AggregatesFor < 0 {
		errs = append(errs, fmt.Errorf("aggregates_for: %v, want 0s or more", c.AggregatesFor))
	}
	const least = 16 << 20
	if c.Queries.AtOnce < 1 || c.Queries.AtOnce > 1024 || c.Queries.Memory < least {
		errs = append(errs, fmt.Errorf("queries.at_once, queries.memory: %d and %v, want 1 to 1024, and at least 16MiB", c.Queries.AtOnce, c.Queries.Memory))
	}
	if !slices.Contains([]string{"lz4", "zstd", "none"}, c.Compression) {
		errs = append(errs, fmt.Errorf("compression: %q, want lz4, zstd or none", c.Compression))
	}
	return errors.Join(errs...)
}

// Validate reports every fault by its key.
func (c ElasticsearchConfig) Validate() error {
	errs := []error{
		checkURL(c.URL, "http", "https"), checkTLS(c.TLS),
		checkKept(c.HistoryFor, c.LogsFor, c.LettersFor),
	}
	if c.Prefix == "" || c.Prefix != strings.ToLower(c.Prefix) {
		errs = append(errs, fmt.Errorf("prefix: %q, want lower-case letters, digits, - and _", c.Prefix))
	}
	if c.APIKey != "" && c.User != "" {
		errs = append(errs, errors.New("api_key: it is there beside user, want one of the two"))
	}
	return errors.Join(errs...)
}

// Validate reports every fault by its key.
func (c PostgresConfig) Validate() error {
	errs := []error{checkURL(c.URL, "postgres", "postgresql"), checkTLS(c.TLS)}
	if c.Schema == "" {
		errs = append(errs, errors.New("schema: it is empty, want the name of a schema"))
	}
	return errors.Join(errs...)
}

// checkURL looks at the first of several URLs; what follows a comma may be a host alone.
func checkURL(text string, schemes ...string) error {
	if text == "" {
		return nil
	}
	first, _, _ := strings.Cut(text, ",")
	u, err := url.Parse(first)
	if err == nil && slices.Contains(schemes, u.Scheme) && u.Host != "" {
		return nil
	}
	if err == nil {
		if _, secret := u.User.Password(); secret {
			text = u.Redacted()
		}
	}
	return fmt.Errorf("url: %q, want %s://host:port", text, strings.Join(schemes, ":// or "))
}

func checkTLS(c connect.ClientTLS) error {
	if err := c.Validate(); err != nil {
		return fmt.Errorf("tls.%w", err)
	}
	return nil
}

func checkKept(history, logs, letters time.Duration) error {
	var errs []error
	for _, kept := range []struct {
		key string
		d   time.Duration
	}{{"history_for", history}, {"logs_for", logs}, {"dead_letters_for", letters}} {
		if kept.d < 0 {
			errs = append(errs, fmt.Errorf("%s: %v, want 0s or more", kept.key, kept.d))
		}
	}
	return errors.Join(errs...)
}
