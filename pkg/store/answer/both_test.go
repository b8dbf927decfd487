package answer_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/enginetest"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/answer"
	"github.com/millrace/millrace/pkg/store/clickhouse"
	"github.com/millrace/millrace/pkg/store/duckdb"
	"github.com/millrace/millrace/pkg/store/parquet"
	"github.com/millrace/millrace/pkg/telemetry"
)

// engine is what answers SQL, with the writers of the tables that are asked.
type engine struct {
	name       string
	query      func(ctx context.Context, r answer.Request) (answer.Result, error)
	state      store.StateWriter
	history    store.Writer[store.MessageRow]
	aggregates store.AggregateWriter
	alarms     store.AlarmWriter
	logs       store.LogWriter
	letters    store.DeadLetterWriter
}

// TestQueriesMeanTheSameOnBothEngines runs each file of test/queries unchanged on the embedded database and on ClickHouse.
func TestQueriesMeanTheSameOnBothEngines(t *testing.T) {
	native := enginetest.Need(t, "clickhouse")
	files, err := filepath.Glob("../../../test/queries/*.sql")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d files of queries, %v", len(files), err)
	}
	embedded, others := openDuckDB(t), []engine{openClickHouse(t, "native", native.URL), openClickHouse(t, "http", native.Get("http_url"))}
	rows := makeRows(time.Now().UTC())
	for _, e := range append([]engine{embedded}, others...) {
		rows.write(t, e)
	}
	for _, file := range files {
		b, err := os.ReadFile(filepath.Clean(file))
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".sql"), func(t *testing.T) {
			wantNames, want, err := ask(t, embedded, string(b))
			if err != nil {
				t.Fatalf("duckdb: %v", err)
			}
			if len(want) == 0 {
				t.Fatal("no rows: the file says nothing about the engines")
			}
			for _, e := range others {
				names, got, err := ask(t, e, string(b))
				if err != nil {
					t.Errorf("clickhouse over %s: %v", e.name, err)
					continue
				}
				if !slices.Equal(names, wantNames) {
					t.Errorf("clickhouse over %s has the columns %q, duckdb %q", e.name, names, wantNames)
				}
				compareRows(t, e.name, got, want)
			}
		})
	}
}

func compareRows(t *testing.T, name string, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("clickhouse over %s has %d rows, duckdb %d", name, len(got), len(want))
	}
	shown := 0
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] && shown < 3 {
			t.Errorf("row %d\nclickhouse %s\nduckdb     %s", i, got[i], want[i])
			shown++
		}
	}
}

func ask(t *testing.T, e engine, sql string) (names, rows []string, err error) {
	t.Helper()
	result, err := e.query(t.Context(), answer.Request{SQL: sql})
	if err != nil {
		return nil, nil, err
	}
	defer result.Close()
	for _, c := range result.Columns() {
		names = append(names, c.Name)
	}
	for row, err := range result.Rows() {
		if err != nil {
			return nil, nil, err
		}
		texts := make([]string, len(row))
		for i, v := range row {
			texts[i] = said(v, result.Columns()[i].Type)
		}
		rows = append(rows, strings.Join(texts, " | "))
	}
	if result.Truncated() {
		t.Error("the answer was cut off")
	}
	return names, rows, nil
}

// said writes a value so that what says the same is the same, whatever its type: 1 and true, 3 and 3.0, a date and its midnight.
func said(v any, columnType string) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		if v {
			return "1"
		}
		return "0"
	case float64:
		if math.Abs(v) < 1<<53 && v == math.Trunc(v) {
			return strconv.FormatInt(int64(v), 10)
		}
		return strconv.FormatFloat(v, 'g', 10, 64) // the order in which an engine adds up shows in the last digits
	case answer.Decimal:
		f, _ := new(big.Float).SetString(string(v))
		n, _ := f.Float64()
		return said(n, columnType)
	case string:
		return strconv.Quote(v)
	case time.Time:
		if v.Truncate(24 * time.Hour).Equal(v) {
			return v.Format(time.DateOnly)
		}
	}
	return answer.Text(v, columnType)
}

func openDuckDB(t *testing.T) engine {
	t.Helper()
	dir := t.TempDir()
	archive := filepath.Join(dir, "archive")
	history, err := parquet.Open(t.Context(), parquet.Config{Dir: archive, Now: time.Now})
	must(t, err)
	t.Cleanup(func() { must(t, history.Close(context.Background())) })
	db, err := duckdb.Open(t.Context(), duckdb.Config{
		Path: filepath.Join(dir, "millrace.duckdb"), ArchiveDir: archive, History: history, Threads: 2, MemoryLimit: 512 << 20,
	})
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	return engine{"duckdb", db.Query, db.State(), history, db.Aggregates(), db.Alarms(), db.Logs(), db.DeadLetters()}
}

func openClickHouse(t *testing.T, name, url string) engine {
	t.Helper()
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(t.Name() + name))
	cfg := clickhouse.Config{URL: url, Database: fmt.Sprintf("test_%x_%x", sum.Sum32(), rand.Uint32())}
	_, err := clickhouse.Migrate(t.Context(), cfg, clickhouse.MigrateOptions{})
	must(t, err)
	t.Cleanup(func() { dropDatabase(t, url, cfg.Database) })
	db, err := clickhouse.Open(t.Context(), cfg)
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	return engine{name, db.Query, db.State(), db.History(), db.Aggregates(), db.Alarms(), db.Logs(), db.DeadLetters()}
}

func dropDatabase(t *testing.T, url, database string) {
	t.Helper()
	options, err := ch.ParseDSN(url)
	must(t, err)
	options.Auth.Database = ""
	conn, err := ch.Open(options)
	must(t, err)
	defer func() { must(t, conn.Close()) }()
	for _, name := range []string{database, database + "_internal"} {
		must(t, conn.Exec(context.Background(), "DROP DATABASE IF EXISTS "+name))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// house is the rows of a small fleet over two days, up to now.
type house struct {
	messages, sessions, lines []store.MessageRow
	windows                   []store.AggregateRow
	alarms                    []telemetry.Alarm
	letters                   []store.DeadLetterRow
}

// write commits everything to an engine.
func (h *house) write(t *testing.T, e engine) {
	t.Helper()
	commit := store.Commit{Worker: "test", Spans: []store.Span{{
		Partition: bus.PartitionID{Topic: "telemetry"}, Through: bus.Progress{Through: bus.Position{Seq: 1}},
	}}}
	must(t, e.state.Write(t.Context(), commit, append(slices.Clone(h.messages), h.sessions...)))
	must(t, e.history.Write(t.Context(), commit, h.messages))
	must(t, e.logs.Write(t.Context(), commit, h.lines))
	must(t, e.aggregates.Write(t.Context(), commit, h.windows))
	must(t, e.alarms.Write(t.Context(), commit, h.alarms))
	must(t, e.letters.Write(t.Context(), commit, h.letters))
}
