package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

// SelectStore is a store.Reader under test, with the writers of the tables that it keeps; those that it does not keep are nil.
type SelectStore struct {
	store.Reader
	State       store.StateWriter
	History     store.Writer[store.MessageRow]
	Aggregates  store.AggregateWriter
	Alarms      store.AlarmWriter
	Logs        store.LogWriter
	DeadLetters store.DeadLetterWriter
	Refresh     func(t *testing.T) // makes what was written readable, where that takes longer than Write; may be nil
}

// Select holds a store.Reader to its promises; open is called once and returns an empty store, closed by t.Cleanup.
func Select(t *testing.T, open func(t *testing.T) SelectStore) {
	s := open(t)
	ref := fillForSelect(t, s)
	if s.Refresh != nil {
		s.Refresh(t)
	}
	orders := selectOrders()
	tables := slices.Sorted(maps.Keys(ref))
	for _, table := range tables {
		order := orders[table]
		t.Run(table, func(t *testing.T) {
			t.Run("every column comes back as it was written, nulls and nanoseconds included", func(t *testing.T) {
				for _, descending := range []bool{false, true} {
					wantPage(t, s, ref, store.Selection{Table: table, Columns: columnsOf(ref, table), Order: order, Descending: descending, Limit: 1000})
				}
			})
			t.Run("columns come in the order asked for, also twice or in part", func(t *testing.T) {
				columns := columnsOf(ref, table)
				slices.Reverse(columns)
				wantPage(t, s, ref, store.Selection{Table: table, Columns: append(columns[:3:3], columns[1]), Order: order, Limit: 5})
			})
			t.Run("each operator", func(t *testing.T) { selectOperators(t, s, ref, table, order) })
			t.Run("a limit is kept, and pages through ties give each row once, in both directions", func(t *testing.T) {
				for _, descending := range []bool{false, true} {
					for _, limit := range []int{1, 3, 7} {
						selectPages(t, s, ref, store.Selection{Table: table, Columns: columnsOf(ref, table), Order: order, Descending: descending, Limit: limit})
					}
				}
			})
			t.Run("whatever is asked, the answer is the reference's", func(t *testing.T) { selectAnything(t, s, ref, table, order) })
			t.Run("what comes from outside is only ever a value", func(t *testing.T) { selectHostile(t, s, ref, table, order) })
			t.Run("a column that the table does not have is an error", func(t *testing.T) { selectFaults(t, s, ref, table, order) })
		})
	}
	selectContains(t, s, ref)
	selectNulls(t, s, ref)
	selectCounts(t, s, ref)
	selectDeadLetterPages(t, s, ref)
	selectEnds(t, s, ref, tables[0], orders[tables[0]])
	t.Run("a table that the store does not have is an error", func(t *testing.T) {
		unknown := []string{"", "nothing", "device_state; DROP TABLE logs", "information_schema.tables", `alarms" --`, "schema_migrations", "history", "archive"}
		for table := range orders {
			if ref[table] == nil {
				unknown = append(unknown, table)
			}
		}
		for _, table := range unknown {
			wantSelectError(t, s, store.Selection{Table: table, Columns: []string{"tenant"}, Order: []string{"tenant"}, Limit: 1})
		}
	})
}

// selectOrders returns by table the columns that name a row; of dead letters only RowID does, which selectDeadLetterPages tries.
func selectOrders() map[string][]string {
	return map[string][]string{
		store.TableDevices:     {"tenant", "device_id"},
		store.TableState:       {"tenant", "device_id", "channel_key"},
		store.TableMessages:    {"event_time", "origin_partition", "origin_position"},
		store.TableAggregates:  {"window_start", "window_length_ns", "tenant", "device_id", "channel_key"},
		store.TableAlarms:      {"raised_at", "alarm_id"},
		store.TableLogs:        {"event_time", "origin_partition", "origin_position"},
		store.TableDeadLetters: {"received_at", "reason"},
	}
}

// fillForSelect writes rows into every table that s keeps, and returns what it must show.
func fillForSelect(t *testing.T, s SelectStore) reference {
	t.Helper()
	ref := reference{}
	all := selectMessages()
	if s.State != nil {
		sessions, devices := selectSessions(all)
		for i := range all {
			ref[store.TableState] = append(ref[store.TableState], stateRecord(&all[i]))
		}
		ref[store.TableDevices] = devices
		writeAll(t, s.State, append(slices.Clone(all), sessions...)...)
	}
	if s.History != nil {
		for i := range all {
			ref[store.TableMessages] = append(ref[store.TableMessages], messageRecord(&all[i]))
		}
		writeAll(t, s.History, all...)
	}
	if s.Aggregates != nil {
		rows, shown := selectAggregates()
		ref[store.TableAggregates] = shown
		mustFill(t, s.Aggregates, rows)
	}
	if s.Alarms != nil {
		rows, shown := selectAlarms()
		ref[store.TableAlarms] = shown
		mustFill(t, s.Alarms, rows)
	}
	if s.Logs != nil {
		rows, shown := selectLogs()
		ref[store.TableLogs] = shown
		writeAll(t, s.Logs, rows...)
	}
	if s.DeadLetters != nil {
		rows, shown := selectDeadLetters()
		ref[store.TableDeadLetters] = shown
		mustFill(t, s.DeadLetters, rows)
	}
	if len(ref) == 0 {
		t.Fatal("the store keeps no table")
	}
	return ref
}

