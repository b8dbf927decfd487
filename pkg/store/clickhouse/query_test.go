package clickhouse_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/store/answer"
	"github.com/millrace/millrace/pkg/store/clickhouse"
)

// asked is a database with two rows of state, as SQL from outside sees it.
func asked(t *testing.T, h *home, change func(*clickhouse.Config)) *clickhouse.DB {
	t.Helper()
	cfg := h.cfg
	if change != nil {
		change(&cfg)
	}
	db, err := clickhouse.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	// The rows come as they lie in the table: what is tried here is only how they are read.
	for _, row := range []string{
		`'device-1', 'status@secvest', 'json', '{"Name":"Secvest","Partitions":[{"id":"1","state":"unset"},{"id":"2","state":"set"}]}', NULL, 1492016722480850700`,
		`'device-0', 'channel-0', 'number', '0.5', 0.5, 1492016720480850700`,
	} {
		err := h.conn.Exec(t.Context(), "INSERT INTO "+h.cfg.Database+"_internal.device_state (tenant, device_id, channel_key, channel_type, channel_value, value, event_time) "+
			"SELECT 'default', "+strings.TrimSuffix(row, row[strings.LastIndex(row, ","):])+", fromUnixTimestamp64Nano("+row[strings.LastIndex(row, ",")+2:]+", 'UTC')")
		if err != nil {
			t.Fatal(err)
		}
	}
	return db
}

// rowsOf runs a query and returns its rows as text, with … behind them where there were more.
func rowsOf(t *testing.T, db *clickhouse.DB, req answer.Request) ([]string, error) {
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

func TestQueryAnswers(t *testing.T) {
	protocols(t, func(t *testing.T, h *home) {
		t.Helper()
		db := asked(t, h, nil)
		for _, c := range []struct {
			sql    string
			want   []string
			params []any
		}{
			{sql: `SELECT device_id, value FROM device_state WHERE value IS NOT NULL`, want: []string{"device-0|0.5"}},
			{sql: `SELECT event_time FROM device_state WHERE channel_key = 'channel-0';`, want: []string{"2017-04-12T17:05:20.4808507Z"}},
			{sql: `SELECT json_extract_string(channel_value, '$.Partitions[0].state') FROM device_state WHERE channel_type = 'json' -- a comment`, want: []string{"unset"}},
			{sql: `SELECT count(*) FROM device_state WHERE event_time > now() - INTERVAL 1 HOUR`, want: []string{"0"}},
			{sql: `SELECT count(*) FROM device_state WHERE event_time BETWEEN '2017-04-12' AND '2017-04-13T00:00:00Z'`, want: []string{"2"}},
			{sql: `SELECT DISTINCT date_trunc('hour', event_time), event_time::DATE FROM device_state`, want: []string{"2017-04-12T17:00:00Z|2017-04-12"}},
			{sql: "/* first */ SELECT 1 -- then\n", want: []string{"1"}},
			{sql: `WITH x AS (SELECT device_id FROM device_state) SELECT count(*) FROM x WHERE device_id IN (SELECT device_id FROM device_state WHERE value > 0)`, want: []string{"1"}},
			{sql: `SELECT s.device_id FROM ` + h.cfg.Database + `.device_state AS s WHERE value IS NULL`, want: []string{"device-1"}},
			{sql: `SELECT sum(number) FROM numbers(5)`, want: []string{"10"}},
			{sql: `SELECT sum(value), count(*), max(event_time) FROM device_state WHERE device_id = 'none'`, want: []string{"|0|"}},
			{sql: `SELECT s.device_id, m.value FROM device_state s LEFT JOIN device_messages m ON s.device_id = m.device_id ORDER BY 1`, want: []string{"device-0|", "device-1|"}},
			{sql: `SELECT [1, NULL, 3], map('k', 1.5), toDecimal64(12.34, 3), toUUID('01234567-89ab-cdef-0123-456789abcdef'), true`, want: []string{`[1,null,3]|{"k":1.5}|12.34|01234567-89ab-cdef-0123-456789abcdef|true`}},
			{sql: `SELECT device_id FROM device_state WHERE device_id = ? AND value < ?`, params: []any{"device-0", 7.5}, want: []string{"device-0"}},
			{sql: `SELECT $2, $1, '?', "?" FROM (SELECT 1 AS "?") -- ? $1`, params: []any{`it's \ $1 ?`, true}, want: []string{`true|it's \ $1 ?|?|1`}},
			{sql: `SELECT 3-?, ? FROM numbers(9) LIMIT ?`, params: []any{-2.0, nil, 1.0}, want: []string{"5|"}},
			{sql: `SELECT 1 ? 'yes' : 'no'`, want: []string{"yes"}},
		} {
			got, err := rowsOf(t, db, answer.Request{SQL: c.sql, Params: c.params})
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%s\n got %q, %v\nwant %q", c.sql, got, err, c.want)
			}
		}
		for _, sql := range []string{"SHOW TABLES", "DESCRIBE device_state", "EXPLAIN SELECT 1", "explain ast select * from logs", "DESCRIBE (SELECT 1 AS a)"} {
			if rows, err := rowsOf(t, db, answer.Request{SQL: sql}); err != nil || len(rows) == 0 {
				t.Errorf("%s: %d rows, %v", sql, len(rows), err)
			}
		}
	})
}

