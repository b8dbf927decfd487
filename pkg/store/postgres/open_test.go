package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/pkg/enginetest"
	"github.com/millrace/millrace/pkg/store/postgres"
)

func TestOpenSaysWhatIsMissing(t *testing.T) {
	e := enginetest.Need(t, "postgres")
	for _, c := range []struct {
		name string
		cfg  postgres.Config
		want string
	}{
		{"no URL", postgres.Config{}, "no URL, want postgres://"},
		{"another URL", postgres.Config{URL: "postgres://user:secret@host:nonsense/db"}, "url:"},
		{"a name too long", postgres.Config{URL: e.URL, Schema: strings.Repeat("x", 64)}, "at most 63 bytes"},
		{"a wrong password", postgres.Config{URL: e.URL, Password: "secret"}, "password authentication failed"},
		{"nobody there", postgres.Config{URL: "postgres://user:secret@127.0.0.1:1/db"}, "127.0.0.1:1"},
		{"no tables", postgres.Config{URL: e.URL, Schema: "nobody made this"}, `schema "nobody made this" has no tables of ours: run ` + "`millrace migrate`"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := postgres.Open(t.Context(), c.cfg)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("open: %v, want %q and no password", err, c.want)
			}
		})
	}
}

func TestMigrationsAreAppliedOnceByWhoeverComesFirst(t *testing.T) {
	cfg := fresh(t)
	execute(t, cfg, `DROP SCHEMA {schema} CASCADE`)
	planned, err := postgres.Migrate(t.Context(), cfg, postgres.MigrateOptions{DryRun: true})
	if err != nil || len(planned) == 0 || !strings.Contains(planned[0].SQL, fmt.Sprintf("CREATE TABLE %q.alarms", cfg.Schema)) {
		t.Fatalf("a dry run plans %v (%v)", planned, err)
	}
	if _, err := postgres.Open(t.Context(), cfg); !errors.Is(err, postgres.ErrMigrate) {
		t.Fatalf("open after a dry run: %v, want ErrMigrate", err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	applied := 0
	for range 4 {
		wg.Go(func() {
			done, err := postgres.Migrate(t.Context(), cfg, postgres.MigrateOptions{})
			mu.Lock()
			defer mu.Unlock()
			applied += len(done)
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if applied != len(planned) {
		t.Errorf("%d migrations were applied by four at once, want %d", applied, len(planned))
	}
	open(t, cfg)
}

func TestTablesOfANewerReleaseAreUsedAndOlderOnesAreNot(t *testing.T) {
	cfg := fresh(t)
	execute(t, cfg, `INSERT INTO {schema}.schema_migrations (version, name) VALUES (99, '099_future.sql')`)
	if done, err := postgres.Migrate(t.Context(), cfg, postgres.MigrateOptions{}); err != nil || len(done) != 0 {
		t.Errorf("migrate: %v, %v", done, err)
	}
	write(t, open(t, cfg), 0, alarm("a", 1))
	execute(t, cfg, `DELETE FROM {schema}.schema_migrations`)
	if _, err := postgres.Open(t.Context(), cfg); !errors.Is(err, postgres.ErrMigrate) {
		t.Errorf("open: %v, want ErrMigrate", err)
	}
}

func TestAWriteIsOnDiskAlsoForARoleThatWantsItQuick(t *testing.T) {
	cfg := fresh(t)
	execute(t, cfg, `CREATE FUNCTION {schema}.seen() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.rule := current_setting(''synchronous_commit''); RETURN NEW; END'`)
	execute(t, cfg, `CREATE TRIGGER seen BEFORE INSERT ON {schema}.alarms FOR EACH ROW EXECUTE FUNCTION {schema}.seen()`)
	cfg.URL += "&synchronous_commit=off"
	db := open(t, cfg)
	write(t, db, 0, alarm("a", 1))
	if got := all(t, db)[0].Rule; got != "on" {
		t.Errorf("the write was made with synchronous_commit %s", got)
	}
	if err := db.Ping(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}
