package elasticsearch_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/enginetest"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/elasticsearch"
	"github.com/millrace/millrace/pkg/store/storetest"
	"github.com/millrace/millrace/pkg/telemetry"
)

const (
	open   = "elasticsearch"
	secure = "elasticsearch-secure"
)

// eachEngine runs a test on the open server and on the one with TLS and users.
func eachEngine(t *testing.T, f func(t *testing.T, s *site)) {
	t.Helper()
	for _, engine := range []string{open, secure} {
		t.Run(engine, func(t *testing.T) { f(t, newSite(t, engine)) })
	}
}

// site is a prefix of the test's own on an engine, with its templates.
type site struct {
	cfg    elasticsearch.Config
	engine *enginetest.Engine
}

func newSite(tb testing.TB, engine string) *site {
	tb.Helper()
	s := &site{engine: enginetest.Need(tb, engine)}
	s.cfg = elasticsearch.Config{
		URL: s.engine.URL, User: s.engine.Get("user"), Password: s.engine.Get("password"), Now: time.Now,
		Prefix: "t" + strings.ToLower(rand.Text()),
	}
	if ca := s.engine.Get("ca"); ca != "" {
		s.cfg.TLS = trusting(tb, ca)
	}
	if _, err := elasticsearch.Migrate(tb.Context(), s.cfg, elasticsearch.MigrateOptions{}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.remove(tb) })
	return s
}

