package clickhouse_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/store/clickhouse"
)

func migrateHome(t *testing.T, h *home, options clickhouse.MigrateOptions) []clickhouse.Statement {
	t.Helper()
	done, err := clickhouse.Migrate(t.Context(), h.cfg, options)
	if err != nil {
		t.Fatalf("migrate: %v", err)
	}
	return done
}

// TestTheStatementsOfMigrations compares those of the tables and views with testdata; MILLRACE_UPDATE=1 rewrites it.
func TestTheStatementsOfMigrations(t *testing.T) {
	for _, c := range []struct {
		file   string
		change func(cfg *clickhouse.Config)
	}{
		{"single.sql", func(*clickhouse.Config) {}},
		{"cluster.sql", func(cfg *clickhouse.Config) { cfg.Cluster = "fleet" }},
		{"archive.sql", func(cfg *clickhouse.Config) {
			cfg.Replicated, cfg.ReplicaPath = true, "/other/{table}"
			cfg.Retention = clickhouse.Retention{History: 90 * 24 * time.Hour, Logs: time.Hour, DeadLetters: time.Minute, Aggregates: time.Second}
			cfg.Archive = clickhouse.Archive{URL: "https://s3.example/bucket/archive/**.parquet", Collection: "archive"}
		}},
	} {
		t.Run(c.file, func(t *testing.T) {
			cfg := clickhouse.Config{URL: "clickhouse://host/db"}
			c.change(&cfg)
			plan, err := clickhouse.Plan(cfg)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, s := range plan {
				if s.Migration > "010" && s.Migration[0] == '0' {
					continue // functions, which are the same everywhere
				}
				got.WriteString("-- " + s.Migration + "\n" + s.SQL + ";\n\n")
			}
			path := filepath.Join("testdata", c.file)
			if os.Getenv("MILLRACE_UPDATE") != "" {
				if err := os.WriteFile(path, []byte(got.String()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil || string(want) != got.String() {
				t.Errorf("%s (%v) is not what is made now:\n%s", path, err, got.String())
			}
		})
	}
}

func TestMigrateMakesWhatIsNotThereAndNothingTwice(t *testing.T) {
	protocols2(t, func(t *testing.T, h *home) {
		t.Helper()
		if _, err := clickhouse.Open(t.Context(), h.cfg); !errors.Is(err, clickhouse.ErrNotMigrated) || !strings.Contains(err.Error(), "millrace migrate") {
			t.Errorf("open before: %v, want that it says to migrate", err)
		}
		planned := migrateHome(t, h, clickhouse.MigrateOptions{DryRun: true})
		if _, err := clickhouse.Open(t.Context(), h.cfg); !errors.Is(err, clickhouse.ErrNotMigrated) {
			t.Errorf("open after a dry run: %v", err)
		}
		done := migrateHome(t, h, clickhouse.MigrateOptions{})
		if len(done) != len(planned) {
			t.Errorf("%d statements were run, %d were planned", len(done), len(planned))
		}
		for i := range min(len(done), len(planned)) {
			if done[i] != planned[i] {
				t.Errorf("statement %d is %s, planned was %s", i, done[i].SQL, planned[i].SQL)
			}
		}
		h.open(t)
		for _, s := range migrateHome(t, h, clickhouse.MigrateOptions{}) {
			t.Errorf("run again: %s", s.SQL)
		}
	})
}

// protocols2 is protocols with databases that were not migrated.
func protocols2(t *testing.T, test func(t *testing.T, h *home)) {
	t.Helper()
	for _, p := range []struct{ name, key string }{{"native", ""}, {"http", "http_url"}} {
		t.Run(p.name, func(t *testing.T) { test(t, unmigratedHome(t, p.key)) })
	}
}

func TestSeveralMigrateAtOnceAndAfterOneWasCutShort(t *testing.T) {
	h := unmigratedHome(t, "")
	plan := migrateHome(t, h, clickhouse.MigrateOptions{DryRun: true})
	for _, s := range plan[:5] { // as of one that was killed
		h.exec(t, s.SQL)
	}
	var wg sync.WaitGroup
	errs := make([]error, 3)
	for i := range errs {
		wg.Go(func() { _, errs[i] = clickhouse.Migrate(t.Context(), h.cfg, clickhouse.MigrateOptions{}) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	h.open(t)
}

func TestOpenRefusesTablesThatItCannotWorkWith(t *testing.T) {
	h := newHome(t, "")
	versions := h.cfg.Database + "_internal.schema_migrations"
	h.exec(t, "INSERT INTO "+versions+" (version, name, breaking) VALUES (901, '901_column_added.sql', 0)")
	h.open(t) // a column more is nothing to us: workers of two releases run side by side
	h.exec(t, "INSERT INTO "+versions+" (version, name, breaking) VALUES (902, '902_other_keys.sql', 1)")
	if _, err := clickhouse.Open(t.Context(), h.cfg); !errors.Is(err, clickhouse.ErrNewer) || !strings.Contains(err.Error(), "902_other_keys.sql") {
		t.Errorf("open: %v, want ErrNewer and the name of the migration", err)
	}
	if _, err := clickhouse.Migrate(t.Context(), h.cfg, clickhouse.MigrateOptions{}); !errors.Is(err, clickhouse.ErrNewer) {
		t.Errorf("migrate: %v, want ErrNewer", err)
	}
	h.exec(t, "DELETE FROM "+versions+" WHERE version IN (902, 2)")
	if _, err := clickhouse.Open(t.Context(), h.cfg); !errors.Is(err, clickhouse.ErrNotMigrated) || !strings.Contains(err.Error(), "002_views.sql") {
		t.Errorf("open: %v, want ErrNotMigrated and the name of the migration", err)
	}
}

func TestRetentionFollowsTheConfiguration(t *testing.T) {
	h := newHome(t, "")
	w := h.open(t)
	now := telemetryNow(t, h)
	old, recent := messages(0, 1), messages(1, 2)
	old[0].EventTime, recent[0].EventTime = now.Add(-3*time.Hour), now
	must(t, w.History(), through(0, 1), append(old, recent...))
	rows := func() uint64 {
		h.exec(t, "OPTIMIZE TABLE "+h.cfg.Database+"_internal.device_messages FINAL")
		return h.count(t, "SELECT count() FROM "+h.cfg.Database+".device_messages")
	}
	for _, c := range []struct {
		name string
		keep time.Duration
		want uint64
	}{{"for ever", 0, 2}, {"a day", 24 * time.Hour, 2}, {"an hour", time.Hour, 1}, {"for ever again", 0, 1}} {
		h.cfg.Retention.History = c.keep
		done := migrateHome(t, h, clickhouse.MigrateOptions{})
		if changed := len(done) > 0; changed != (c.name != "for ever") {
			t.Errorf("%s: %d statements", c.name, len(done))
		}
		if again := migrateHome(t, h, clickhouse.MigrateOptions{}); len(again) > 0 {
			t.Errorf("%s: run again: %s", c.name, again[0].SQL)
		}
		if n := rows(); n != c.want {
			t.Errorf("%s: %d rows, want %d", c.name, n, c.want)
		}
	}
}

func TestConfigurationsThatCannotBe(t *testing.T) {
	for _, c := range []struct {
		cfg  clickhouse.Config
		want string
	}{
		{clickhouse.Config{}, "no url"},
		{clickhouse.Config{URL: "postgres://u:secret@h/db"}, `scheme "postgres"`},
		{clickhouse.Config{URL: "clickhouse://u:secret@h\x00/db"}, "a url that cannot be read"},
		{clickhouse.Config{URL: "clickhouse://u:secret@h/a-b"}, `database "a-b"`},
		{clickhouse.Config{URL: "clickhouse://u:secret@h/db", Cluster: "x y"}, `cluster "x y"`},
		{clickhouse.Config{URL: "clickhouse://u:secret@h/db", Compression: "rar"}, `compression "rar"`},
		{clickhouse.Config{URL: "clickhouse://u:secret@h/db", Retention: clickhouse.Retention{Logs: 1}}, "retention of logs: 1ns"},
	} {
		_, err := clickhouse.Open(t.Context(), c.cfg)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v, want %q", c.cfg, err, c.want)
		}
	}
}
