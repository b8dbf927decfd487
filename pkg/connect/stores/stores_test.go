package stores_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/connect/stores"
	"github.com/millrace/millrace/pkg/store"
)

func TestFaultsAreNamedByKey(t *testing.T) {
	for _, c := range []struct {
		change func(*stores.Config)
		want   string
	}{
		{func(*stores.Config) {}, ""},
		{func(c *stores.Config) { c.Tables.State = "mysql" }, `state: "mysql", want embedded, clickhouse, elasticsearch`},
		{func(c *stores.Config) { c.Tables.Alarms = stores.Elasticsearch }, `alarms: "elasticsearch", want embedded, clickhouse, postgres`},
		{func(c *stores.Config) { c.ClickHouse.URL = "clickhouse://u:hidden@" }, `url: "clickhouse://u:xxxxx@", want clickhouse://`},
		{func(c *stores.Config) { c.ClickHouse.URL = "mysql://h" }, "want clickhouse:// or http:// or https://host:port"},
		{func(c *stores.Config) { c.ClickHouse.LogsFor = -1 }, "logs_for: -1ns, want 0s or more"},
		{func(c *stores.Config) { c.Elasticsearch.Prefix = "Mill" }, `prefix: "Mill", want lower-case`},
		{func(c *stores.Config) { c.Elasticsearch.User, c.Elasticsearch.APIKey = "u", "k" }, "api_key: it is there beside user"},
		{func(c *stores.Config) { c.Postgres.URL = "postgres" }, `url: "postgres", want postgres:// or postgresql://host:port`},
		{func(c *stores.Config) { c.Postgres.Schema = "" }, "schema: it is empty"},
		{func(c *stores.Config) { c.Postgres.TLS.Cert = "x" }, "tls.key: cert and key belong together"},
	} {
		cfg := stores.DefaultConfig()
		c.change(&cfg)
		var said []string
		for _, v := range []interface{ Validate() error }{cfg.Tables, cfg.ClickHouse, cfg.Elasticsearch, cfg.Postgres} {
			if err := v.Validate(); err != nil {
				said = append(said, err.Error())
			}
		}
		if got := strings.Join(said, "\n"); c.want == "" && got != "" || !strings.Contains(got, c.want) || strings.Contains(got, "hidden") {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestATableThatCannotBeReachedIsNamed(t *testing.T) {
	set := stores.New(stores.DefaultConfig(), stores.Deps{Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if _, err := set.Alarms(t.Context()); err == nil || !strings.Contains(err.Error(), "workers: [alerting]") || !strings.Contains(err.Error(), "stores.alarms") {
		t.Errorf("%v, want what to do instead", err)
	}
	if r := set.Reader(store.TableAlarms); r != nil {
		t.Errorf("a reader of what is embedded elsewhere: %v", r)
	}
	cfg := stores.DefaultConfig()
	cfg.Tables.Alarms = stores.Postgres
	set = stores.New(cfg, stores.Deps{Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if _, err := set.Alarms(t.Context()); err == nil || !strings.Contains(err.Error(), "postgres.url: it is empty") {
		t.Errorf("%v, want the key that is empty", err)
	}
	if err := set.Migrate(t.Context(), true, func(stores.Step) {}); err == nil || !strings.Contains(err.Error(), "postgres.url: it is empty") {
		t.Errorf("%v, want the key that is empty", err)
	}
	if err := set.Close(); err != nil {
		t.Error(err)
	}
}
