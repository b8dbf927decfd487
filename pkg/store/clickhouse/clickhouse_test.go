package clickhouse_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"testing"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/enginetest"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/clickhouse"
	"github.com/millrace/millrace/pkg/store/storetest"
	"github.com/millrace/millrace/pkg/telemetry"
)

// home is a migrated database of a test's own, and a connection that reads what analysts would.
type home struct {
	cfg  clickhouse.Config
	conn driver.Conn
}

// protocols runs a test over both.
func protocols(t *testing.T, test func(t *testing.T, h *home)) {
	t.Helper()
	for _, p := range []struct{ name, key string }{{"native", ""}, {"http", "http_url"}} {
		t.Run(p.name, func(t *testing.T) { test(t, newHome(t, p.key)) })
	}
}

// newHome makes a database; key names the setting of the engine that has the URL.
func newHome(tb testing.TB, key string) *home {
	tb.Helper()
	h := unmigratedHome(tb, key)
	if _, err := clickhouse.Migrate(tb.Context(), h.cfg, clickhouse.MigrateOptions{}); err != nil {
		tb.Fatalf("migrate: %v", err)
	}
	return h
}

func unmigratedHome(tb testing.TB, key string) *home {
	tb.Helper()
	e := enginetest.Need(tb, "clickhouse")
	url := e.URL
	if key != "" {
		url = e.Get(key)
	}
	name := fnv.New64a()
	_, _ = name.Write([]byte(tb.Name()))
	h := &home{cfg: clickhouse.Config{URL: url, Database: fmt.Sprintf("test_%x_%x", name.Sum64(), rand.Uint32())}}
	options, err := ch.ParseDSN(e.URL)
	if err != nil {
		tb.Fatal(err)
	}
	options.Auth.Database = ""
	if h.conn, err = ch.Open(options); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), time.Minute)
		defer cancel()
		for _, database := range []string{h.cfg.Database, h.cfg.Database + "_internal"} {
			if err := h.conn.Exec(ctx, "DROP DATABASE IF EXISTS "+database); err != nil {
				tb.Errorf("drop %s: %v", database, err)
			}
		}
		if err := h.conn.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return h
}