func trusting(tb testing.TB, ca string) *tls.Config {
	tb.Helper()
	pem, err := os.ReadFile(ca)
	if err != nil {
		tb.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		tb.Fatalf("%s has no certificates", ca)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// open returns the store as a fresh process sees it.
func (s *site) open(tb testing.TB) *elasticsearch.DB {
	tb.Helper()
	db, err := elasticsearch.Open(tb.Context(), s.cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return db
}

// empty returns a store without rows.
func (s *site) empty(tb testing.TB) *elasticsearch.DB {
	tb.Helper()
	db := s.open(tb)
	s.deleteIndices(tb, db)
	return db
}

func (s *site) deleteIndices(tb testing.TB, db *elasticsearch.DB) {
	tb.Helper()
	var indices map[string]any
	call(tb, db, http.MethodGet, "/"+s.cfg.Prefix+"-*/_alias", nil, &indices)
	for part := range slices.Chunk(slices.Sorted(maps.Keys(indices)), 40) {
		call(tb, db, http.MethodDelete, "/"+strings.Join(part, ",")+"?ignore_unavailable=true", nil, nil)
	}
}

// remove deletes all that the test made.
func (s *site) remove(tb testing.TB) {
	tb.Helper()
	cfg := s.cfg
	cfg.LogsFor, cfg.HistoryFor, cfg.DeadLettersFor = 0, 0, 0
	ctx := context.WithoutCancel(tb.Context())
	db, err := elasticsearch.Open(ctx, cfg)
	if err != nil {
		tb.Errorf("clean up: %v", err)
		return
	}
	defer func() { _ = db.Close() }()
	s.deleteIndices(tb, db)
	for _, kind := range []string{"_index_template", "_component_template"} {
		if err := db.Call(ctx, http.MethodDelete, "/"+kind+"/"+s.cfg.Prefix+"-*", nil, nil); err != nil {
			tb.Errorf("clean up: %v", err)
		}
	}
}

func call(tb testing.TB, db *elasticsearch.DB, method, path string, body, out any) {
	tb.Helper()
	if err := db.Call(context.WithoutCancel(tb.Context()), method, path, body, out); err != nil {
		tb.Fatal(err)
	}
}

func refresh(tb testing.TB, db *elasticsearch.DB) {
	tb.Helper()
	call(tb, db, http.MethodPost, "/"+db.Prefix()+"-*/_refresh", nil, nil)
}

// each calls take with every row of a table, as a search sees it after a refresh.
func each(t *testing.T, db *elasticsearch.DB, table string, columns, order []string, take func(row []any)) {
	t.Helper()
	refresh(t, db)
	s := store.Selection{Table: table, Columns: columns, Order: order, Limit: 1 << 20}
	if err := db.Select(t.Context(), s, func(row []any) error { take(row); return nil }); err != nil {
		t.Fatal(err)
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

func origin(partition, position any) bus.Origin {
	return bus.Origin{Partition: int32(as[int64](partition)), Position: store.UnpackPosition(as[int64](position))}
}

func readLogs(t *testing.T, db *elasticsearch.DB) []store.MessageRow {
	t.Helper()
	var rows []store.MessageRow
	each(t, db, store.TableLogs, []string{
		"tenant", "device_id", "device_type", "severity", "source", "message", "event_time", "ingest_time", "message_id", "origin_partition", "origin_position",
	}, byTime(), func(r []any) {
		severity, _ := telemetry.ParseSeverity(as[string](r[3]))
		rows = append(rows, store.MessageRow{
			Message: telemetry.Message{
				Tenant: as[string](r[0]), DeviceID: as[string](r[1]), DeviceType: as[string](r[2]), Severity: severity,
				LogSource: as[string](r[4]), Text: as[string](r[5]), EventTime: at(r[6]), IngestTime: at(r[7]), MessageID: as[string](r[8]),
			},
			Origin: origin(r[9], r[10]),
		})
	})
	return rows
}

func byTime() []string { return []string{"event_time", "origin_partition", "origin_position"} }

func channelNames() []string {
	return []string{
		"tenant", "device_id", "device_type", "channel_key", "channel_type", "channel_value", "value", "event_time", "ingest_time", "message_id",
		"origin_partition", "origin_position",
	}
}

func channelRow(r []any) store.MessageRow {
	value, known := r[6].(float64)
	return store.MessageRow{
		Message: telemetry.Message{
			Tenant: as[string](r[0]), DeviceID: as[string](r[1]), DeviceType: as[string](r[2]), ChannelKey: as[string](r[3]),
			ChannelType: as[string](r[4]), ChannelValue: []byte(as[string](r[5])), Value: value, HasValue: known,
			EventTime: at(r[7]), IngestTime: at(r[8]), MessageID: as[string](r[9]),
		},
		Origin: origin(r[10], r[11]),
	}
}

func readStates(t *testing.T, db *elasticsearch.DB) []store.MessageRow {
	t.Helper()
	var rows []store.MessageRow
	each(t, db, store.TableState, channelNames(), []string{"tenant", "device_id", "channel_key"}, func(r []any) { rows = append(rows, channelRow(r)) })
	return rows
}

func readHistory(t *testing.T, db *elasticsearch.DB) []store.MessageRow {
	t.Helper()
	var rows []store.MessageRow
	columns := append(channelNames(), "kind", "device_time", "properties", "attributes", "source", "credential", "codec")
	each(t, db, store.TableMessages, columns, byTime(), func(r []any) {
		m := channelRow(r)
		m.Kind, m.DeviceTime = store.ParseKind(as[string](r[12])), at(r[13])
		var err error
		if m.Properties, err = store.ParseProperties(nil, []byte(as[string](r[14]))); err != nil {
			t.Error(err)
		}
		m.Attributes, m.Source, m.Credential, m.Codec = []byte(as[string](r[15])), as[string](r[16]), as[string](r[17]), as[string](r[18])
		rows = append(rows, m)
	})
	return rows
}

func readDevices(t *testing.T, db *elasticsearch.DB) []storetest.Device {
	t.Helper()
	var rows []storetest.Device
	each(t, db, store.TableDevices, []string{
		"device_id", "device_type", "first_seen", "last_seen", "connected", "connected_since", "disconnected_at", "disconnect_reason", "address", "client_id",
		"protocol", "credential",
	}, []string{"tenant", "device_id"}, func(r []any) {
		connected, session := r[4].(bool)
		rows = append(rows, storetest.Device{
			DeviceID: as[string](r[0]), DeviceType: as[string](r[1]), FirstSeen: at(r[2]), LastSeen: at(r[3]), Session: session, Connected: connected,
			ConnectedSince: at(r[5]), DisconnectedAt: at(r[6]), Reason: as[string](r[7]), Address: as[string](r[8]), ClientID: as[string](r[9]),
			Protocol: as[string](r[10]), Credential: as[string](r[11]),
		})
	})
	return rows
}

func readAggregates(t *testing.T, db *elasticsearch.DB) []telemetry.Aggregate {
	t.Helper()
	var rows []telemetry.Aggregate
	each(t, db, store.TableAggregates, []string{
		"tenant", "device_id", "channel_key", "window_start", "window_seconds", "count", "min", "max", "sum", "avg", "first", "last", "p50", "p95", "p99",
		"revision", "device_type", "first_time", "last_time", "window_length_ns",
	}, []string{"window_start", "window_length_ns", "tenant", "device_id", "channel_key"}, func(r []any) {
		a := telemetry.Aggregate{
			Tenant: as[string](r[0]), DeviceID: as[string](r[1]), ChannelKey: as[string](r[2]), WindowStart: at(r[3]),
			Count: uint64(as[int64](r[5])), Min: as[float64](r[6]), Max: as[float64](r[7]), Sum: as[float64](r[8]),
			First: as[float64](r[10]), Last: as[float64](r[11]), P50: as[float64](r[12]), P95: as[float64](r[13]), P99: as[float64](r[14]),
			Revision: uint32(as[int64](r[15])), DeviceType: as[string](r[16]), FirstTime: at(r[17]), LastTime: at(r[18]),
			WindowLength: as[int64](r[19]), Final: true,
		}
		if got := as[float64](r[9]); got != a.Avg() {
			t.Errorf("avg is %v, want %v", got, a.Avg())
		}
		if got, want := as[float64](r[4]), float64(a.WindowLength)/1e9; got != want {
			t.Errorf("window_seconds is %v, want %v", got, want)
		}
		rows = append(rows, a)
	})
	return rows
}

// readDeadLetters reads the documents, since no column shows exact bytes that are no text.
func readDeadLetters(t *testing.T, db *elasticsearch.DB) []telemetry.DeadLetter {
	t.Helper()
	refresh(t, db)
	var found struct {
		Hits struct {
			Hits []struct {
				Source struct {
					Topic      string  `json:"millrace.topic"`
					Worker     string  `json:"millrace.worker"`
					Reason     string  `json:"error.message"`
					Tenant     string  `json:"organization.id"`
					Device     string  `json:"device.id"`
					Credential string  `json:"millrace.credential"`
					Partition  int32   `json:"millrace.partition"`
					Position   string  `json:"millrace.position"`
					Payload    string  `json:"millrace.payload"`
					Exact      *[]byte `json:"millrace.payload_bytes"`
					At         string  `json:"@timestamp"`
					Context    string  `json:"millrace.context"`
					ReplayedAt string  `json:"millrace.replayed_at"`
					ReplayedBy string  `json:"millrace.replayed_by"`
				} `json:"_source"`
			} `json:"hits"`
		} `json:"hits"`
	}
	call(t, db, http.MethodPost, "/"+db.Prefix()+"-dead_letters-*/_search?size=10000", nil, &found)
	var rows []telemetry.DeadLetter
	for _, h := range found.Hits.Hits {
		s := &h.Source
		payload := []byte(s.Payload)
		if s.Exact != nil {
			payload = *s.Exact
		}
		received, err := time.Parse(time.RFC3339Nano, s.At)
		if err != nil {
			t.Error(err)
		}
		var replayed telemetry.Time
		if s.ReplayedAt != "" {
			at, err := time.Parse(time.RFC3339Nano, s.ReplayedAt)
			if err != nil {
				t.Error(err)
			}
			replayed = telemetry.At(at)
		}
		rows = append(rows, telemetry.DeadLetter{
			Context: s.Context, ReplayedAt: replayed, ReplayedBy: s.ReplayedBy,
			Topic: s.Topic, Worker: s.Worker, Reason: s.Reason, Payload: payload, ReceivedAt: telemetry.At(received), Tenant: s.Tenant,
			DeviceID: s.Device, Credential: s.Credential, Partition: s.Partition, Position: s.Position,
		})
	}
	return rows
}

func TestLogs(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *site) {
		t.Helper()
		var wrap func(db *elasticsearch.DB) storetest.LogStore
		wrap = func(db *elasticsearch.DB) storetest.LogStore {
			return storetest.LogStore{
				LogWriter: db.Logs(),
				Read: func(t *testing.T) []store.MessageRow {
					t.Helper()
					return readLogs(t, db)
				},
				Crash: func(t *testing.T) storetest.LogStore {
					t.Helper()
					return wrap(s.open(t))
				},
			}
		}
		storetest.Logs(t, func(t *testing.T) storetest.LogStore {
			t.Helper()
			return wrap(s.empty(t))
		})
	})
}

func TestState(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *site) {
		t.Helper()
		var wrap func(db *elasticsearch.DB) storetest.StateStore
		wrap = func(db *elasticsearch.DB) storetest.StateStore {
			return storetest.StateStore{
				StateWriter: db.State(),
				States: func(t *testing.T) []store.MessageRow {
					t.Helper()
					return readStates(t, db)
				},
				Devices: func(t *testing.T) []storetest.Device {
					t.Helper()
					return readDevices(t, db)
				},
				Crash: func(t *testing.T) storetest.StateStore {
					t.Helper()
					return wrap(s.open(t))
				},
			}
		}
		storetest.State(t, func(t *testing.T) storetest.StateStore {
			t.Helper()
			return wrap(s.empty(t))
		})
	})
}

func TestHistory(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *site) {
		t.Helper()
		var wrap func(db *elasticsearch.DB) storetest.HistoryStore
		wrap = func(db *elasticsearch.DB) storetest.HistoryStore {
			return storetest.HistoryStore{
				HistoryWriter: db.History(),
				Read: func(t *testing.T) []store.MessageRow {
					t.Helper()
					return readHistory(t, db)
				},
				Crash: func(t *testing.T) storetest.HistoryStore {
					t.Helper()
					return wrap(s.open(t))
				},
			}
		}
		storetest.History(t, func(t *testing.T) storetest.HistoryStore {
			t.Helper()
			return wrap(s.empty(t))
		})
	})
}