func TestQueryKeepsOutOfEverythingElse(t *testing.T) {
	protocols(t, func(t *testing.T, h *home) {
		t.Helper()
		db := asked(t, h, nil)
		internal := h.cfg.Database + "_internal"
		for _, sql := range []string{
			// statements that are no questions
			`INSERT INTO device_state SELECT * FROM device_state`, `DROP TABLE device_state`, `CREATE TABLE x (a Int8) ENGINE = Memory`, `ALTER TABLE logs DELETE WHERE 1`,
			`TRUNCATE TABLE logs`, `OPTIMIZE TABLE logs`, `SET readonly = 0`, `SYSTEM FLUSH LOGS`, `KILL QUERY WHERE 1`, `USE system`, `GRANT ALL ON *.* TO x`, `ATTACH TABLE x`,
			`RENAME TABLE a TO b`, `EXCHANGE TABLES a AND b`, `SHOW CREATE TABLE device_state`, `SHOW PROCESSLIST`, `SHOW GRANTS`, `SHOW DATABASES`, `SHOW TABLES FROM system`,
			`EXPLAIN INSERT INTO logs SELECT * FROM logs`, `EXPLAIN AST DROP TABLE logs`, `EXPLAIN indexes = 1 SELECT 1`, `EXISTS logs`, `CHECK TABLE logs`, `BACKUP TABLE logs TO Disk('a', 'b')`,
			`INSERT INTO FUNCTION file('/tmp/x') SELECT 1`, `WITH 1 AS x INSERT INTO logs SELECT x`, `DELETE FROM logs WHERE 1`, `UPDATE logs SET message = '' WHERE 1`,
			// what goes around the limits, or writes files
			`SELECT 1 SETTINGS max_execution_time = 0`, `SELECT * FROM (SELECT 1 SETTINGS readonly = 0)`, `SELECT 1 FORMAT CSV`, `SELECT 1 INTO OUTFILE '/tmp/x'`, `SELECT sleep(3)`,
			`SELECT sleepEachRow(1) FROM numbers(9)`, `EXPLAIN SELECT 1 SETTINGS max_threads = 1`, `SELECT 1 INTO OUTFILE '/tmp/x' FORMAT CSV SETTINGS max_threads = 1`,
			// other tables
			`SELECT * FROM system.users`, `SELECT * FROM "system"."tables"`, "SELECT * FROM `system`.one", `SELECT * FROM ` + internal + `.device_state`, `SELECT * FROM default.x`,
			`SELECT * FROM information_schema.tables`, `SELECT * FROM INFORMATION_SCHEMA.TABLES`, `SELECT (SELECT count() FROM system.tables)`, `SELECT 1 WHERE 'x' IN system.one`,
			`SELECT 1 WHERE 0 NOT IN system.one`, `SELECT 1 WHERE in(0, system.one)`, `WITH x AS (SELECT * FROM system.one) SELECT * FROM x`, `SELECT 1 UNION ALL SELECT dummy FROM system.one`,
			`SELECT * FROM device_state JOIN system.one ON 1 = 1`, `DESCRIBE system.tables`, `EXPLAIN SELECT * FROM system.tables`, `SELECT count() FROM view(SELECT * FROM system.one)`,
			`SELECT * FROM (SELECT 1 AS "a` + "\n" + `TableIdentifier device_state") x, system.one`, `SELECT arrayMap(x -> (SELECT max(dummy) FROM system.one), [1])`,
			`SELECT 1 WHERE EXISTS (SELECT 1 FROM system.one)`, `SELECT 1 FROM device_state WHERE 1 = ANY (SELECT dummy FROM system.one)`, `SELECT 1 ORDER BY (SELECT dummy FROM system.one)`,
			// table functions
			`SELECT * FROM file('/etc/passwd', 'LineAsString')`, `SELECT * FROM url('http://127.0.0.1:1/', 'CSV')`, `SELECT * FROM s3('http://127.0.0.1:1/a/b', 'CSV')`,
			`SELECT * FROM remote('127.0.0.1', system.one)`, `SELECT * FROM cluster('default', system.one)`, `SELECT * FROM merge('system', '.*')`, `SELECT * FROM mysql('a:1', 'b', 'c', 'd', 'e')`,
			`SELECT * FROM postgresql('a:1', 'b', 'c', 'd', 'e')`, `SELECT * FROM executable('x', 'CSV', 'a Int8')`, `SELECT * FROM dictionary('x')`, `SELECT * FROM loop(system.one)`,
			`SELECT * FROM input('a Int8')`, `SELECT * FROM sqlite('/a', 'b')`, `SELECT * FROM mergeTreeIndex(` + internal + `, device_state)`, "SELECT * FROM `file`('/etc/passwd')",
			`SELECT * FROM numbers(1), File('/etc/passwd')`, `SELECT * FROM generateRandom('a Int8')`, `SELECT * FROM viewExplain('EXPLAIN', '', (SELECT 1))`, `SELECT * FROM redis('a', 'b', 'c')`,
			`DESCRIBE file('/etc/passwd')`, `DESCRIBE url('http://127.0.0.1:1/')`, `SELECT 1 WHERE 1 IN (SELECT * FROM file('/etc/passwd', 'LineAsString'))`,
			// functions
			`SELECT file('/etc/passwd')`, `SELECT hostName()`, `SELECT currentUser()`, `SELECT getSetting('readonly')`, `SELECT getServerSetting('x')`, `SELECT getMacro('x')`,
			`SELECT dictGet('a', 'b', 1)`, `SELECT joinGet('system.one', 'dummy', 0)`, `SELECT reverseDNSQuery('127.0.0.1')`, `SELECT catboostEvaluate('/a', 1)`, `SELECT serverUUID()`,
			`SELECT hasColumnInTable('system', 'one', 'dummy')`, `SELECT arrayMap(x -> file(x), ['/etc/passwd'])`, `SELECT '1' IN file('/etc/passwd')`, `SELECT FILE('/etc/passwd')`,
			"SELECT `file`('/etc/passwd')", `SELECT generateSerialID('x')`, `SELECT filesystemAvailable()`, `SELECT zookeeperSessionUptime()`, `SELECT getClientHTTPHeader('Host')`,
			`SELECT 1 AS "x` + "\n" + ` TableExpression", file('/etc/passwd')`,
			// several statements
			`SELECT 1; DROP TABLE logs`, `SELECT 1; SELECT 2`, ``, `-- nothing`,
		} {
			rows, err := rowsOf(t, db, answer.Request{SQL: sql})
			if !errors.Is(err, answer.ErrNotAllowed) && !errors.Is(err, answer.ErrInvalid) {
				t.Errorf("%s: %q, %v, want that it is refused", sql, rows, err)
			}
		}
		if rows, err := rowsOf(t, db, answer.Request{SQL: `SELECT count(*) FROM device_state`}); err != nil || rows[0] != "2" {
			t.Errorf("afterwards there are %v rows, %v", rows, err)
		}
	})
}

