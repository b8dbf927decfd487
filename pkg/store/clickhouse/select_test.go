package clickhouse_test

import (
	"testing"

	"github.com/millrace/millrace/pkg/store/storetest"
)

func TestSelect(t *testing.T) {
	protocols(t, func(t *testing.T, h *home) {
		t.Helper()
		storetest.Select(t, func(t *testing.T) storetest.SelectStore {
			t.Helper()
			db := h.open(t)
			return storetest.SelectStore{
				Reader: db, State: db.State(), History: db.History(), Aggregates: db.Aggregates(), Alarms: db.Alarms(), Logs: db.Logs(),
				DeadLetters: db.DeadLetters(),
			}
		})
	})
}