// open opens the database as a process of its own would.
func (h *home) open(tb testing.TB) *clickhouse.DB {
	tb.Helper()
	db, err := clickhouse.Open(tb.Context(), h.cfg)
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

// empty opens the database with nothing in the tables of one store.
func (h *home) empty(tb testing.TB, tables ...string) *clickhouse.DB {
	tb.Helper()
	for _, table := range append(tables, "progress") {
		h.exec(tb, "TRUNCATE TABLE "+h.cfg.Database+"_internal."+table)
	}
	return h.open(tb)
}

func (h *home) exec(tb testing.TB, sql string) {
	tb.Helper()
	if err := h.conn.Exec(tb.Context(), sql); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}

// each scans every row of a view.
func (h *home) each(tb testing.TB, query string, dest func() ([]any, func())) {
	tb.Helper()
	rows, err := h.conn.Query(tb.Context(), query)
	if err != nil {
		tb.Fatalf("%s: %v", query, err)
	}
	for rows.Next() {
		into, take := dest()
		if err := rows.Scan(into...); err != nil {
			tb.Fatalf("%s: %v", query, err)
		}
		take()
	}
	if err := rows.Err(); err != nil {
		tb.Fatalf("%s: %v", query, err)
	}
	if err := rows.Close(); err != nil {
		tb.Fatal(err)
	}
}

func (h *home) count(tb testing.TB, query string) (n uint64) {
	tb.Helper()
	if err := h.conn.QueryRow(tb.Context(), query).Scan(&n); err != nil {
		tb.Fatalf("%s: %v", query, err)
	}
	return n
}

func telemetryNow(tb testing.TB, h *home) telemetry.Time {
	tb.Helper()
	var now time.Time
	if err := h.conn.QueryRow(tb.Context(), "SELECT now64(9, 'UTC')").Scan(&now); err != nil {
		tb.Fatal(err)
	}
	return telemetry.At(now)
}

func at(v *time.Time) telemetry.Time {
	if v == nil {
		return 0
	}
	return telemetry.At(*v)
}

func origin(partition int32, position int64) bus.Origin {
	return bus.Origin{Partition: partition, Position: store.UnpackPosition(position)}
}

func TestState(t *testing.T) {
	protocols(t, func(t *testing.T, h *home) {
		t.Helper()
		var wrap func(db *clickhouse.DB) storetest.StateStore
		wrap = func(db *clickhouse.DB) storetest.StateStore {
			return storetest.StateStore{
				StateWriter: db.State(),
				States:      h.states,
				Devices:     h.devices,
				Crash:       func(t *testing.T) storetest.StateStore { t.Helper(); return wrap(h.open(t)) },
			}
		}
		storetest.State(t, func(t *testing.T) storetest.StateStore {
			t.Helper()
			return wrap(h.empty(t, "device_state", "devices"))
		})
	})
}

func (h *home) states(t *testing.T) []store.MessageRow {
	t.Helper()
	var all []store.MessageRow
	h.each(t, "SELECT * FROM "+h.cfg.Database+".device_state", func() ([]any, func()) {
		var m store.MessageRow
		var value string
		var number *float64
		var event, ingest *time.Time
		var position int64
		into := []any{
			&m.Tenant, &m.DeviceID, &m.DeviceType, &m.ChannelKey, &m.ChannelType, &value, &number, &event, &ingest, &m.MessageID,
			&m.Origin.Partition, &position,
		}
		return into, func() {
			m.ChannelValue, m.EventTime, m.IngestTime, m.Origin = []byte(value), at(event), at(ingest), origin(m.Origin.Partition, position)
			if number != nil {
				m.Value, m.HasValue = *number, true
			}
			all = append(all, m)
		}
	})
	return all
}

func (h *home) devices(t *testing.T) []storetest.Device {
	t.Helper()
	var all []storetest.Device
	h.each(t, "SELECT * FROM "+h.cfg.Database+".devices", func() ([]any, func()) {
		var d storetest.Device
		var tenant string
		var first, last, since, gone *time.Time
		var connected *bool
		into := []any{
			&tenant, &d.DeviceID, &d.DeviceType, &first, &last, &connected, &since, &gone, &d.Reason, &d.Address, &d.ClientID, &d.Protocol,
			&d.Credential,
		}
		return into, func() {
			d.FirstSeen, d.LastSeen, d.ConnectedSince, d.DisconnectedAt = at(first), at(last), at(since), at(gone)
			if connected != nil {
				d.Session, d.Connected = true, *connected
			}
			all = append(all, d)
		}
	})
	return all
}

func TestHistory(t *testing.T) {
	protocols(t, func(t *testing.T, h *home) {
		t.Helper()
		var wrap func(db *clickhouse.DB) storetest.HistoryStore
		wrap = func(db *clickhouse.DB) storetest.HistoryStore {
			return storetest.HistoryStore{
				HistoryWriter: db.History(),
				Read:          func(t *testing.T) []store.MessageRow { t.Helper(); return h.messages(t, "device_messages") },
				Crash:         func(t *testing.T) storetest.HistoryStore { t.Helper(); return wrap(h.open(t)) },
			}
		}
		storetest.History(t, func(t *testing.T) storetest.HistoryStore { t.Helper(); return wrap(h.empty(t, "device_messages")) })
	})
}

func (h *home) messages(t *testing.T, view string) []store.MessageRow {
	t.Helper()
	var all []store.MessageRow
	h.each(t, "SELECT * FROM "+h.cfg.Database+"."+view, func() ([]any, func()) {
		var m store.MessageRow
		var value, kind string
		var number *float64
		var event, ingest, device *time.Time
		var properties, attributes *string
		var position int64
		into := []any{
			&m.Tenant, &m.DeviceID, &m.DeviceType, &m.ChannelKey, &m.ChannelType, &value, &number, &event, &ingest, &m.MessageID, &kind,
			&device, &properties, &attributes, &m.Source, &m.Credential, &m.Codec, &m.Origin.Partition, &position,
		}
		return into, func() {
			m.ChannelValue, m.EventTime, m.IngestTime, m.DeviceTime = []byte(value), at(event), at(ingest), at(device)
			m.Kind, m.Origin = store.ParseKind(kind), origin(m.Origin.Partition, position)
			if number != nil {
				m.Value, m.HasValue = *number, true
			}
			if properties != nil {
				var err error
				if m.Properties, err = store.ParseProperties(nil, []byte(*properties)); err != nil {
					t.Error(err)
				}
			}
			if attributes != nil {
				m.Attributes = []byte(*attributes)
			}
			all = append(all, m)
		}
	})
	return all
}

func TestLogs(t *testing.T) {
	severities := map[string]telemetry.Severity{}
	for s := telemetry.SeverityTrace; s <= telemetry.SeverityCritical; s++ {
		severities[s.Name()] = s
	}
	protocols(t, func(t *testing.T, h *home) {
		t.Helper()
		read := func(t *testing.T) []store.MessageRow {
			t.Helper()
			var all []store.MessageRow
			h.each(t, "SELECT * FROM "+h.cfg.Database+".logs", func() ([]any, func()) {
				var m store.MessageRow
				var severity string
				var event, ingest *time.Time
				var position int64
				into := []any{
					&m.Tenant, &m.DeviceID, &m.DeviceType, &severity, &m.LogSource, &m.Text, &event, &ingest, &m.MessageID, &m.Origin.Partition, &position,
				}
				return into, func() {
					m.Severity, m.EventTime, m.IngestTime, m.Origin = severities[severity], at(event), at(ingest), origin(m.Origin.Partition, position)
					all = append(all, m)
				}
			})
			return all
		}
		var wrap func(db *clickhouse.DB) storetest.LogStore
		wrap = func(db *clickhouse.DB) storetest.LogStore {
			return storetest.LogStore{
				LogWriter: db.Logs(), Read: read,
				Crash: func(t *testing.T) storetest.LogStore { t.Helper(); return wrap(h.open(t)) },
			}
		}
		storetest.Logs(t, func(t *testing.T) storetest.LogStore { t.Helper(); return wrap(h.empty(t, "logs")) })
	})
}

func TestDeadLetters(t *testing.T) {
	protocols(t, func(t *testing.T, h *home) {
		t.Helper()
		read := func(t *testing.T) []telemetry.DeadLetter {
			t.Helper()
			var all []telemetry.DeadLetter
			h.each(t, "SELECT * FROM "+h.cfg.Database+".dead_letters", func() ([]any, func()) {
				var d telemetry.DeadLetter
				var payload string
				var exact *string
				var received, replayed *time.Time
				var id string
				into := []any{
					&d.Topic, &d.Worker, &d.Reason, &payload, &received, &d.Tenant, &d.DeviceID, &d.Credential, &d.Partition, &d.Position, &exact,
					&id, &d.Context, &replayed, &d.ReplayedBy,
				}
				return into, func() {
					d.Payload, d.ReceivedAt, d.ReplayedAt = []byte(payload), at(received), at(replayed)
					if exact != nil {
						d.Payload = []byte(*exact)
					}
					all = append(all, d)
				}
			})
			return all
		}
		var wrap func(db *clickhouse.DB) storetest.DeadLetterStore
		wrap = func(db *clickhouse.DB) storetest.DeadLetterStore {
			return storetest.DeadLetterStore{
				DeadLetterWriter: db.DeadLetters(), Read: read,
				Crash: func(t *testing.T) storetest.DeadLetterStore { t.Helper(); return wrap(h.open(t)) },
			}
		}
		storetest.DeadLetters(t, func(t *testing.T) storetest.DeadLetterStore { t.Helper(); return wrap(h.empty(t, "dead_letters")) })
	})
}

func TestAggregates(t *testing.T) {
	protocols(t, func(t *testing.T, h *home) {
		t.Helper()
		var wrap func(db *clickhouse.DB) storetest.AggregateStore
		wrap = func(db *clickhouse.DB) storetest.AggregateStore {
			return storetest.AggregateStore{
				AggregateWriter: db.Aggregates(), Read: h.aggregates,
				Crash: func(t *testing.T) storetest.AggregateStore { t.Helper(); return wrap(h.open(t)) },
			}
		}
		storetest.Aggregates(t, func(t *testing.T) storetest.AggregateStore {
			t.Helper()
			return wrap(h.empty(t, "aggregates", "aggregate_states"))
		})
	})
}

func (h *home) aggregates(t *testing.T) []telemetry.Aggregate {
	t.Helper()
	var all []telemetry.Aggregate
	h.each(t, "SELECT * FROM "+h.cfg.Database+".aggregates", func() ([]any, func()) {
		a := telemetry.Aggregate{Final: true}
		var start, first, last *time.Time
		var seconds float64
		var count int64
		var revision int32
		var v [9]*float64
		into := []any{
			&a.Tenant, &a.DeviceID, &a.ChannelKey, &start, &seconds, &count, &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7], &v[8],
			&revision, &a.DeviceType, &first, &last, &a.WindowLength,
		}
		return into, func() {
			a.WindowStart, a.FirstTime, a.LastTime, a.Count, a.Revision = at(start), at(first), at(last), uint64(count), uint32(revision)
			var avg float64
			for i, to := range [...]*float64{&a.Min, &a.Max, &a.Sum, &avg, &a.First, &a.Last, &a.P50, &a.P95, &a.P99} {
				if v[i] != nil {
					*to = *v[i]
				}
			}
			if avg != a.Avg() || seconds != float64(a.WindowLength)/1e9 {
				t.Errorf("avg is %v and window_seconds %v of %+v", avg, seconds, a)
			}
			all = append(all, a)
		}
	})
	return all
}

