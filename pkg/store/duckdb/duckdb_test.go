package duckdb_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/duckdb"
	"github.com/millrace/millrace/pkg/store/storetest"
	"github.com/millrace/millrace/pkg/telemetry"
)

func openAt(t *testing.T, dir string, change func(*duckdb.Config)) *duckdb.DB {
	t.Helper()
	cfg := duckdb.Config{Path: filepath.Join(dir, "millrace.duckdb"), Threads: 2, MemoryLimit: 256 << 20}
	if change != nil {
		change(&cfg)
	}
	db, err := duckdb.Open(t.Context(), cfg)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

// killed opens what a kill at this moment would leave: the files as they are, without a close.
func killed(t *testing.T, dir string) (*duckdb.DB, string) {
	t.Helper()
	to := t.TempDir()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o750)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return openAt(t, to, nil), to
}

func each(t *testing.T, db *duckdb.DB, query string, take func(row []any)) {
	t.Helper()
	result, err := db.Rows(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer result.Close()
	for row, err := range result.Rows() {
		if err != nil {
			t.Fatal(err)
		}
		take(row)
	}
}

func as[T any](v any) T { //nolint:ireturn // a type parameter
	out, _ := v.(T)
	return out
}

func at(v any) telemetry.Time {
	t, ok := v.(time.Time)
	if !ok {
		return 0
	}
	return telemetry.At(t)
}

func origin(partition, position any) bus.Origin {
	return bus.Origin{Partition: as[int32](partition), Position: store.UnpackPosition(as[int64](position))}
}

func TestState(t *testing.T) {
	var wrap func(db *duckdb.DB, dir string) storetest.StateStore
	wrap = func(db *duckdb.DB, dir string) storetest.StateStore {
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
				return wrap(killed(t, dir))
			},
		}
	}
	storetest.State(t, func(t *testing.T) storetest.StateStore {
		t.Helper()
		dir := t.TempDir()
		return wrap(openAt(t, dir, nil), dir)
	})
}

func readStates(t *testing.T, db *duckdb.DB) []store.MessageRow {
	t.Helper()
	var rows []store.MessageRow
	each(t, db, `FROM device_state`, func(r []any) {
		value, known := r[6].(float64)
		rows = append(rows, store.MessageRow{
			Message: telemetry.Message{
				Tenant: as[string](r[0]), DeviceID: as[string](r[1]), DeviceType: as[string](r[2]), ChannelKey: as[string](r[3]),
				ChannelType: as[string](r[4]), ChannelValue: []byte(as[string](r[5])), Value: value, HasValue: known,
				EventTime: at(r[7]), IngestTime: at(r[8]), MessageID: as[string](r[9]),
			},
			Origin: origin(r[10], r[11]),
		})
	})
	return rows
}

func readDevices(t *testing.T, db *duckdb.DB) []storetest.Device {
	t.Helper()
	var rows []storetest.Device
	each(t, db, `FROM devices`, func(r []any) {
		connected, session := r[5].(bool)
		rows = append(rows, storetest.Device{
			DeviceID: as[string](r[1]), DeviceType: as[string](r[2]), FirstSeen: at(r[3]), LastSeen: at(r[4]), Session: session,
			Connected: connected, ConnectedSince: at(r[6]), DisconnectedAt: at(r[7]), Reason: as[string](r[8]), Address: as[string](r[9]),
			ClientID: as[string](r[10]), Protocol: as[string](r[11]), Credential: as[string](r[12]),
		})
	})
	return rows
}

func TestLogs(t *testing.T) {
	severities := map[string]telemetry.Severity{
		"Trace": telemetry.SeverityTrace, "Debug": telemetry.SeverityDebug, "Info": telemetry.SeverityInfo,
		"Warning": telemetry.SeverityWarning, "Error": telemetry.SeverityError, "Critical": telemetry.SeverityCritical,
	}
	var wrap func(db *duckdb.DB, dir string) storetest.LogStore
	wrap = func(db *duckdb.DB, dir string) storetest.LogStore {
		return storetest.LogStore{
			LogWriter: db.Logs(),
			Read: func(t *testing.T) []store.MessageRow {
				t.Helper()
				var rows []store.MessageRow
				each(t, db, `FROM logs`, func(r []any) {
					rows = append(rows, store.MessageRow{
						Message: telemetry.Message{
							Tenant: as[string](r[0]), DeviceID: as[string](r[1]), DeviceType: as[string](r[2]), Severity: severities[as[string](r[3])],
							LogSource: as[string](r[4]), Text: as[string](r[5]), EventTime: at(r[6]), IngestTime: at(r[7]), MessageID: as[string](r[8]),
						},
						Origin: origin(r[9], r[10]),
					})
				})
				return rows
			},
			Crash: func(t *testing.T) storetest.LogStore {
				t.Helper()
				return wrap(killed(t, dir))
			},
		}
	}
	storetest.Logs(t, func(t *testing.T) storetest.LogStore {
		t.Helper()
		dir := t.TempDir()
		return wrap(openAt(t, dir, nil), dir)
	})
}

