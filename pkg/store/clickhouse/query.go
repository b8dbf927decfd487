package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/millrace/millrace/pkg/store/answer"
)

// QueryConfig is about SQL from outside. The zero value is ready.
type QueryConfig struct {
	// User and Password of a user that may do nothing but read the views; "" means the one that writes. Only with a user of its own
	// does the server itself keep queries off everything else.
	User, Password string
	// Queries is how many may run at once; 0 means 4. One more waits for Wait (0 means 5 s) and is then refused with
	// answer.ErrBusy.
	Queries int
	Wait    time.Duration
	// MemoryBytes is what one query may hold on the server; 0 means 4 GiB.
	MemoryBytes int64
}

func (c QueryConfig) withDefaults() QueryConfig {
	if c.Queries <= 0 {
		c.Queries = 4
	}
	if c.Wait <= 0 {
		c.Wait = 5 * time.Second
	}
	if c.MemoryBytes <= 0 {
		c.MemoryBytes = 4 << 30
	}
	return c
}

// querier runs SQL from outside, over connections of its own, which are made with the first query.
type querier struct {
	cfg   Config
	free  chan struct{} // one element a query that may begin
	once  sync.Once
	conn  driver.Conn
	err   error
	names viewSet
}

// viewSet are the views that read with a table function, which a server refuses to whoever only reads.
type viewSet []string

func newQuerier(cfg Config) *querier {
	cfg.Queries = cfg.Queries.withDefaults()
	q := &querier{cfg: cfg, free: make(chan struct{}, cfg.Queries.Queries)}
	for range cfg.Queries.Queries {
		q.free <- struct{}{}
	}
	if cfg.Archive.URL != "" {
		q.names = viewSet{"archive", "history"}
	}
	return q
}

func (q *querier) open() (driver.Conn, error) { //nolint:ireturn // the library's
	q.once.Do(func() {
		cfg := q.cfg
		if cfg.Queries.User != "" {
			cfg.User, cfg.Password = cfg.Queries.User, cfg.Queries.Password
		}
		options, err := cfg.options()
		if err != nil {
			q.err = err
			return
		}
		options.Auth.Database = cfg.Database
		options.ReadTimeout = answer.MaxTimeout + cfg.Timeout // the deadline of each query is in its context
		options.MaxOpenConns, options.MaxIdleConns = cfg.Queries.Queries, cfg.Queries.Queries
		q.conn, q.err = ch.Open(options)
	})
	return q.conn, q.err
}

func (q *querier) close() error {
	q.once.Do(func() { q.err = errors.New("the database is closed") })
	if q.conn == nil {
		return nil
	}
	return q.conn.Close()
}

// Query runs one SELECT, EXPLAIN of one, DESCRIBE or SHOW TABLES that someone outside has written: read only, within its limits, over
// the views of the database and no other table. Unlike the embedded database it streams: the request's timeout covers the time in
// which the rows are fetched. Errors to test for: those of package answer. The result must be closed, and soon: it holds one of the
// few places.
func (db *DB) Query(ctx context.Context, req answer.Request) (answer.Result, error) {
	if len(req.SQL) > answer.QueryBytesMax {
		return nil, fmt.Errorf("query: %w: %d bytes, want at most %d", answer.ErrNotAllowed, len(req.SQL), answer.QueryBytesMax)
	}
	q := db.queries
	if err := q.wait(ctx); err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	maxRows, timeout := req.Limits()
	work, cancel := context.WithTimeout(ctx, timeout)
	result := &queryResult{from: q, caller: ctx, work: work, cancel: cancel, maxRows: maxRows}
	if err := result.run(work, req, timeout); err != nil {
		err = result.explain(err)
		result.Close()
		return nil, fmt.Errorf("query: %w", err)
	}
	return result, nil
}

// wait waits for a place.
func (q *querier) wait(ctx context.Context) error {
	select {
	case <-q.free:
		return nil
	default:
	}
	wait := time.NewTimer(q.cfg.Queries.Wait)
	defer wait.Stop()
	select {
	case <-q.free:
		return nil
	case <-wait.C:
		return answer.ErrBusy
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settings are those under which a query runs. The first of them is the fence on the server's side; those of SQL make answers the
// same as the embedded database's.
func (q *querier) settings(statement string, maxRows int, timeout time.Duration) ch.Settings {
	readonly := 1
	for _, name := range q.names {
		if strings.Contains(strings.ToLower(statement), name) {
			readonly = 2 // with 1 the server refuses what these views are made of; the guard refuses it in a query's own text
		}
	}
	return ch.Settings{
		"max_execution_time":                             max(1, int((timeout+time.Second-1)/time.Second)),
		"timeout_overflow_mode":                          "throw",
		"max_memory_usage":                               q.cfg.Queries.MemoryBytes,
		"max_bytes_before_external_group_by":             q.cfg.Queries.MemoryBytes / 2,
		"max_bytes_before_external_sort":                 q.cfg.Queries.MemoryBytes / 2,
		"limit":                                          maxRows + 1, // one more tells that there are more
		"cancel_http_readonly_queries_on_client_close":   1,
		"join_use_nulls":                                 1,
		"aggregate_functions_null_for_empty":             1,
		"cast_keep_nullable":                             1,
		"prefer_column_name_to_alias":                    1,
		"union_default_mode":                             "DISTINCT",
		"except_default_mode":                            "DISTINCT",
		"intersect_default_mode":                         "DISTINCT",
		"function_json_value_return_type_allow_nullable": 1,
		"formatdatetime_parsedatetime_m_is_month_name":   0, // %M is the minute, as everywhere else
		"cast_string_to_date_time_mode":                  "best_effort",
		"session_timezone":                               "UTC",
		"allow_experimental_correlated_subqueries":       1,
		"readonly": readonly,
	}
}
