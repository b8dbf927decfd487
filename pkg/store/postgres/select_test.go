package postgres_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/postgres"
	"github.com/millrace/millrace/pkg/store/storetest"
	"github.com/millrace/millrace/pkg/telemetry"
)

func ids(t *testing.T, db *postgres.DB, s store.Selection) []string {
	t.Helper()
	var found []string
	s.Table, s.Columns = store.TableAlarms, []string{"alarm_id"}
	if err := db.Select(t.Context(), s, func(row []any) error {
		found = append(found, as[string](row[0]))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

func TestSelect(t *testing.T) {
	storetest.Select(t, func(t *testing.T) storetest.SelectStore {
		t.Helper()
		db := open(t, fresh(t))
		return storetest.SelectStore{Reader: db, Alarms: db.Alarms()}
	})
}

func TestSelectionsOfAlarms(t *testing.T) {
	db := open(t, fresh(t))
	var rows []telemetry.Alarm
	for i := range 9 {
		a := alarm(fmt.Sprintf("a%d", i), uint32(i+1))
		a.RaisedAt += telemetry.Time(i / 2) // two raised at each nanosecond
		a.Rule = fmt.Sprintf("Größe-%d", i%3)
		if i == 4 {
			a.State, a.ClearedAt, a.Tenant = telemetry.AlarmCleared, a.RaisedAt+7, "Zoo"
		}
		rows = append(rows, a)
	}
	rows[8].RaisedAt = 0 // not known
	write(t, db, 0, rows...)
	first := rows[0].RaisedAt
	by := []string{"raised_at", "alarm_id"}
	for _, c := range []struct {
		name string
		s    store.Selection
		want []string
	}{
		{"equal", store.Selection{Where: []store.Condition{{Columns: []string{"tenant"}, Value: "Zoo"}}}, []string{"a4"}},
		{"not equal", store.Selection{Where: []store.Condition{{Columns: []string{"state"}, Op: store.NotEqual, Value: "raised"}}}, []string{"a4"}},
		{"a number", store.Selection{Where: []store.Condition{{Columns: []string{"revision"}, Value: int64(3)}}}, []string{"a2"}},
		{
			"times to the nanosecond",
			store.Selection{Where: []store.Condition{
				{Columns: []string{"raised_at"}, Op: store.AtLeast, Value: first + 1}, {Columns: []string{"raised_at"}, Op: store.Below, Value: first + 2},
			}},
			[]string{"a2", "a3"},
		},
		{"in", store.Selection{Where: []store.Condition{{Columns: []string{"alarm_id"}, Op: store.In, Value: []string{"a1", "a7", "x"}}}}, []string{"a1", "a7"}},
		{"contains, whatever the case", store.Selection{Where: []store.Condition{{Columns: []string{"rule"}, Op: store.Contains, Value: "GRÖSSE"}}}, nil},
		{"contains, umlauts too", store.Selection{Where: []store.Condition{{Columns: []string{"rule"}, Op: store.Contains, Value: "gRÖßE-2"}}}, []string{"a2", "a5", "a8"}},
		{"any of columns", store.Selection{Where: []store.Condition{{Columns: []string{"rule", "alarm_id"}, Op: store.Contains, Value: "A4"}}}, []string{"a4"}},
		{"percent is a character", store.Selection{Where: []store.Condition{{Columns: []string{"rule"}, Op: store.Contains, Value: "%"}}}, nil},
		{"descending, null last", store.Selection{Order: by, Descending: true}, []string{"a7", "a6", "a5", "a4", "a3", "a2", "a1", "a0", "a8"}},
		{"limit", store.Selection{Limit: 2}, []string{"a0", "a1"}},
		{"after, ascending", store.Selection{Order: by, After: []any{first + 1, "a2"}}, []string{"a3", "a4", "a5", "a6", "a7", "a8"}},
		{"after, descending", store.Selection{Order: by, Descending: true, After: []any{first + 1, "a2"}}, []string{"a1", "a0", "a8"}},
		{"bytes, not letters", store.Selection{Order: []string{"tenant", "alarm_id"}, Limit: 1}, []string{"a4"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.s.Order == nil {
				c.s.Order = []string{"alarm_id"}
			}
			if c.s.Limit == 0 {
				c.s.Limit = 100
			}
			if got := ids(t, db, c.s); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
