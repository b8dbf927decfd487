package duckdb_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/answer"
	"github.com/millrace/millrace/pkg/store/duckdb"
	"github.com/millrace/millrace/pkg/store/storetest"
	"github.com/millrace/millrace/pkg/telemetry"
)

// rowsOf runs a query and returns its rows as text.
func rowsOf(t *testing.T, db *duckdb.DB, req answer.Request) ([]string, error) {
	t.Helper()
	result, err := db.Query(t.Context(), req)
	if err != nil {
		return nil, err
	}
	defer result.Close()
	var rows []string
	for row, err := range result.Rows() {
		if err != nil {
			return rows, err
		}
		texts := make([]string, len(row))
		for i, v := range row {
			texts[i] = answer.Text(v, result.Columns()[i].Type)
		}
		rows = append(rows, strings.Join(texts, "|"))
	}
	if result.Truncated() {
		rows = append(rows, "…")
	}
	return rows, nil
}

func wantRows(t *testing.T, db *duckdb.DB, sql string, want ...string) {
	t.Helper()
	got, err := rowsOf(t, db, answer.Request{SQL: sql})
	if err != nil {
		t.Errorf("%s: %v", sql, err)
		return
	}
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("%s\n got %q\nwant %q", sql, got, want)
	}
}

// queryable is a database with an archive folder that holds a file, and two rows of state.
func queryable(t *testing.T) (*duckdb.DB, string) {
	t.Helper()
	dir := t.TempDir()
	archive := filepath.Join(dir, "archive")
	if err := os.MkdirAll(archive, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(archive, "foreign.csv"), []byte("a,b\n1,2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	db := openAt(t, dir, func(c *duckdb.Config) { c.ArchiveDir, c.QueryWait = archive, 50*time.Millisecond })
	panel := storetest.Message(1)
	panel.ChannelKey, panel.ChannelType, panel.HasValue = "status@secvest", "json", false
	panel.ChannelValue = []byte(`{"Name":"Secvest","Partitions":[{"id":"1","state":"unset"},{"id":"2","state":"set"}]}`)
	plain := storetest.Message(0)
	err := db.State().Write(t.Context(), store.Commit{Worker: "w", Spans: []store.Span{{
		Partition: bus.PartitionID{Topic: "telemetry"}, Through: bus.Progress{Through: bus.Position{Seq: 1}},
	}}}, []store.MessageRow{panel, plain})
	if err != nil {
		t.Fatal(err)
	}
	return db, dir
}

func TestQueryAnswers(t *testing.T) {
	db, _ := queryable(t)
	for _, c := range []struct{ sql, want string }{
		{`SELECT device_id, value FROM device_state WHERE value IS NOT NULL`, "device-0|0.5"},
		{`SELECT event_time FROM device_state WHERE channel_key = 'channel-0';`, "2017-04-12T17:05:20.4808507Z"},
		{`SELECT json_extract_string(channel_value, '$.Partitions[0].state') FROM device_state WHERE channel_type = 'json' -- a comment`, "unset"},
		{`SELECT channel_value->>'$.Name' FROM device_state WHERE channel_type = 'json'`, "Secvest"},
		{`SELECT p.id, p.state FROM (SELECT unnest(from_json(channel_value->'$.Partitions', '[{"id":"VARCHAR","state":"VARCHAR"}]')) AS p
			FROM device_state WHERE channel_type = 'json') WHERE p.state = 'set'`, "2|set"},
		{`SELECT count(*) FROM device_state WHERE event_time > now() - INTERVAL 1 HOUR`, "0"},
		{`SELECT count(*) FROM device_state WHERE event_time < current_timestamp - INTERVAL 1 DAY`, "2"},
		{`SELECT count(*) FROM device_state WHERE event_time BETWEEN '2017-04-12' AND '2017-04-13T00:00:00Z'`, "2"},
		{`SELECT DISTINCT time_bucket(INTERVAL 1 MINUTE, event_time) FROM device_state`, "2017-04-12T17:05:00Z"},
		{`SELECT DISTINCT date_trunc('hour', event_time), event_time::DATE FROM device_state`, "2017-04-12T17:00:00Z|2017-04-12"},
		{`WITH x AS (SELECT 1 AS a) FROM x`, "1"},
		{`SELECT ';' AS a ORDER BY a DESC; -- the end; really`, ";"},
		{"/* first */ SELECT 1 -- then\n;;\n", "1"},
		{`VALUES (1, 'a')`, "1|a"},
		{`SELECT count(*) FROM range(5)`, "5"},
		{`SELECT sum(range) FROM range(5)`, "10"},
		{`SELECT count(*) FROM device_messages`, "0"},
		{`SELECT count(*) FROM archive`, "0"},
		{`SELECT count(*) FROM history`, "0"},
		{`SELECT count(*) FROM (DESCRIBE device_messages)`, "19"},
		{`SELECT 1 AS a, 2 AS a`, "1|2"},
		{`PIVOT (SELECT 'x' AS k, 1 AS v) ON k IN ('x') USING sum(v)`, "1"},
	} {
		wantRows(t, db, c.sql, c.want)
	}
	for _, sql := range []string{"SHOW TABLES", "DESCRIBE device_state", "SUMMARIZE device_state", "EXPLAIN SELECT 1", "explain analyze select * from logs"} {
		if rows, err := rowsOf(t, db, answer.Request{SQL: sql}); err != nil || len(rows) == 0 {
			t.Errorf("%s: %d rows, %v", sql, len(rows), err)
		}
	}
}

func TestQueryTakesParametersAndLimitsRows(t *testing.T) {
	db, _ := queryable(t)
	got, err := rowsOf(t, db, answer.Request{SQL: `SELECT range FROM range($1) ORDER BY range DESC`, Params: []any{int64(100)}, MaxRows: 3})
	if err != nil || fmt.Sprint(got) != "[99 98 97 …]" {
		t.Errorf("got %v, %v", got, err)
	}
	got, err = rowsOf(t, db, answer.Request{SQL: `SELECT range FROM range(3)`, MaxRows: 3})
	if err != nil || fmt.Sprint(got) != "[0 1 2]" {
		t.Errorf("got %v, %v: as many rows as wanted are not cut", got, err)
	}
}

func TestQueryRefusesWhatIsNotOneSelect(t *testing.T) {
	db, dir := queryable(t)
	archive := filepath.Join(dir, "archive")
	for _, sql := range []string{
		`INSERT INTO logs SELECT * FROM logs`, `UPDATE alarms SET state = 'cleared'`, `DELETE FROM logs`, `TRUNCATE logs`,
		`CREATE TABLE x (a INTEGER)`, `CREATE TEMP TABLE x AS SELECT 1`, `CREATE VIEW x AS SELECT 1`, `CREATE MACRO x() AS 1`, `DROP TABLE logs`,
		`ALTER TABLE logs ADD COLUMN x INTEGER`, `COPY logs TO '` + archive + `/x.csv'`, `COPY (SELECT 1) TO '` + archive + `/x.parquet'`,
		`COPY logs FROM '` + archive + `/foreign.csv'`, `EXPORT DATABASE '` + archive + `/x'`, `IMPORT DATABASE '` + archive + `'`,
		`ATTACH '` + archive + `/x.duckdb'`, `ATTACH ':memory:' AS x`, `DETACH millrace`, `USE temp`, `INSTALL httpfs`, `LOAD httpfs`,
		`SET threads = 8`, `SET memory_limit = '1TB'`, `SET SESSION search_path = 'temp'`, `RESET threads`, `SET VARIABLE x = 1`,
		`PRAGMA table_info('logs')`, `PRAGMA enable_profiling`, `PRAGMA database_size`, `CALL pragma_version()`, `CHECKPOINT`, `FORCE CHECKPOINT`,
		`VACUUM`, `ANALYZE`, `BEGIN`, `COMMIT`, `ROLLBACK`, `PREPARE x AS SELECT 1`, `EXECUTE x`,
		`SELECT 1; SELECT 2`, `SELECT 1; DROP TABLE logs`, `SELECT 1) ; DROP TABLE logs; SELECT (1`, `SELECT 1 --` + "\n" + `; DROP TABLE logs`,
		`EXPLAIN ANALYZE COPY logs TO '` + archive + `/x.csv'`, `EXPLAIN ANALYZE DELETE FROM logs`, `/* x */ EXPLAIN ANALYZE DELETE FROM logs`,
		`EXPLAIN SELECT 1; DROP TABLE logs`, `EXPLAIN EXPLAIN DELETE FROM logs`,
		`SELECT * FROM read_csv('/etc/passwd')`, `SELECT * FROM read_text('` + archive + `/foreign.csv')`, `SELECT * FROM READ_BLOB('/etc/passwd')`,
		`SELECT * FROM "read_csv"('/etc/passwd')`, `SELECT * FROM main.read_csv('/etc/passwd')`, `SELECT * FROM system.main.read_text('/etc/passwd')`,
		`SELECT * FROM glob('/etc/*')`, `SELECT * FROM query('SELECT 1')`, `SELECT * FROM query_table('logs')`, `SELECT * FROM checkpoint()`,
		`SELECT * FROM force_checkpoint('millrace')`, `SELECT * FROM enable_logging()`, `SELECT * FROM duckdb_settings()`, `SELECT * FROM duckdb_secrets()`,
		`SELECT * FROM (SELECT * FROM read_parquet('x'))`, `SELECT (SELECT count(*) FROM read_csv('/etc/passwd'))`,
		`WITH x AS (SELECT * FROM read_csv('/etc/passwd')) FROM x`, `SELECT 1 WHERE 1 IN (SELECT 1 FROM glob('*'))`,
		`FROM (VALUES (1)) t(a), LATERAL (SELECT * FROM read_csv('/etc/passwd'))`, `SELECT 1 UNION ALL SELECT 1 FROM glob('*')`,
		`SELECT * FROM json_execute_serialized_sql('x')`, `SELECT json_execute_serialized_sql('x')`, `SELECT * FROM millrace_recent_rows()`,
		`SELECT getenv('HOME')`, `SELECT write_log('x')`, `SELECT * FROM internal.aggregate_states`, `SELECT * FROM millrace.internal.devices`,
		`SELECT * FROM "` + archive + `/foreign"."csv"`, `DESCRIBE "` + archive + `/foreign"."csv"`, `SUMMARIZE "` + archive + `/foreign"."csv"`,
		`SELECT * FROM "` + archive + `/foreign".main."csv"`, `SELECT * FROM foreign.csv`, `SELECT * FROM 'foreign.CSV'`,
		`SELECT * FROM histogram('` + archive + `/foreign.csv', a)`, `SELECT * FROM histogram(internal.devices, tenant)`,
		`SELECT * FROM histogram_values(internal.devices, tenant)`, `SELECT * FROM pg_catalog.pg_settings`, `SELECT * FROM PG_SETTINGS`,
		`SELECT * FROM duckdb_databases`, `SELECT * FROM pragma_database_list`, `SELECT * FROM duckdb_logs`,
		`DESCRIBE internal.devices`, `SUMMARIZE internal.devices`, `MERGE INTO logs USING logs l ON true WHEN MATCHED THEN DELETE`,
	} {
		_, err := rowsOf(t, db, answer.Request{SQL: sql})
		if !errors.Is(err, answer.ErrNotAllowed) && !errors.Is(err, answer.ErrInvalid) {
			t.Errorf("%s: %v, want a refusal", sql, err)
		}
	}
	entries, err := os.ReadDir(archive)
	if err != nil || len(entries) != 1 {
		t.Errorf("the archive has %v (%v), want the one file that was there", entries, err)
	}
	wantRows(t, db, `SELECT count(*) FROM device_state`, "2")
}

func TestQueryCannotReachOtherFiles(t *testing.T) {
	db, dir := queryable(t)
	for _, file := range []string{"/etc/passwd", filepath.Join(dir, "archive", "foreign.csv"), filepath.Join(dir, "archive", "*.csv"), filepath.Join(dir, "millrace.duckdb"), filepath.Join(dir, "archive", "..", "millrace.duckdb.wal"), "https://example.com/x.csv", "x.csv"} {
		if rows, err := rowsOf(t, db, answer.Request{SQL: `SELECT * FROM '` + file + `'`}); err == nil {
			t.Errorf("%s is readable: %.100v", file, rows)
		}
	}
	// Without the guard the sandbox must hold by itself.
	for _, sql := range []string{
		`SELECT * FROM read_text('/etc/passwd')`, `SELECT * FROM read_csv('/etc/passwd')`, `SELECT * FROM glob('/etc/*')`, `SELECT * FROM sniff_csv('/etc/passwd')`,
		`SELECT * FROM parquet_kv_metadata('/etc/passwd')`,
	} {
		result, err := db.Rows(t.Context(), sql)
		if err == nil {
			result.Close()
			t.Errorf("%s works", sql)
		}
	}
}

func TestQueryIsStoppedAtItsDeadline(t *testing.T) {
	db, _ := queryable(t)
	for _, sql := range []string{
		`SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range + b.range = 7`,
		`SELECT sum(sin(a.range)) FROM range(100000000000) a`,
		`WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x) SELECT count(*) FROM x`,
		`SELECT max(length(repeat('x', 100000) || a.range)) FROM range(1000000000) a`,
	} {
		start := time.Now()
		_, err := rowsOf(t, db, answer.Request{SQL: sql, Timeout: 100 * time.Millisecond})
		if !errors.Is(err, answer.ErrTimeout) && !errors.Is(err, answer.ErrResources) {
			t.Errorf("%s: %v, want ErrTimeout", sql, err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: stopped after %v", sql, took)
		}
		wantRows(t, db, `SELECT 1`, "1")
	}
}

func TestQueryEndsWithItsCaller(t *testing.T) {
	db, _ := queryable(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err := db.Query(ctx, answer.Request{SQL: `SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range + b.range = 7`})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want the caller's cancellation", err)
	}
}

func TestQueryIsHeldToItsMemory(t *testing.T) {
	dir := t.TempDir()
	db := openAt(t, dir, func(c *duckdb.Config) { c.MemoryLimit, c.TempLimit = 128<<20, 16<<20 })
	for _, sql := range []string{
		`SELECT range AS a, random() AS b, repeat('x', 100) || range FROM range(10000000) ORDER BY b`,
		`SELECT string_agg(repeat('x', 1000), '') FROM range(1000000)`,
		`SELECT list(range) FROM range(100000000)`,
	} {
		_, err := rowsOf(t, db, answer.Request{SQL: sql, MaxRows: answer.MaxRows, Timeout: 20 * time.Second})
		if !errors.Is(err, answer.ErrResources) && !errors.Is(err, answer.ErrTimeout) {
			t.Errorf("%s: %v, want ErrResources", sql, err)
		}
		wantRows(t, db, `SELECT 1`, "1")
	}
}

func TestQueryReadsOddTypes(t *testing.T) {
	db, _ := queryable(t)
	for _, sql := range []string{
		`SELECT MAP {[1]: 2, [2]: 3}`, `SELECT MAP {{'a': 1}: 2, {'a': 2}: 3}`, `SELECT [MAP {[1]: 2, [2]: 3}]`, `SELECT {'m': MAP {[1]: 2, [2]: 3}}`,
		`SELECT union_value(m := MAP {[1]: 2, [2]: 3})`, `SELECT MAP {'a': MAP {'b': 1}}`, `SELECT map_from_entries([(i, i) FOR i IN range(5000)])`,
		`SELECT union_value(a := 1)`, `SELECT 'x'::BIT`, `SELECT '101'::BIT`, `SELECT 1::UHUGEINT`, `SELECT '12:00:00+02'::TIMETZ`, `SELECT 'infinity'::TIMESTAMP, '-infinity'::DATE`,
		`SELECT array_value(1, 2)`, `SELECT []`, `SELECT NULL`, `SELECT 123456789012345678901234567890::BIGNUM`, `SELECT INTERVAL 1 MONTH`,
		`SELECT 1::VARIANT`, `SELECT [1::VARIANT]`, `SELECT {'a': TIME_NS '12:00:00.123456789'}`, `SELECT {'a': NULL}`, `SELECT [[[1]]]`, `SELECT TIMESTAMP '290000-01-01'`, `SELECT (1, 2)`, `SELECT ?`, `SELECT time_ns '12:00:00.123456789'`,
	} {
		for _, encoding := range answer.Encodings() {
			r, err := db.Query(t.Context(), answer.Request{SQL: sql, Timeout: 5 * time.Second})
			if err != nil {
				if errors.Is(err, answer.ErrTimeout) {
					t.Errorf("%s: %v", sql, err)
				}
				continue // a refusal is an answer
			}
			if err := encoding.Write(io.Discard, r); err != nil {
				t.Errorf("%s as %s: %v", sql, encoding.MediaType, err)
			}
			r.Close()
		}
	}
	wantRows(t, db, `SELECT MAP {[1]: 2}, MAP {'k': 'v'}`, `{"[1]":2}|{"k":"v"}`)
}

func TestQueryIsRefusedWhenTooManyAreUnderWay(t *testing.T) {
	db, _ := queryable(t)
	var open []answer.Result
	for range 4 {
		r, err := db.Query(t.Context(), answer.Request{SQL: `SELECT 1`})
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, r)
	}
	if _, err := db.Query(t.Context(), answer.Request{SQL: `SELECT 1`}); !errors.Is(err, answer.ErrBusy) {
		t.Errorf("%v, want ErrBusy", err)
	}
	if r, err := db.Rows(t.Context(), `SELECT 1`); err != nil {
		t.Errorf("our own queries wait behind analysts': %v", err)
	} else {
		r.Close()
	}
	for _, r := range open {
		r.Close()
		r.Close()
	}
	wantRows(t, db, `SELECT 1`, "1")
}

func TestQueriesBesideWrites(t *testing.T) {
	db, _ := queryable(t)
	var wg sync.WaitGroup
	defer wg.Wait()
	fail := make(chan error, 8)
	const rounds = 30
	write := func(w store.Writer[store.MessageRow], topic string, kind telemetry.Kind) {
		wg.Go(func() {
			for i := range rounds {
				rows := make([]store.MessageRow, 200)
				for j := range rows {
					rows[j] = storetest.Message(i*200 + j)
					rows[j].Kind = kind
				}
				span := store.Span{Partition: bus.PartitionID{Topic: topic}, Through: bus.Progress{Through: bus.Position{Seq: uint64(i + 1)}}}
				if i > 0 {
					span.After = bus.Position{Seq: uint64(i)}
				}
				if err := w.Write(t.Context(), store.Commit{Worker: "x", Spans: []store.Span{span}}, rows); err != nil {
					fail <- err
					return
				}
			}
		})
	}
	write(db.State(), "telemetry", telemetry.KindChannel)
	write(db.State(), "events", telemetry.KindChannel)
	write(db.Logs(), "logs", telemetry.KindLog)
	for range 2 {
		wg.Go(func() {
			for range rounds {
				if _, err := rowsOf(t, db, answer.Request{SQL: `SELECT device_id, count(*), max(event_time) FROM device_state GROUP BY ALL`}); err != nil {
					fail <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(fail)
	for err := range fail {
		t.Error(err)
	}
	wantRows(t, db, `SELECT count(*) FROM logs`, fmt.Sprint(rounds*200))
}
