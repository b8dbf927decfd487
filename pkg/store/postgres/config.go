package postgres

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The defaults of a Config.
const (
	DefaultSchema  = "millrace"
	DefaultChannel = "millrace_alarms"
	DefaultTimeout = 30 * time.Second
	DefaultConns   = 4
)

const identifierMax = 63 // bytes of a name, beyond which PostgreSQL would cut it

// Config says where the server is. URL is all that must be set.
type Config struct {
	// URL is postgres://user@host:5432/database, with the parameters that libpq knows (sslmode, sslrootcert, target_session_attrs,
	// several hosts) and those of pgxpool (pool_max_conns). Without sslmode TLS is tried first, and what follows is plain.
	URL      string
	Password string      // "" leaves the one in URL, or in the file that PGPASSFILE names
	TLS      *tls.Config // overrides what URL says of TLS; nil leaves that. Without a ServerName the host's name is checked
	Schema   string      // of the tables; "" means DefaultSchema
	Channel  string      // of NOTIFY; "" means DefaultChannel
	Silent   bool        // no NOTIFY
	// Timeout ends a call whose context has no earlier deadline; 0 means DefaultTimeout.
	Timeout time.Duration
	Conns   int          // most connections; 0 means what URL says, else DefaultConns
	Log     *slog.Logger // nil logs nothing
}

func (c Config) withDefaults() (Config, error) {
	if c.URL == "" {
		return c, errors.New("no URL, want postgres://user@host:5432/database")
	}
	c.Schema = cmp.Or(c.Schema, DefaultSchema)
	c.Channel = cmp.Or(c.Channel, DefaultChannel)
	for _, n := range []struct{ name, is string }{{"schema", c.Schema}, {"channel", c.Channel}} {
		if len(n.is) > identifierMax || strings.ContainsRune(n.is, 0) {
			return c, fmt.Errorf("%s %.80q: want at most %d bytes, none of them 0", n.name, n.is, identifierMax)
		}
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// pool returns what pgx makes of the URL, without the password in any error.
func (c Config) pool() (*pgxpool.Config, error) {
	p, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		if parse, ok := errors.AsType[*pgconn.ParseConfigError](err); ok { // its text has the URL, with the password as xxxxx
			return nil, fmt.Errorf("url: %w", parse)
		}
		return nil, errors.New("url: it cannot be read, want postgres://user@host:5432/database")
	}
	switch {
	case c.Conns > 0:
		p.MaxConns = int32(min(c.Conns, 1000))
	case !strings.Contains(c.URL, "pool_max_conns"):
		p.MaxConns = DefaultConns
	}
	conn := p.ConnConfig
	if c.Password != "" {
		conn.Password = c.Password
	}
	if _, named := conn.RuntimeParams["application_name"]; !named {
		conn.RuntimeParams["application_name"] = "millrace"
	}
	if c.TLS != nil {
		demandTLS(&conn.Config, c.TLS)
	}
	return p, nil
}

// demandTLS has every host of the URL asked with t, and never without.
func demandTLS(conn *pgconn.Config, t *tls.Config) {
	with := func(host string) *tls.Config {
		own := t.Clone()
		own.ServerName = cmp.Or(own.ServerName, host)
		return own
	}
	conn.TLSConfig = with(conn.Host)
	var others []*pgconn.FallbackConfig
	seen := map[string]bool{net.JoinHostPort(conn.Host, fmt.Sprint(conn.Port)): true}
	for _, f := range conn.Fallbacks { // a host stands there once with TLS and once without, where sslmode allows both
		key := net.JoinHostPort(f.Host, fmt.Sprint(f.Port))
		if !seen[key] {
			seen[key] = true
			others = append(others, &pgconn.FallbackConfig{Host: f.Host, Port: f.Port, TLSConfig: with(f.Host)})
		}
	}
	conn.Fallbacks = others
}