func TestQueryTellsWhatIsWrong(t *testing.T) {
	protocols(t, func(t *testing.T, h *home) {
		t.Helper()
		db := asked(t, h, nil)
		for _, c := range []struct {
			sql    string
			params []any
			want   error
			text   string
		}{
			{`SELEC 1`, nil, answer.ErrInvalid, "Syntax error"},
			{`SELECT nothing FROM device_state`, nil, answer.ErrInvalid, "nothing"},
			{`SELECT * FROM nothing`, nil, answer.ErrInvalid, "nothing"},
			{`SELECT throwIf(number = 70000) FROM numbers(100000)`, nil, answer.ErrInvalid, ""},
			{`SELECT ?`, []any{1.0, 2.0}, answer.ErrInvalid, "parameter 2 of 2"},
			{`SELECT ?, ?`, []any{1.0}, answer.ErrInvalid, "parameter 2 of 1"},
			{`SELECT ?`, []any{[]any{}}, answer.ErrInvalid, "parameter 1"},
			{`SELECT ` + strings.Repeat(" ", answer.QueryBytesMax), nil, answer.ErrNotAllowed, "bytes"},
		} {
			_, err := rowsOf(t, db, answer.Request{SQL: c.sql, Params: c.params, MaxRows: 200_000})
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%.80s: %v, want %v with %q", c.sql, err, c.want, c.text)
			}
		}
	})
}