func TestAggregates(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *site) {
		t.Helper()
		var wrap func(db *elasticsearch.DB) storetest.AggregateStore
		wrap = func(db *elasticsearch.DB) storetest.AggregateStore {
			return storetest.AggregateStore{
				AggregateWriter: db.Aggregates(),
				Read: func(t *testing.T) []telemetry.Aggregate {
					t.Helper()
					return readAggregates(t, db)
				},
				Crash: func(t *testing.T) storetest.AggregateStore {
					t.Helper()
					return wrap(s.open(t))
				},
			}
		}
		storetest.Aggregates(t, func(t *testing.T) storetest.AggregateStore {
			t.Helper()
			return wrap(s.empty(t))
		})
	})
}

func TestDeadLetters(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *site) {
		t.Helper()
		var wrap func(db *elasticsearch.DB) storetest.DeadLetterStore
		wrap = func(db *elasticsearch.DB) storetest.DeadLetterStore {
			return storetest.DeadLetterStore{
				DeadLetterWriter: db.DeadLetters(),
				Read: func(t *testing.T) []telemetry.DeadLetter {
					t.Helper()
					return readDeadLetters(t, db)
				},
				Crash: func(t *testing.T) storetest.DeadLetterStore {
					t.Helper()
					return wrap(s.open(t))
				},
			}
		}
		storetest.DeadLetters(t, func(t *testing.T) storetest.DeadLetterStore {
			t.Helper()
			return wrap(s.empty(t))
		})
	})
}

func TestSelect(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *site) {
		t.Helper()
		storetest.Select(t, func(t *testing.T) storetest.SelectStore {
			t.Helper()
			db := s.empty(t)
			return storetest.SelectStore{
				Reader: db, State: db.State(), History: db.History(), Aggregates: db.Aggregates(), Logs: db.Logs(), DeadLetters: db.DeadLetters(),
				Refresh: func(t *testing.T) {
					t.Helper()
					refresh(t, db)
				},
			}
		})
	})
}
