package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/millrace/millrace/pkg/store"
)

// lifetimes are the tables that Retention is about, with the time from which it counts. Each is in the table's key, or the same in
// every copy of a row: else an older copy could come to light when a newer one is dropped.
func lifetimes(r Retention) []lifetime {
	return []lifetime{
		{"device_messages", "event_time", r.History},
		{"logs", "ingest_time", r.Logs},
		{"dead_letters", "received_at", r.DeadLetters},
		{"aggregates", "window_start", r.Aggregates},
	}
}

type lifetime struct {
	table, column string
	keep          time.Duration
}

// expression is the TTL as ClickHouse writes it back.
func (l lifetime) expression() string {
	return fmt.Sprintf("toDateTime(%s) + toIntervalSecond(%d)", l.column, int64(l.keep/time.Second))
}

// settingsPlan returns the statements that make the tables what cfg says, where their definitions in made say that they are not.
func settingsPlan(cfg Config, made map[string]string) []Statement {
	var plan []Statement
	add := func(sql string) { plan = append(plan, Statement{"settings", sql}) }
	for _, l := range lifetimes(cfg.Retention) {
		have := made[cfg.internal()+"."+l.table]
		alter := "ALTER TABLE " + cfg.internal() + "." + l.table + script{cfg}.OnCluster()
		switch {
		case l.keep > 0 && !strings.Contains(have, "TTL "+l.expression()):
			add(alter + " MODIFY TTL " + l.expression())
		case l.keep == 0 && strings.Contains(have, "TTL toDateTime("):
			add(alter + " REMOVE TTL")
		}
	}
	for _, v := range historyViews(cfg) {
		// The comment says which settings the view was made from: ClickHouse gives back the definition in another form.
		if !strings.Contains(made[cfg.Database+"."+v.name], v.comment()) {
			add(v.statement(cfg))
		}
	}
	return plan
}

// definitions returns the statements that make all tables and views, by name, as ClickHouse has them.
func definitions(ctx context.Context, cfg Config, conn driver.Conn) (map[string]string, error) {
	rows, err := conn.Query(ctx, "SELECT database || '.' || name, create_table_query || ' ' || comment FROM system.tables WHERE database IN ("+
		quote(cfg.Database)+", "+quote(cfg.internal())+")")
	if err != nil {
		return nil, fmt.Errorf("read the tables' definitions: %w", err)
	}
	all := make(map[string]string)
	for rows.Next() {
		var name, text string
		if err := rows.Scan(&name, &text); err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		all[name] = text
	}
	return all, errors.Join(rows.Err(), rows.Close())
}

// view is one of those that follow from the configuration.
type view struct{ name, query string }

// comment names the configuration that the view is made from, without secrets in the clear.
func (v view) comment() string { return "millrace " + digest(v.query) }

func (v view) statement(cfg Config) string {
	return "CREATE OR REPLACE VIEW " + cfg.Database + "." + v.name + script{cfg}.OnCluster() + " AS\n" + v.query + "\nCOMMENT " + quote(v.comment())
}

// historyViews returns archive, which is empty where there is none, and history: the warm rows as long as they are kept, and of the
// archive what is older.
func historyViews(cfg Config) []view {
	names := make([]string, 0, 20)
	typed := make([]string, 0, 20)
	for _, c := range store.HistoryColumns() {
		names = append(names, c.Name)
		typed = append(typed, c.Name+" "+typeOf(c))
	}
	columns := strings.Join(names, ", ")
	warm := "SELECT " + columns + " FROM " + cfg.Database + ".device_messages AS warm" // without a name of its own COMMENT would be taken for it
	if cfg.Archive.URL == "" {
		return []view{{"archive", warm + " WHERE false"}, {"history", warm}}
	}
	cold := "SELECT " + columns + " FROM " + cfg.Archive.source(strings.Join(typed, ", ")) + " AS cold"
	views := []view{{"archive", cold}, {"history", warm}}
	if keep := cfg.Retention.History; keep > 0 {
		// Rows that are due are dropped some time later: the line between the two is drawn by the clock, not by what is there.
		line := fmt.Sprintf("toDateTime64(now() - toIntervalSecond(%d), 9, 'UTC')", int64(keep/time.Second))
		views[1].query = warm + " WHERE event_time >= " + line + "\nUNION ALL\nSELECT " + columns + " FROM " + cfg.Database +
			".archive WHERE event_time < " + line
	}
	return views
}

func typeOf(c store.Column) string {
	name := map[store.ColumnType]string{
		store.Varchar: "String", store.Double: "Float64", store.Integer: "Int32", store.Bigint: "Int64", store.TimestampNS: "DateTime64(9, 'UTC')",
	}[c.Type]
	if c.Nullable {
		return "Nullable(" + name + ")"
	}
	return name
}

// source is the table function that reads the archive.
func (a Archive) source(columns string) string {
	switch {
	case a.Collection != "":
		return "s3(" + a.Collection + ", url = " + quote(a.URL) + ", format = 'Parquet', structure = " + quote(columns) + ")"
	case a.AccessKey != "":
		return "s3(" + quote(a.URL) + ", " + quote(a.AccessKey) + ", " + quote(a.SecretKey) + ", 'Parquet', " + quote(columns) + ")"
	}
	return "s3(" + quote(a.URL) + ", 'Parquet', " + quote(columns) + ")"
}