func TestQueryLimitsRowsTimeAndMemory(t *testing.T) {
	protocols(t, func(t *testing.T, h *home) {
		t.Helper()
		db := asked(t, h, func(c *clickhouse.Config) {
			c.Queries = clickhouse.QueryConfig{Queries: 2, Wait: 50 * time.Millisecond, MemoryBytes: 200 << 20}
		})
		for n, want := range map[int]int{1: 2, 9: 10, 10: 10, 11: 10} {
			rows, err := rowsOf(t, db, answer.Request{SQL: `SELECT number FROM numbers(10) ORDER BY number`, MaxRows: n})
			if err != nil || len(rows) != want || (rows[len(rows)-1] == "…") != (n < 10) {
				t.Errorf("of 10 rows at most %d: %q, %v", n, rows, err)
			}
		}
		if _, err := rowsOf(t, db, answer.Request{SQL: `SELECT sum(sipHash64(number)) FROM numbers(1000000000000)`, Timeout: 500 * time.Millisecond}); !errors.Is(err, answer.ErrTimeout) {
			t.Errorf("%v, want ErrTimeout", err)
		}
		if _, err := rowsOf(t, db, answer.Request{SQL: `SELECT length(groupArray(toString(number))) FROM numbers(1000000000)`}); !errors.Is(err, answer.ErrResources) {
			t.Errorf("%v, want ErrResources", err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := db.Query(ended, answer.Request{SQL: `SELECT 1`}); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want context.Canceled", err)
		}
		var open []answer.Result
		for range 2 {
			r, err := db.Query(t.Context(), answer.Request{SQL: `SELECT 1`})
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, r)
		}
		if _, err := db.Query(t.Context(), answer.Request{SQL: `SELECT 1`}); !errors.Is(err, answer.ErrBusy) {
			t.Errorf("%v, want ErrBusy", err)
		}
		for _, r := range open {
			r.Close()
			r.Close()
		}
		if _, err := rowsOf(t, db, answer.Request{SQL: `SELECT 1`}); err != nil {
			t.Error(err)
		}
	})
}

func TestQueryAnswersInEveryForm(t *testing.T) {
	const sql = `SELECT true AS a, toInt32(3) AS b, 9007199254740993 AS c, 2.25 AS d, 'größer' AS e, toDate('2017-04-12') AS f,
		toDateTime64('2017-04-12 17:05:20.4808507', 9, 'UTC') AS g, toDateTime('2017-04-12 17:05:20') AS h, toDecimal64(12.34, 3) AS i, [1, 2] AS j, CAST(NULL, 'Nullable(String)') AS k,
		toLowCardinality('x') AS l, toInt128('170141183460469231731687303715884105727') AS m, map('k', 1.5) AS n`
	protocols(t, func(t *testing.T, h *home) {
		t.Helper()
		db := asked(t, h, nil)
		for _, form := range answer.Encodings() {
			result, err := db.Query(t.Context(), answer.Request{SQL: sql})
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if err := form.Write(&out, result); err != nil {
				t.Errorf("%s: %v", form.MediaType, err)
			}
			result.Close()
			const want = `[true,3,9007199254740993,2.25,"größer","2017-04-12","2017-04-12T17:05:20.4808507Z","2017-04-12T17:05:20Z",12.34,[1,2],null,"x",170141183460469231731687303715884105727,{"k":1.5}]`
			if form.MediaType == "application/json" && !strings.Contains(out.String(), want) {
				t.Errorf("got %s\nwant %s", out.String(), want)
			}
			if got, want := fmt.Sprint(result.Columns()), "[{a BOOLEAN} {b INTEGER} {c UBIGINT} {d DOUBLE} {e VARCHAR} {f DATE} {g TIMESTAMP_NS} {h TIMESTAMP} {i DECIMAL(18,3)} "+
				"{j UTINYINT[]} {k VARCHAR} {l VARCHAR} {m HUGEINT} {n MAP(String, Float64)}]"; got != want {
				t.Errorf("columns %s\n   want %s", got, want)
			}
		}
		empty, err := db.Query(t.Context(), answer.Request{SQL: `SELECT device_id, value FROM device_state WHERE false;`})
		if err != nil {
			t.Fatal(err)
		}
		defer empty.Close()
		if err := answer.Encodings()[0].Write(io.Discard, empty); err != nil || len(empty.Columns()) != 2 {
			t.Errorf("without rows the columns are %v, %v", empty.Columns(), err)
		}
	})
}

// BenchmarkQuery reads a million rows of a time, a text and a number, as JSON.
func BenchmarkQuery(b *testing.B) {
	for _, p := range []struct{ name, key string }{{"native", ""}, {"http", "http_url"}} {
		b.Run(p.name, func(b *testing.B) {
			db, err := clickhouse.Open(b.Context(), newHome(b, p.key).cfg)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = db.Close() })
			b.ReportAllocs()
			for b.Loop() {
				result, err := db.Query(b.Context(), answer.Request{
					SQL:     `SELECT toDateTime64(number, 9, 'UTC') AS event_time, 'device-' || toString(number % 100) AS device_id, number / 7 AS value FROM numbers(1000000)`,
					MaxRows: 1_000_000,
				})
				if err != nil {
					b.Fatal(err)
				}
				if err := answer.Encodings()[0].Write(io.Discard, result); err != nil {
					b.Fatal(err)
				}
				result.Close()
			}
		})
	}
}