func mustFill[Row any](t *testing.T, w store.Writer[Row], rows []Row) {
	t.Helper()
	if err := w.Write(t.Context(), commit(span(0, 0, 1)), rows); err != nil {
		t.Fatalf("write: %v", err)
	}
}

func columnsOf(ref reference, table string) []string { return slices.Sorted(maps.Keys(ref[table][0])) }

// someValue returns a value of a column that is not null, if there is one.
func someValue(ref reference, table, column string, from int) any {
	rows := ref[table]
	for i := range rows {
		if v := rows[(from+i)%len(rows)][column]; v != nil {
			return v
		}
	}
	return nil
}

// conditionsOn returns conditions of every operator that a column of v's type takes.
func conditionsOn(column string, v any) []store.Condition {
	on := func(op store.Op, v any) store.Condition {
		return store.Condition{Columns: []string{column}, Op: op, Value: v}
	}
	switch v := v.(type) {
	case string:
		return []store.Condition{
			on(store.Equal, v), on(store.NotEqual, v), on(store.In, []string{v}), on(store.In, []string{"no such", v, "größer"}), on(store.Equal, v+" "),
		}
	case bool:
		return []store.Condition{on(store.Equal, v), on(store.NotEqual, v), on(store.Equal, !v)}
	case int64:
		return []store.Condition{on(store.Equal, v), on(store.NotEqual, v)}
	case telemetry.Time:
		return []store.Condition{on(store.AtLeast, v), on(store.Below, v), on(store.AtLeast, v+1), on(store.Below, v+1)}
	}
	return nil // no condition on other numbers
}

func selectOperators(t *testing.T, s SelectStore, ref reference, table string, order []string) {
	t.Helper()
	for _, column := range columnsOf(ref, table) {
		for _, from := range []int{0, 11} {
			for _, c := range conditionsOn(column, someValue(ref, table, column, from)) {
				wantPage(t, s, ref, store.Selection{Table: table, Columns: []string{column}, Where: []store.Condition{c}, Order: order, Limit: 1000})
			}
		}
	}
}

// selectPages goes through a table page by page.
func selectPages(t *testing.T, s SelectStore, ref reference, sel store.Selection) {
	t.Helper()
	want := sel
	want.Limit = 1000
	var all []string
	for range 1000 {
		wantPage(t, s, ref, sel)
		rows, last := pageOf(t, s, sel)
		if t.Failed() {
			return
		}
		all = append(all, rows...)
		if len(rows) < sel.Limit {
			break
		}
		sel.After = last
	}
	if !slices.Equal(all, ref.page(want)) {
		t.Errorf("pages of %d have %d rows together, want %d, each once", sel.Limit, len(all), len(ref.page(want)))
	}
}

// selectAnything compares selections made by chance, the same ones each time.
func selectAnything(t *testing.T, s SelectStore, ref reference, table string, order []string) {
	t.Helper()
	chance := rand.New(rand.NewPCG(1, uint64(len(table))))
	columns := columnsOf(ref, table)
	for range 60 {
		sel := store.Selection{Table: table, Order: order, Descending: chance.IntN(2) == 0, Limit: 1 + chance.IntN(12)}
		for range 1 + chance.IntN(4) {
			sel.Columns = append(sel.Columns, columns[chance.IntN(len(columns))])
		}
		for range chance.IntN(3) {
			column := columns[chance.IntN(len(columns))]
			if all := conditionsOn(column, someValue(ref, table, column, chance.IntN(40))); len(all) > 0 {
				sel.Where = append(sel.Where, all[chance.IntN(len(all))])
			}
		}
		if chance.IntN(2) == 0 {
			rows := ref[table]
			sel.After = keysOf(rows[chance.IntN(len(rows))], order)
		}
		wantPage(t, s, ref, sel)
		if t.Failed() {
			return
		}
	}
}

