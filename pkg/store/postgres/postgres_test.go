package postgres_test

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/enginetest"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/postgres"
	"github.com/millrace/millrace/pkg/store/storetest"
	"github.com/millrace/millrace/pkg/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fresh returns a configuration with a schema of the test's own, migrated, and dropped at its end.
func fresh(tb testing.TB) postgres.Config {
	tb.Helper()
	e := enginetest.Need(tb, "postgres")
	cfg := postgres.Config{URL: e.URL, Schema: "Test " + strings.ToLower(rand.Text()[:12]), Channel: "test_" + strings.ToLower(rand.Text()[:12])}
	tb.Cleanup(func() { execute(tb, cfg, `DROP SCHEMA IF EXISTS `+pgx.Identifier{cfg.Schema}.Sanitize()+` CASCADE`) })
	if _, err := postgres.Migrate(tb.Context(), cfg, postgres.MigrateOptions{}); err != nil {
		tb.Fatalf("migrate: %v", err)
	}
	return cfg
}

// execute runs a statement as an operator would, with {schema} replaced.
func execute(tb testing.TB, cfg postgres.Config, statement string, args ...any) {
	tb.Helper()
	conn := connectAs(tb, cfg)
	if _, err := conn.Exec(context.WithoutCancel(tb.Context()), inSchema(cfg, statement), args...); err != nil {
		tb.Errorf("%s: %v", statement, err)
	}
	if err := conn.Close(context.WithoutCancel(tb.Context())); err != nil {
		tb.Error(err)
	}
}

func inSchema(cfg postgres.Config, statement string) string {
	return strings.ReplaceAll(statement, "{schema}", pgx.Identifier{cfg.Schema}.Sanitize())
}

func connectAs(tb testing.TB, cfg postgres.Config) *pgx.Conn {
	tb.Helper()
	conn, err := pgx.Connect(context.WithoutCancel(tb.Context()), cfg.URL)
	if err != nil {
		tb.Fatal(err)
	}
	return conn
}

