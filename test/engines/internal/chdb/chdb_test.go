package chdb_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/millrace/millrace/pkg/enginetest"
)

// open connects over a protocol, and makes a table in a database of the test's own. The table is called by its whole name,
// since a session ends with its statement.
func open(t *testing.T, address string, method clickhouse.CompressionMethod) (conn clickhouse.Conn, table string) {
	t.Helper()
	options := options(t, address)
	options.Compression = &clickhouse.Compression{Method: method}
	conn, err := clickhouse.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	name := "t_" + strings.ToLower(rand.Text())
	must(t, conn.Exec(t.Context(), "CREATE DATABASE "+name))
	t.Cleanup(func() { must(t, conn.Exec(context.WithoutCancel(t.Context()), "DROP DATABASE "+name)) })
	must(t, conn.Exec(t.Context(), "CREATE TABLE "+name+".t (n UInt64, s String, at DateTime64(9, 'UTC'), f Nullable(Float64), "+
		"m Map(String, String)) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 100"))
	return conn, name + ".t"
}

func options(t *testing.T, address string) *clickhouse.Options {
	t.Helper()
	u, err := url.Parse(address)
	must(t, err)
	o := &clickhouse.Options{Addr: []string{u.Host}, Auth: clickhouse.Auth{Username: u.User.Username(), Database: "default"}}
	if u.Scheme == "http" {
		o.Protocol = clickhouse.HTTP
	}
	return o
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// protocols are the ways in which a client may come.
func protocols(t *testing.T, each func(t *testing.T, address string, method clickhouse.CompressionMethod)) {
	t.Helper()
	e := enginetest.Need(t, "clickhouse")
	for _, p := range []struct {
		name, address string
		method        clickhouse.CompressionMethod
	}{
		{"native", e.URL, clickhouse.CompressionNone},
		{"native, lz4", e.URL, clickhouse.CompressionLZ4},
		{"native, zstd", e.URL, clickhouse.CompressionZSTD},
		{"http", e.Get("http_url"), clickhouse.CompressionNone},
		{"http, lz4", e.Get("http_url"), clickhouse.CompressionLZ4},
		{"http, gzip", e.Get("http_url"), clickhouse.CompressionGZIP},
	} {
		t.Run(p.name, func(t *testing.T) { each(t, p.address, p.method) })
	}
}

func TestWhatIsInsertedIsReadBackOverEveryProtocol(t *testing.T) {
	protocols(t, func(t *testing.T, address string, method clickhouse.CompressionMethod) {
		t.Helper()
		conn, table := open(t, address, method)
		const rows = 70_000 // more than one block
		ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"insert_deduplication_token": "one"}))
		for range 2 { // the second changes nothing
			batch, err := conn.PrepareBatch(ctx, "INSERT INTO "+table)
			must(t, err)
			for n := range rows {
				must(t, batch.Append(uint64(n), fmt.Sprint("row ", n), int64(1_700_000_000_000_000_001), nil, map[string]string{"k": "v"}))
			}
			must(t, batch.Send())
		}
		var count, sum uint64
		must(t, conn.QueryRow(t.Context(), "SELECT count(), sum(n) FROM "+table).Scan(&count, &sum))
		if count != rows || sum != rows*(rows-1)/2 {
			t.Errorf("%d rows with the sum %d, want %d with %d", count, sum, rows, rows*(rows-1)/2)
		}
		answer, err := conn.Query(t.Context(), "SELECT n, s FROM "+table+" WHERE n >= {from:UInt64} ORDER BY n", clickhouse.Named("from", 5))
		must(t, err)
		next := uint64(5)
		for answer.Next() {
			var n uint64
			var s string
			must(t, answer.Scan(&n, &s))
			if n != next || s != fmt.Sprint("row ", n) {
				t.Fatalf("row %d is %d, %q", next, n, s)
			}
			next++
		}
		must(t, errors.Join(answer.Err(), answer.Close()))
		if next != rows {
			t.Errorf("rows up to %d, want %d", next, rows)
		}
	})
}

func TestTheEnginesErrorComesWithItsCodeOverEveryProtocol(t *testing.T) {
	protocols(t, func(t *testing.T, address string, method clickhouse.CompressionMethod) {
		t.Helper()
		conn, table := open(t, address, method)
		for _, c := range []struct {
			name, sql string
			code      int32
		}{
			{"no such table", "SELECT * FROM " + table + "_not", 60},
			{"several statements", "SELECT 1; SELECT 2", 62},
			{"amid the rows", "SELECT throwIf(number = 500000) FROM numbers(1000000)", 395},
		} {
			rows, err := conn.Query(t.Context(), c.sql)
			if err == nil {
				for rows.Next() {
				}
				err = errors.Join(rows.Err(), rows.Close())
			}
			exception := (*clickhouse.Exception)(nil)
			if !errors.As(err, &exception) || exception.Code != c.code {
				t.Errorf("%s: got %v, want code %d", c.name, err, c.code)
			}
		}
	})
}

func TestAUserHasAPassword(t *testing.T) {
	e := enginetest.Need(t, "clickhouse")
	for _, address := range []string{e.URL, e.Get("http_url")} {
		for _, c := range []struct {
			user, password string
			allowed        bool
		}{
			{"default", "", true},
			{"default", "guess", false},
			{e.Get("user"), e.Get("password"), true},
			{e.Get("user"), "guess", false},
			{e.Get("user"), "", false},
			{"nobody", "", false},
		} {
			o := options(t, address)
			o.Auth.Username, o.Auth.Password = c.user, c.password
			conn, err := clickhouse.Open(o)
			must(t, err)
			err = conn.Ping(t.Context())
			exception := (*clickhouse.Exception)(nil)
			if refused := errors.As(err, &exception) && exception.Code == 516; refused == c.allowed || (c.allowed && err != nil) {
				t.Errorf("%s: %s with %q: %v", o.Protocol, c.user, c.password, err)
			}
			must(t, conn.Close())
		}
	}
}
