package clickhouse

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
)

// Config says where ClickHouse is and what it keeps. URL is all that must be set.
type Config struct {
	// URL names the servers and the database: clickhouse://user:password@host:9000,host2:9000/millrace (native protocol),
	// http://host:8123/millrace or https://…. Of several hosts the first that answers is used. Parameters are those of
	// clickhouse-go (secure=true), others are settings of ClickHouse.
	URL string
	// User and Password, where set, count before those in URL.
	User, Password string
	// TLS, where set, is used for every connection; URL may stay clickhouse:// or be https://.
	TLS *tls.Config
	// Database has the views; its tables are in <Database>_internal. "" means the path of URL, else "millrace".
	Database string

	// Cluster is the cluster of the servers' configuration on which Migrate works (ON CLUSTER); its tables are Replicated.
	Cluster string
	// Replicated makes the tables Replicated without ON CLUSTER: for a database whose engine is Replicated, or servers that
	// are migrated one by one.
	Replicated bool
	// ReplicaPath is the path of a replicated table in Keeper; "" means /clickhouse/tables/{shard}/{database}/{table}.
	ReplicaPath string

	// How long rows stay; 0 keeps them for ever. Migrate puts it into the tables.
	Retention Retention
	// Archive, where set, is what the view archive reads.
	Archive Archive
	// Elsewhere names, for each table that another engine keeps, that engine: its view is empty here, so a query over it is refused.
	Elsewhere map[string]string
	// Queries is about SQL from outside.
	Queries QueryConfig

	Compression string        // of what is sent: "lz4" (also ""), "zstd" or "none"
	Connections int           // most at once; 0 means 8
	Timeout     time.Duration // of each statement whose context has no earlier deadline; 0 means 30 s
	DialTimeout time.Duration // 0 means 5 s

	Log *slog.Logger // nil logs nothing
	// Now tells how long writes take, so that those that take seconds are logged; nil times nothing.
	Now func() time.Time
}

// Retention says how long rows stay. ClickHouse drops them in the background, some hours late.
type Retention struct {
	History     time.Duration // of device_messages, by event time
	Logs        time.Duration // by ingest time
	DeadLetters time.Duration // by the time they were received
	Aggregates  time.Duration // by window start
}

// Archive is the Parquet files that Millrace writes to object storage, as the server reaches them.
type Archive struct {
	// URL of the files as the table function s3 takes it, such as https://s3.eu-central-1.amazonaws.com/bucket/archive/**.parquet;
	// "" means that there is no archive.
	URL string
	// AccessKey and SecretKey stand in the view, where those who may show secrets see them. "" means that the server itself has
	// access (its role, or a named collection).
	AccessKey, SecretKey string
	// Collection names a named collection of the server that has the credentials; URL then only replaces its url.
	Collection string
}

const (
	defaultDatabase    = "millrace"
	defaultReplicaPath = "/clickhouse/tables/{shard}/{database}/{table}"
	internalSuffix     = "_internal"
	slowWrite          = 5 * time.Second
)

// plainName is what a database or cluster may be called, so that no statement needs to quote it.
var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,59}$`)

func (c Config) withDefaults() (Config, error) {
	if c.URL == "" {
		return c, errors.New("no url, want clickhouse://host:9000/database or http://host:8123/database")
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return c, errors.New("a url that cannot be read") // the error would show the password
	}
	switch u.Scheme {
	case "clickhouse", "tcp", "native", "http", "https":
	default:
		return c, fmt.Errorf("scheme %q, want clickhouse, http or https", u.Scheme)
	}
	if c.Database == "" {
		c.Database = strings.Trim(u.Path, "/")
	}
	if c.Database == "" {
		c.Database = defaultDatabase
	}
	if !plainName.MatchString(c.Database) {
		return c, fmt.Errorf("database %q, want letters, digits and underscores", c.Database)
	}
	if c.Cluster != "" && !plainName.MatchString(c.Cluster) {
		return c, fmt.Errorf("cluster %q, want letters, digits and underscores", c.Cluster)
	}
	if c.ReplicaPath == "" {
		c.ReplicaPath = defaultReplicaPath
	}
	c.Replicated = c.Replicated || c.Cluster != ""
	for _, d := range []struct {
		name string
		time.Duration
	}{
		{"history", c.Retention.History},
		{"logs", c.Retention.Logs},
		{"dead letters", c.Retention.DeadLetters},
		{"aggregates", c.Retention.Aggregates},
	} {
		if d.Duration != 0 && d.Duration < time.Second {
			return c, fmt.Errorf("retention of %s: %v, want at least a second", d.name, d.Duration)
		}
	}
	if c.Connections <= 0 {
		c.Connections = 8
	}
	if c.Timeout <= 0 {
		c.Timeout = 30 * time.Second
	}
	if c.DialTimeout <= 0 {
		c.DialTimeout = 5 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// internal is the database of the tables.
func (c Config) internal() string { return c.Database + internalSuffix }

// options are those of the client library. No default database is set: it need not be there yet, and every statement names its own.
func (c Config) options() (*ch.Options, error) {
	o, err := ch.ParseDSN(c.URL)
	if err != nil {
		return nil, errors.New("a url that cannot be read") // the error would show the password
	}
	o.Auth.Database = ""
	if c.User != "" {
		o.Auth.Username = c.User
	}
	if c.Password != "" {
		o.Auth.Password = c.Password
	}
	if c.TLS != nil {
		o.TLS = c.TLS
	}
	switch c.Compression {
	case "", "lz4":
		o.Compression = &ch.Compression{Method: ch.CompressionLZ4}
	case "zstd":
		o.Compression = &ch.Compression{Method: ch.CompressionZSTD}
	case "none":
		o.Compression = nil
	default:
		return nil, fmt.Errorf("compression %q, want lz4, zstd or none", c.Compression)
	}
	o.DialTimeout, o.ReadTimeout = c.DialTimeout, c.Timeout
	o.MaxOpenConns, o.MaxIdleConns = c.Connections, c.Connections
	o.ClientInfo.Products = append(o.ClientInfo.Products, struct{ Name, Version string }{"millrace", "1"})
	return o, nil
}