func open(tb testing.TB, cfg postgres.Config) *postgres.DB {
	tb.Helper()
	db, err := postgres.Open(tb.Context(), cfg)
	if err != nil {
		tb.Fatalf("open: %v", err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return db
}

// all reads every alarm by the Reader.
func all(tb testing.TB, db *postgres.DB) []telemetry.Alarm {
	tb.Helper()
	var alarms []telemetry.Alarm
	err := db.Select(tb.Context(), store.Selection{Table: store.TableAlarms, Columns: alarmColumns(), Order: []string{"alarm_id"}, Limit: 1 << 20}, func(r []any) error {
		alarms = append(alarms, telemetry.Alarm{
			AlarmID: as[string](r[0]), Tenant: as[string](r[1]), Rule: as[string](r[2]), DeviceID: as[string](r[3]), ChannelKey: as[string](r[4]),
			Severity: as[string](r[5]), State: telemetry.AlarmState(as[string](r[6])), Value: as[string](r[7]), RaisedAt: at(r[8]),
			AckedAt: at(r[9]), ClearedAt: at(r[10]), Detail: detail(r[11]), PreviousValue: as[string](r[12]), Revision: uint32(as[int64](r[13])),
		})
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return alarms
}

func alarmColumns() []string {
	return []string{
		"alarm_id", "tenant", "rule", "device_id", "channel_key", "severity", "state", "value", "raised_at", "acked_at", "cleared_at", "detail",
		"previous_value", "revision",
	}
}

func as[T any](v any) T { //nolint:ireturn // a type parameter
	out, _ := v.(T)
	return out
}

func at(v any) telemetry.Time {
	if t, ok := v.(time.Time); ok {
		return telemetry.At(t)
	}
	return 0
}

func detail(v any) []byte {
	if s, ok := v.(string); ok {
		return []byte(s)
	}
	return nil
}

func harness(tb testing.TB, cfg postgres.Config) storetest.AlarmStore {
	tb.Helper()
	db := open(tb, cfg)
	return storetest.AlarmStore{
		AlarmWriter: db.Alarms(),
		Read: func(t *testing.T) []telemetry.Alarm {
			t.Helper()
			return all(t, db)
		},
		Crash: func(t *testing.T) storetest.AlarmStore { // of the worker; the server's is TestKill…
			t.Helper()
			return harness(t, cfg)
		},
	}
}

func TestAlarms(t *testing.T) {
	storetest.Alarms(t, func(t *testing.T) storetest.AlarmStore {
		t.Helper()
		return harness(t, fresh(t))
	})
}

func commitOf(after, through uint64) store.Commit {
	s := store.Span{Partition: bus.PartitionID{Topic: "telemetry"}, Through: bus.Progress{Through: bus.Position{Seq: through}}}
	s.After.Seq = after
	return store.Commit{Worker: "test", Spans: []store.Span{s}}
}

func alarm(id string, revision uint32) telemetry.Alarm {
	return telemetry.Alarm{
		AlarmID: id, Tenant: "default", Rule: "too-hot", DeviceID: "d", ChannelKey: "temperature", Severity: "critical", State: telemetry.AlarmRaised,
		Value: "80", PreviousValue: "20", RaisedAt: 1_492_016_720_480_850_701, Detail: []byte(`{"limit":80}`), Revision: revision,
	}
}

func write(tb testing.TB, db *postgres.DB, after uint64, rows ...telemetry.Alarm) {
	tb.Helper()
	if err := db.Alarms().Write(tb.Context(), commitOf(after, after+1), rows); err != nil {
		tb.Fatalf("write: %v", err)
	}
}

func TestColumnsOfTheOperatorsSurviveOurWrites(t *testing.T) {
	cfg := fresh(t)
	db := open(t, cfg)
	write(t, db, 0, alarm("a", 1))
	execute(t, cfg, `ALTER TABLE {schema}.alarms ADD COLUMN assignee text, ADD COLUMN note text NOT NULL DEFAULT 'new'`)
	execute(t, cfg, `UPDATE {schema}.alarms SET assignee = 'maria', note = 'valve 3'`)
	write(t, db, 1, alarm("a", 2), alarm("b", 1))
	got := queryTexts(t, cfg, `SELECT alarm_id || ' ' || revision || ' ' || coalesce(assignee, '-') || ' ' || note FROM {schema}.alarms ORDER BY 1`)
	if want := []string{"a 2 maria valve 3", "b 1 - new"}; !slices.Equal(got, want) {
		t.Errorf("alarms are %q, want %q", got, want)
	}
}

func TestAConstraintOfTheOperatorsDelaysAWriteAndRefusesNoRow(t *testing.T) {
	cfg := fresh(t)
	db := open(t, cfg)
	execute(t, cfg, `ALTER TABLE {schema}.alarms ADD CONSTRAINT only_known CHECK (rule = 'known')`)
	err := db.Alarms().Write(t.Context(), commitOf(0, 1), []telemetry.Alarm{alarm("a", 1)})
	var refused *store.Refused
	if err == nil || errors.As(err, &refused) || errors.Is(err, store.ErrFenced) || !strings.Contains(err.Error(), "only_known") {
		t.Fatalf("write: %v, want an error to try again that names the constraint", err)
	}
	execute(t, cfg, `ALTER TABLE {schema}.alarms DROP CONSTRAINT only_known`)
	write(t, db, 0, alarm("a", 1))
}

func queryTexts(tb testing.TB, cfg postgres.Config, statement string) []string {
	tb.Helper()
	conn := connectAs(tb, cfg)
	defer func() { _ = conn.Close(context.WithoutCancel(tb.Context())) }()
	rows, err := conn.Query(tb.Context(), inSchema(cfg, statement))
	if err != nil {
		tb.Fatal(err)
	}
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		tb.Fatalf("%s: %v", statement, err)
	}
	return texts
}

func TestAnalystsSeeTimesToTheMicrosecondAndDetailAsJSON(t *testing.T) {
	cfg := fresh(t)
	a := alarm("a", 1)
	a.AckedAt = -1_500 // before 1970
	write(t, open(t, cfg), 0, a)
	got := queryTexts(t, cfg, `SELECT (raised_at AT TIME ZONE 'UTC')::text || ' ' || (acked_at AT TIME ZONE 'UTC')::text || ' ' ||
		coalesce(cleared_at::text, 'open') || ' ' || (detail->>'limit') FROM {schema}.alarms WHERE raised_at > '2017-04-12Z'::timestamptz`)
	if want := []string{"2017-04-12 17:05:20.48085 1969-12-31 23:59:59.999999 open 80"}; !slices.Equal(got, want) {
		t.Errorf("the alarm is %q, want %q", got, want)
	}
}

func TestChangesAreTold(t *testing.T) {
	cfg := fresh(t)
	db := open(t, cfg)
	conn := connectAs(t, cfg)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if _, err := conn.Exec(t.Context(), `LISTEN `+cfg.Channel); err != nil {
		t.Fatal(err)
	}
	write(t, db, 0, alarm("a", 2))
	write(t, db, 1, alarm("a", 1)) // changes nothing
	long := alarm("b", 1)
	long.DeviceID = strings.Repeat("é", 5000)
	write(t, db, 2, long)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, want := range []string{
		`{"alarm_id" : "a", "tenant" : "default", "device_id" : "d", "state" : "raised", "revision" : 2}`,
		`{"state" : "raised", "revision" : 1}`,
	} {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if n.Payload != want {
			t.Errorf("told %s, want %s", n.Payload, want)
		}
	}
}

func TestTextsThatTheServerCannotHoldAreShownOrRefused(t *testing.T) {
	cfg := fresh(t)
	db := open(t, cfg)
	odd := alarm("odd", 1)
	odd.Value, odd.PreviousValue = "a\x00b", "\xff"
	odd.Detail = []byte(`{"a":"\u0000","b":"\ud800","c":"\\u0000","d":1.50,"e":["\u0000"],"\u0000":"ü"}`)
	write(t, db, 0, odd)
	a := all(t, db)[0]
	if a.Value != "a␀b" || a.PreviousValue != "\uFFFD" || string(a.Detail) != `{"a":"\u2400","b":"\ufffd","c":"\\u0000","d":1.50,"e":["\u2400"],"\u2400":"ü"}` {
		t.Errorf("the alarm is %q, %q, %s", a.Value, a.PreviousValue, a.Detail)
	}

	none, huge, broken, good := alarm("none", 1), alarm(strings.ToLower(rand.Text())+random(9000), 1), alarm("broken", 1), alarm("good", 1)
	none.Detail = nil
	broken.Detail = []byte(`[1`)
	for _, c := range []struct {
		name string
		rows []telemetry.Alarm
		want []int
	}{
		{"detail that is no object", []telemetry.Alarm{none, broken, good, broken}, []int{1, 3}},
		{"a key too long for the index", []telemetry.Alarm{good, huge}, []int{1}},
	} {
		err := db.Alarms().Write(t.Context(), commitOf(1, 2), c.rows)
		var refused *store.Refused
		if !errors.As(err, &refused) || !slices.Equal(refused.Rows, c.want) || len(refused.Reasons) != len(c.want) {
			t.Errorf("%s: %v, want rows %d refused", c.name, err, c.want)
		}
	}
	write(t, db, 1, none, good)
	if n := len(all(t, db)); n != 3 {
		t.Errorf("%d alarms, want 3", n)
	}
}

// random returns text that does not compress.
func random(n int) string {
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(rand.Text())
	}
	return b.String()
}

func TestAServerThatHangsShowsAsAnError(t *testing.T) {
	cfg := fresh(t)
	cfg.Timeout = 300 * time.Millisecond
	db := open(t, cfg)
	conn := connectAs(t, cfg)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if _, err := conn.Exec(t.Context(), inSchema(cfg, `BEGIN; LOCK TABLE {schema}.alarms`)); err != nil {
		t.Fatal(err)
	}
	err := db.Alarms().Write(t.Context(), commitOf(0, 1), []telemetry.Alarm{alarm("a", 1)})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("write: %v, want its deadline", err)
	}
	if _, err := conn.Exec(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	cfg.Timeout = 0
	write(t, open(t, cfg), 0, alarm("a", 1))
}