func TestDeadLetters(t *testing.T) {
	var wrap func(db *duckdb.DB, dir string) storetest.DeadLetterStore
	wrap = func(db *duckdb.DB, dir string) storetest.DeadLetterStore {
		return storetest.DeadLetterStore{
			DeadLetterWriter: db.DeadLetters(),
			Read: func(t *testing.T) []telemetry.DeadLetter {
				t.Helper()
				var rows []telemetry.DeadLetter
				each(t, db, `FROM dead_letters`, func(r []any) {
					payload, escaped := r[10].([]byte)
					if !escaped {
						payload = []byte(as[string](r[3]))
					}
					rows = append(rows, telemetry.DeadLetter{
						Topic: as[string](r[0]), Worker: as[string](r[1]), Reason: as[string](r[2]), Payload: payload, ReceivedAt: at(r[4]),
						Tenant: as[string](r[5]), DeviceID: as[string](r[6]), Credential: as[string](r[7]), Partition: as[int32](r[8]), Position: as[string](r[9]),
						Context: as[string](r[12]), ReplayedAt: at(r[13]), ReplayedBy: as[string](r[14]),
					})
				})
				return rows
			},
			Crash: func(t *testing.T) storetest.DeadLetterStore {
				t.Helper()
				return wrap(killed(t, dir))
			},
		}
	}
	storetest.DeadLetters(t, func(t *testing.T) storetest.DeadLetterStore {
		t.Helper()
		dir := t.TempDir()
		return wrap(openAt(t, dir, nil), dir)
	})
}

func TestAggregates(t *testing.T) {
	var wrap func(db *duckdb.DB, dir string) storetest.AggregateStore
	wrap = func(db *duckdb.DB, dir string) storetest.AggregateStore {
		return storetest.AggregateStore{
			AggregateWriter: db.Aggregates(),
			Read: func(t *testing.T) []telemetry.Aggregate {
				t.Helper()
				return readAggregates(t, db)
			},
			Crash: func(t *testing.T) storetest.AggregateStore {
				t.Helper()
				return wrap(killed(t, dir))
			},
		}
	}
	storetest.Aggregates(t, func(t *testing.T) storetest.AggregateStore {
		t.Helper()
		dir := t.TempDir()
		return wrap(openAt(t, dir, nil), dir)
	})
}

func readAggregates(t *testing.T, db *duckdb.DB) []telemetry.Aggregate {
	t.Helper()
	var rows []telemetry.Aggregate
	each(t, db, `FROM aggregates`, func(r []any) {
		a := telemetry.Aggregate{
			Tenant: as[string](r[0]), DeviceID: as[string](r[1]), ChannelKey: as[string](r[2]), WindowStart: at(r[3]),
			Count: uint64(as[int64](r[5])), Min: as[float64](r[6]), Max: as[float64](r[7]), Sum: as[float64](r[8]),
			First: as[float64](r[10]), Last: as[float64](r[11]), P50: as[float64](r[12]), P95: as[float64](r[13]), P99: as[float64](r[14]),
			Revision: uint32(as[int32](r[15])), DeviceType: as[string](r[16]), FirstTime: at(r[17]), LastTime: at(r[18]),
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

func TestAlarms(t *testing.T) {
	var wrap func(db *duckdb.DB, dir string) storetest.AlarmStore
	wrap = func(db *duckdb.DB, dir string) storetest.AlarmStore {
		return storetest.AlarmStore{
			AlarmWriter: db.Alarms(),
			Read: func(t *testing.T) []telemetry.Alarm {
				t.Helper()
				var rows []telemetry.Alarm
				each(t, db, `FROM alarms`, func(r []any) {
					rows = append(rows, telemetry.Alarm{
						AlarmID: as[string](r[0]), Tenant: as[string](r[1]), Rule: as[string](r[2]), DeviceID: as[string](r[3]), ChannelKey: as[string](r[4]),
						Severity: as[string](r[5]), State: telemetry.AlarmState(as[string](r[6])), Value: as[string](r[7]), RaisedAt: at(r[8]),
						AckedAt: at(r[9]), ClearedAt: at(r[10]), Detail: []byte(as[string](r[11])), PreviousValue: as[string](r[12]),
						Revision: uint32(as[int32](r[13])),
					})
				})
				return rows
			},
			Crash: func(t *testing.T) storetest.AlarmStore {
				t.Helper()
				return wrap(killed(t, dir))
			},
		}
	}
	storetest.Alarms(t, func(t *testing.T) storetest.AlarmStore {
		t.Helper()
		dir := t.TempDir()
		return wrap(openAt(t, dir, nil), dir)
	})
}