// hostile are texts that mean something to one language or another.
func hostile() []string {
	return []string{
		"'", `"`, "`", `\`, `\'`, "' OR '1'='1", `" OR "1"="1`, "'; DROP TABLE alarms; --", "') OR 1=1 --", "*/ OR 1=1 /*", "?", "$1", ":name", "@p1",
		"{x:String}", "{{x}}", "${x}", "%", "_", "*", "a*", "a OR *:*", "+", "#", "~1", "/.*/", "<1-9>", "\n", "\r\n", "\t", "\x00", "a\x00b", "größer\u2028", "\U0001F600",
		`{"match_all":{}}`, strings.Repeat("x", 1024),
	}
}

func selectHostile(t *testing.T, s SelectStore, ref reference, table string, order []string) {
	t.Helper()
	column := order[len(order)-1]
	for _, c := range []string{"device_id", "reason"} {
		if _, ok := ref[table][0][c]; ok {
			column = c
		}
	}
	for _, text := range hostile() {
		for _, op := range []store.Op{store.Equal, store.Contains, store.In} {
			value := any(text)
			if op == store.In {
				value = []string{text, text + "'"}
			}
			wantPage(t, s, ref, store.Selection{
				Table: table, Columns: []string{column}, Order: order, Limit: 100,
				Where: []store.Condition{{Columns: []string{column}, Op: op, Value: value}},
			})
		}
	}
	wantPage(t, s, ref, store.Selection{Table: table, Columns: columnsOf(ref, table), Order: order, Limit: 1000}) // and all is still there
}

func wantSelectError(t *testing.T, s store.Reader, sel store.Selection) {
	t.Helper()
	called := false
	err := s.Select(t.Context(), sel, func([]any) error {
		called = true
		return nil
	})
	if err == nil || called {
		t.Errorf("select %+v: %v (rows: %v), want an error and no rows", sel, err, called)
	}
}

func selectFaults(t *testing.T, s SelectStore, ref reference, table string, order []string) {
	t.Helper()
	good := func() store.Selection {
		return store.Selection{Table: table, Columns: columnsOf(ref, table), Order: slices.Clone(order), Limit: 1}
	}
	text := order[len(order)-1]
	for name, spoil := range map[string]func(sel *store.Selection){
		"in the answer":        func(sel *store.Selection) { sel.Columns = []string{"nothing"} },
		"with SQL in its name": func(sel *store.Selection) { sel.Columns = []string{`tenant, (SELECT 1) AS x`} },
		"with a quote":         func(sel *store.Selection) { sel.Columns = []string{`tenant" FROM logs --`} },
		"in a condition":       func(sel *store.Selection) { sel.Where = []store.Condition{{Columns: []string{"nothing"}, Value: "x"}} },
		"in one of two columns": func(sel *store.Selection) {
			sel.Where = []store.Condition{{Columns: []string{text, "nothing"}, Value: "x"}}
		},
		"in the order":          func(sel *store.Selection) { sel.Order = []string{"nothing"} },
		"in an empty name":      func(sel *store.Selection) { sel.Columns = []string{""} },
		"limit 0":               func(sel *store.Selection) { sel.Limit = 0 },
		"no columns to compare": func(sel *store.Selection) { sel.Where = []store.Condition{{Value: "x"}} },
		"no such operator": func(sel *store.Selection) {
			sel.Where = []store.Condition{{Columns: []string{text}, Op: 99, Value: "x"}}
		},
		"In of nothing": func(sel *store.Selection) {
			sel.Where = []store.Condition{{Columns: []string{text}, Op: store.In, Value: []string{}}}
		},
		"too few keys": func(sel *store.Selection) { sel.After = []any{} },
	} {
		t.Run(name, func(t *testing.T) {
			sel := good()
			spoil(&sel)
			wantSelectError(t, s, sel)
		})
	}
}