func TestAlarms(t *testing.T) {
	protocols(t, func(t *testing.T, h *home) {
		t.Helper()
		read := func(t *testing.T) []telemetry.Alarm {
			t.Helper()
			var all []telemetry.Alarm
			h.each(t, "SELECT * FROM "+h.cfg.Database+".alarms", func() ([]any, func()) {
				var a telemetry.Alarm
				var state string
				var raised, acked, cleared *time.Time
				var detail *string
				var revision int32
				into := []any{
					&a.AlarmID, &a.Tenant, &a.Rule, &a.DeviceID, &a.ChannelKey, &a.Severity, &state, &a.Value, &raised, &acked, &cleared, &detail,
					&a.PreviousValue, &revision,
				}
				return into, func() {
					a.State, a.RaisedAt, a.AckedAt, a.ClearedAt, a.Revision = telemetry.AlarmState(state), at(raised), at(acked), at(cleared), uint32(revision)
					if detail != nil {
						a.Detail = []byte(*detail)
					}
					all = append(all, a)
				}
			})
			return all
		}
		var wrap func(db *clickhouse.DB) storetest.AlarmStore
		wrap = func(db *clickhouse.DB) storetest.AlarmStore {
			return storetest.AlarmStore{
				AlarmWriter: db.Alarms(), Read: read,
				Crash: func(t *testing.T) storetest.AlarmStore { t.Helper(); return wrap(h.open(t)) },
			}
		}
		storetest.Alarms(t, func(t *testing.T) storetest.AlarmStore { t.Helper(); return wrap(h.empty(t, "alarms")) })
	})
}
