package standalone

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/config"
	"github.com/millrace/millrace/pkg/connect"
	"github.com/millrace/millrace/pkg/connect/stores"
	"github.com/millrace/millrace/pkg/listen"
	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/services/aggregator"
	"github.com/millrace/millrace/services/alerting"
	historywriter "github.com/millrace/millrace/services/history-writer"
	"github.com/millrace/millrace/services/ingest"
	"github.com/millrace/millrace/services/live"
	logconsumer "github.com/millrace/millrace/services/log-consumer"
	"github.com/millrace/millrace/services/router"
	stateprojector "github.com/millrace/millrace/services/state-projector"
)

// Config is the whole configuration file. Each process reads the sections that concern it and knows the others by name.
type Config struct {
	Tenant   string               `yaml:"tenant" doc:"Tenant of every device."`
	Data     string               `yaml:"data" doc:"Directory of everything that is kept: the log, the tables, the archive, the access file."`
	HTTP     HTTPConfig           `yaml:"http" doc:"The HTTP listener of millrace run: sending, queries, live streams, the page."`
	Access   connect.AccessConfig `yaml:"access" doc:"Who may send and ask."`
	Insecure bool                 `yaml:"insecure" doc:"Allow listeners off loopback without keys or TLS."`
	Workers  []string             `yaml:"workers" doc:"Which workers run in this process; empty means all."`
	Bus      connect.BusConfig    `yaml:"bus" doc:"The durable log."`
	DuckDB   DuckDBConfig         `yaml:"duckdb" doc:"The embedded tables and the SQL engine."`
	History  HistoryConfig        `yaml:"history" doc:"History and the Parquet archive on disk."`

	Stores        stores.Tables              `yaml:"stores" doc:"Which engine keeps which table."`
	ClickHouse    stores.ClickHouseConfig    `yaml:"clickhouse" doc:"The ClickHouse that stores names."`
	Elasticsearch stores.ElasticsearchConfig `yaml:"elasticsearch" doc:"The Elasticsearch that stores names."`
	Postgres      stores.PostgresConfig      `yaml:"postgres" doc:"The PostgreSQL that stores names."`
	Archive       connect.ArchiveConfig      `yaml:"archive" doc:"The archive on object storage."`

	Ingest         ingest.Config         `yaml:"ingest" doc:"The edge: MQTT and HTTP."`
	Router         router.Config         `yaml:"router" doc:"Routes from the edge to topics, and reference data."`
	StateProjector stateprojector.Config `yaml:"state_projector" doc:"device_state and devices."`
	HistoryWriter  historywriter.Config  `yaml:"history_writer" doc:"device_messages."`
	Aggregator     aggregator.Config     `yaml:"aggregator" doc:"Event-time windows."`
	Alerting       alerting.Config       `yaml:"alerting" doc:"Rules, alarms and notifications."`
	LogConsumer    logconsumer.Config    `yaml:"log_consumer" doc:"Logs of devices, and dead letters."`
	Live           live.Config           `yaml:"live" doc:"Live streams and the query API."`
}

// HTTPConfig is the one HTTP listener of millrace run.
type HTTPConfig struct {
	Addr  string     `yaml:"addr" doc:"host:port to listen on."`
	Hosts []string   `yaml:"hosts" doc:"Names by which the listener may be asked for, beside localhost and its addresses, where it is on loopback and asks for no keys: such as that of a proxy on this machine. Any other is answered 421, since a page of another site may let its name lead here."`
	TLS   listen.TLS `yaml:"tls" doc:"The listener's certificate; without one it speaks plain HTTP."`
}

// DuckDBConfig is what the embedded engine may use.
type DuckDBConfig struct {
	Memory     config.Bytes  `yaml:"memory" doc:"Memory of the engine; what a query needs beyond it goes to disk."`
	Threads    int           `yaml:"threads" doc:"Threads that queries and writes share; 0 means half the processors."`
	Queries    int           `yaml:"queries" doc:"Queries that may run at once; one more waits, then is refused."`
	LogsFor    time.Duration `yaml:"logs_for" doc:"How long logs are kept; 0 means for ever."`
	LettersFor time.Duration `yaml:"dead_letters_for" doc:"How long dead letters are kept; 0 means for ever."`
}

// HistoryConfig is the store of device_messages and the archive.
type HistoryConfig struct {
	SegmentAge time.Duration `yaml:"segment_age" doc:"Age at which rows in memory are written to a Parquet file."`
	Memory     config.Bytes  `yaml:"memory" doc:"Memory for rows that are in no file yet; at half of it they are written."`
	Retention  time.Duration `yaml:"retention" doc:"How long history is kept, by event time; 0 means for ever."`
	MergeDelay time.Duration `yaml:"merge_delay" doc:"How long after its end an hour's files are merged into few."`
	DiskWarn   float64       `yaml:"disk_warn" doc:"Free share of the disk below which warnings begin."`
}