// selectContains looks for texts that are patterns, or spelt otherwise, in the logs or else in whatever text there is.
func selectContains(t *testing.T, s SelectStore, ref reference) {
	where := map[string][]string{
		store.TableLogs: {"message"}, store.TableAlarms: {"alarm_id"}, store.TableState: {"device_id"}, store.TableDeadLetters: {"reason"}, store.TableMessages: {"device_id"},
	}
	parts := []string{
		"%", "_", `\`, `:\TEMP\`, "'", `"quoted"`, "100%", "100_", "under_score", "UNDER_SCORE", "valve", "VALVE 100", "DROP TABLE", "?", "{{", "$", "A_1", "a%1", `A\1`,
		"line\nbreak", "\t", "no such", "LINE 1", "O'N", "*", ".", "zz 9",
	}
	search := func(t *testing.T, parts ...string) {
		t.Helper()
		for table, columns := range where {
			if ref[table] == nil {
				continue
			}
			for _, part := range parts {
				wantPage(t, s, ref, store.Selection{
					Table: table, Columns: columns, Order: selectOrders()[table], Limit: 100,
					Where: []store.Condition{{Columns: columns, Op: store.Contains, Value: part}},
				})
			}
		}
	}
	t.Run("contains takes every character as it is, and both cases of a letter as one", func(t *testing.T) { search(t, parts...) })
	t.Run("contains knows the two cases of letters beyond ASCII", func(t *testing.T) { search(t, "größer", "GRÖ", "grö", "Öß") })
	t.Run("contains nothing holds for every text", func(t *testing.T) { search(t, "") })
	t.Run("a condition holds when any of its columns does", func(t *testing.T) {
		for table, columns := range map[string][]string{
			store.TableLogs: {"message", "device_id"}, store.TableDeadLetters: {"reason", "payload"}, store.TableAlarms: {"alarm_id", "device_id", "rule"},
			store.TableState: {"device_id", "channel_value"}, store.TableMessages: {"properties", "channel_value"},
		} {
			if ref[table] == nil {
				continue
			}
			for _, part := range []string{"a", "1", `"`, "%", "no such"} {
				for _, op := range []store.Op{store.Contains, store.Equal, store.NotEqual} {
					wantPage(t, s, ref, store.Selection{
						Table: table, Columns: columns, Order: selectOrders()[table], Limit: 100,
						Where: []store.Condition{{Columns: columns, Op: op, Value: part}, {Columns: []string{"tenant"}, Value: "default"}},
					})
				}
			}
		}
	})
}

// selectNulls looks at columns that are null in some rows.
func selectNulls(t *testing.T, s SelectStore, ref reference) {
	t.Run("a null compares to nothing, and sorts last in both directions", func(t *testing.T) {
		for table, column := range map[string]string{store.TableDevices: "connected_since", store.TableAlarms: "acked_at", store.TableMessages: "device_time"} {
			if ref[table] == nil {
				continue
			}
			order := append([]string{column}, selectOrders()[table]...)
			for _, descending := range []bool{false, true} {
				wantPage(t, s, ref, store.Selection{Table: table, Columns: []string{column}, Order: order, Descending: descending, Limit: 1000})
			}
			for _, op := range []store.Op{store.AtLeast, store.Below} {
				wantPage(t, s, ref, store.Selection{
					Table: table, Columns: []string{column}, Order: selectOrders()[table], Limit: 1000,
					Where: []store.Condition{{Columns: []string{column}, Op: op, Value: selectBase + 3_700*second}},
				})
			}
		}
	})
}

// selectDeadLetterPages goes through letters that only RowID tells apart.
func selectDeadLetterPages(t *testing.T, s SelectStore, ref reference) {
	if ref[store.TableDeadLetters] == nil {
		return
	}
	t.Run("dead letters of the same moment have row ids that stay", func(t *testing.T) {
		sel := store.Selection{Table: store.TableDeadLetters, Columns: []string{"received_at", "reason"}, Order: []string{"received_at", store.RowID}, Limit: 1000}
		var forth, back []string
		for _, descending := range []bool{false, true} {
			for _, limit := range []int{1, 4, 1000} {
				sel.Descending, sel.Limit, sel.After = descending, limit, nil
				var all []string
				for len(all) < 1000 {
					rows, last := pageOf(t, s, sel)
					all = append(all, rows...)
					if len(rows) < limit {
						break
					}
					sel.After = last
				}
				if seen := slices.Compact(slices.Sorted(slices.Values(all))); len(all) != len(ref[store.TableDeadLetters]) || len(seen) != len(all) {
					t.Errorf("pages of %d, descending %v: %d rows, %d different, want %d", limit, descending, len(all), len(seen), len(ref[store.TableDeadLetters]))
				}
				if descending {
					back = all
					slices.Reverse(back)
				} else {
					forth = all
				}
			}
		}
		if !slices.Equal(forth, back) {
			t.Errorf("forth and back differ:\n%s\n%s", strings.Join(forth, "\n"), strings.Join(back, "\n"))
		}
	})
}

func selectEnds(t *testing.T, s SelectStore, ref reference, table string, order []string) {
	sel := store.Selection{Table: table, Columns: columnsOf(ref, table), Order: order, Limit: 1000}
	t.Run("an error of each ends it and is returned", func(t *testing.T) {
		enough, n := errors.New("enough"), 0
		err := s.Select(t.Context(), sel, func([]any) error {
			if n++; n == 3 {
				return fmt.Errorf("row %d: %w", n, enough)
			}
			return nil
		})
		if !errors.Is(err, enough) || n != 3 {
			t.Errorf("%v after %d rows, want the error of each after 3", err, n)
		}
		wantPage(t, s, ref, sel) // nothing is left behind
	})
	t.Run("a context that has ended ends it", func(t *testing.T) {
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Select(ended, sel, func([]any) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want context.Canceled", err)
		}
		wantPage(t, s, ref, sel)
	})
}
