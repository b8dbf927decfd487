package duckdb_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/store/duckdb"
	"github.com/millrace/millrace/pkg/store/parquet"
	"github.com/millrace/millrace/pkg/store/storetest"
)

func TestSelect(t *testing.T) {
	open := func(t *testing.T) (storetest.SelectStore, *parquet.History) {
		t.Helper()
		dir := t.TempDir()
		archive := filepath.Join(dir, "archive")
		history, err := parquet.Open(t.Context(), parquet.Config{Dir: archive, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := history.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
		db := openAt(t, dir, func(c *duckdb.Config) { c.ArchiveDir, c.History = archive, history })
		return storetest.SelectStore{
			Reader: db, State: db.State(), History: history, Aggregates: db.Aggregates(), Alarms: db.Alarms(), Logs: db.Logs(), DeadLetters: db.DeadLetters(),
		}, history
	}
	t.Run("history in memory", func(t *testing.T) {
		storetest.Select(t, func(t *testing.T) storetest.SelectStore {
			t.Helper()
			s, _ := open(t)
			return s
		})
	})
	t.Run("history in files", func(t *testing.T) {
		storetest.Select(t, func(t *testing.T) storetest.SelectStore {
			t.Helper()
			s, history := open(t)
			s.Refresh = func(t *testing.T) {
				t.Helper()
				if err := history.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			return s
		})
	})
}