// DefaultConfig returns what millrace run does when it is told nothing.
func DefaultConfig() Config {
	return Config{
		Tenant: telemetry.DefaultTenant, Data: "data",
		HTTP:    HTTPConfig{Addr: "127.0.0.1:8080"},
		Bus:     connect.DefaultBus(),
		DuckDB:  DuckDBConfig{Memory: 1 << 30, Queries: 4, LogsFor: 30 * 24 * time.Hour, LettersFor: 30 * 24 * time.Hour},
		History: HistoryConfig{SegmentAge: time.Minute, Memory: 256 << 20, MergeDelay: 5 * time.Minute, DiskWarn: 0.15},
		Stores:  stores.DefaultTables(), ClickHouse: stores.DefaultClickHouse(), Elasticsearch: stores.DefaultElasticsearch(),
		Postgres: stores.DefaultPostgres(), Archive: connect.DefaultArchive(),
		Ingest: ingest.DefaultConfig(), Router: router.DefaultConfig(), StateProjector: stateprojector.DefaultConfig(),
		HistoryWriter: historywriter.DefaultConfig(), Aggregator: aggregator.DefaultConfig(), Alerting: alerting.DefaultConfig(),
		LogConsumer: logconsumer.DefaultConfig(), Live: live.DefaultConfig(),
	}
}

const (
	memoryMin = 16 << 20 // below it neither the engine nor history gets anywhere
	countMax  = 1024     // of threads, and of queries at once
)

// Validate reports every fault by its key.
func (c *Config) Validate() error {
	var errs []error
	if c.Data == "" {
		errs = append(errs, errors.New("data: it is empty, want a directory"))
	}
	if c.Tenant == "" {
		errs = append(errs, errors.New("tenant: it is empty, want a name"))
	}
	if _, _, err := net.SplitHostPort(c.HTTP.Addr); err != nil {
		errs = append(errs, fmt.Errorf("http.addr: %q, want host:port", c.HTTP.Addr))
	}
	if _, _, err := net.SplitHostPort(c.Bus.Listen); err != nil && c.Bus.Listen != "" {
		errs = append(errs, fmt.Errorf("bus.listen: %q, want host:port, or nothing for nobody", c.Bus.Listen))
	}
	for i, w := range c.Workers {
		if !slices.Contains(Workers(), w) {
			errs = append(errs, fmt.Errorf("workers[%d]: %q, want one of %s", i, w, strings.Join(Workers(), ", ")))
		}
	}
	if c.History.DiskWarn < 0 || c.History.DiskWarn > 1 {
		errs = append(errs, fmt.Errorf("history.disk_warn: %v, want 0 to 1", c.History.DiskWarn))
	}
	return errors.Join(append(errs, c.checkStores()...)...)
}

// checkStores reports amounts that mean nothing. 0 is each one's default, or none where its doc says so.
func (c *Config) checkStores() []error {
	var errs []error
	for _, d := range []struct {
		key string
		d   time.Duration
	}{
		{"history.retention", c.History.Retention},
		{"history.segment_age", c.History.SegmentAge},
		{"history.merge_delay", c.History.MergeDelay},
		{"duckdb.logs_for", c.DuckDB.LogsFor},
		{"duckdb.dead_letters_for", c.DuckDB.LettersFor},
	} {
		if d.d < 0 {
			errs = append(errs, fmt.Errorf("%s: %v, want 0s or more", d.key, d.d))
		}
	}
	for _, n := range []struct {
		key string
		n   int
	}{{"duckdb.threads", c.DuckDB.Threads}, {"duckdb.queries", c.DuckDB.Queries}} {
		if n.n < 0 || n.n > countMax {
			errs = append(errs, fmt.Errorf("%s: %d, want 0 to %d", n.key, n.n, countMax))
		}
	}
	for _, m := range []struct {
		key string
		b   config.Bytes
	}{{"duckdb.memory", c.DuckDB.Memory}, {"history.memory", c.History.Memory}} {
		if m.b < memoryMin {
			errs = append(errs, fmt.Errorf("%s: %v, want at least %v", m.key, m.b, config.Bytes(memoryMin)))
		}
	}
	return errs
}

// Workers returns the names of all workers, in the order of a message's way.
func Workers() []string {
	return []string{"ingest", "router", "state-projector", "history-writer", "aggregator", "alerting", "log-consumer", "live"}
}

// runs reports whether this process runs worker.
func (c *Config) runs(worker string) bool {
	return len(c.Workers) == 0 || slices.Contains(c.Workers, worker)
}

// StoresConfig returns the sections that say where tables are.
func (c *Config) StoresConfig() stores.Config {
	return stores.Config{Tables: c.Stores, ClickHouse: c.ClickHouse, Elasticsearch: c.Elasticsearch, Postgres: c.Postgres}
}

func (c *Config) archive() string { return filepath.Join(c.Data, "archive") }
