package elasticsearch_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/elasticsearch"
	"github.com/millrace/millrace/pkg/store/storetest"
	"github.com/millrace/millrace/pkg/telemetry"
)

func TestConfigurationsThatAreRefused(t *testing.T) {
	good := elasticsearch.Config{URL: "http://127.0.0.1:1", Now: time.Now}
	for want, spoil := range map[string]func(c *elasticsearch.Config){
		"the URL is not of the form": func(c *elasticsearch.Config) { c.URL = "tcp://host" },
		"of the form http":           func(c *elasticsearch.Config) { c.URL = "" },
		"no clock":                   func(c *elasticsearch.Config) { c.Now = nil },
		`prefix "Upper"`:             func(c *elasticsearch.Config) { c.Prefix = "Upper" },
		`prefix "_x"`:                func(c *elasticsearch.Config) { c.Prefix = "_x" },
		`prefix "a*"`:                func(c *elasticsearch.Config) { c.Prefix = "a*" },
		"an API key beside a user":   func(c *elasticsearch.Config) { c.APIKey, c.User = "k", "u" },
		"connection refused":         func(*elasticsearch.Config) {},
	} {
		cfg := good
		spoil(&cfg)
		if _, err := elasticsearch.Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
}

func TestAServerThatIsTooOldIsRefused(t *testing.T) {
	for version, ok := range map[string]bool{"8.18.4": false, "7.17.0": false, "x": false, "8.19.0": true, "9.1.0": true} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Elastic-Product", "Elasticsearch")
			_, _ = fmt.Fprintf(w, `{"version":{"number":%q}}`, version)
		}))
		_, err := elasticsearch.Open(t.Context(), elasticsearch.Config{URL: server.URL, Now: time.Now})
		if old := strings.Contains(fmt.Sprint(err), "want 8.19 or later"); old == ok {
			t.Errorf("version %s: %v", version, err)
		}
		server.Close()
	}
}

func TestAServerOfAnotherKindIsRefused(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"version":{"number":"8.19.3"}}`))
	}))
	defer server.Close()
	_, err := elasticsearch.Open(t.Context(), elasticsearch.Config{URL: server.URL, Now: time.Now})
	if err == nil || !strings.Contains(err.Error(), "not Elasticsearch") {
		t.Errorf("%v, want what the server is not", err)
	}
}

func TestMigrateIsRepeatableAndADryRunChangesNothing(t *testing.T) {
	s := newSite(t, open)
	again, err := elasticsearch.Migrate(t.Context(), s.cfg, elasticsearch.MigrateOptions{})
	if err != nil || len(again) != 0 {
		t.Errorf("migrating again makes %d changes (%v), want none", len(again), err)
	}
	fresh := s.cfg
	fresh.Prefix += "x"
	dry, err := elasticsearch.Migrate(t.Context(), fresh, elasticsearch.MigrateOptions{DryRun: true})
	if err != nil || len(dry) != 10 || !strings.Contains(dry[0].String(), "PUT /_component_template/"+fresh.Prefix+"-settings") {
		t.Errorf("a dry run has %d changes (%v), want 10, the component first", len(dry), err)
	}
	if _, err := elasticsearch.Open(t.Context(), fresh); !errors.Is(err, elasticsearch.ErrMigrate) {
		t.Errorf("opening what is not migrated: %v, want ErrMigrate", err)
	}
}

// template reads one template of a site, lets change alter it, and puts it back.
func (s *site) template(t *testing.T, db *elasticsearch.DB, table string, change func(body map[string]any)) {
	t.Helper()
	path := "/_index_template/" + s.cfg.Prefix + "-" + table
	var found struct {
		Templates []struct {
			Body map[string]any `json:"index_template"`
		} `json:"index_templates"`
	}
	call(t, db, http.MethodGet, path, nil, &found)
	change(found.Templates[0].Body)
	call(t, db, http.MethodPut, path, found.Templates[0].Body, nil)
}

func setVersion(version int) func(body map[string]any) {
	return func(body map[string]any) { body["_meta"] = map[string]any{"millrace_version": version} }
}

func TestTemplatesOfAnotherVersion(t *testing.T) {
	s := newSite(t, open)
	db := s.open(t)
	if err := db.Logs().Write(t.Context(), commitOf("w", 0, 0, 1), []store.MessageRow{storetest.LogLine(0)}); err != nil {
		t.Fatal(err)
	}
	s.template(t, db, store.TableLogs, setVersion(0))
	if _, err := elasticsearch.Open(t.Context(), s.cfg); !errors.Is(err, elasticsearch.ErrMigrate) {
		t.Errorf("older templates: %v, want ErrMigrate", err)
	}
	changes, err := elasticsearch.Migrate(t.Context(), s.cfg, elasticsearch.MigrateOptions{})
	if err != nil || len(changes) != 2 || !strings.HasSuffix(changes[1].Path, "/_mapping") {
		t.Errorf("%d changes (%v), want the template and the mapping of the index that is there", len(changes), err)
	}
	s.template(t, db, store.TableLogs, setVersion(99))
	log := &bytes.Buffer{}
	cfg := s.cfg
	cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	newer := openWith(t, cfg)
	if !strings.Contains(log.String(), "a newer program has migrated") {
		t.Errorf("newer templates: %q, want a warning", log)
	}
	if changes, err := elasticsearch.Migrate(t.Context(), s.cfg, elasticsearch.MigrateOptions{}); err != nil || len(changes) > 0 {
		t.Errorf("newer templates are changed: %v %v", changes, err)
	}
	if err := newer.Close(); err != nil {
		t.Error(err)
	}
}

func TestWholeDaysPastTheirTimeAreDeleted(t *testing.T) {
	s := newSite(t, open)
	now := time.Date(2017, 4, 20, 12, 0, 0, 0, time.UTC)
	cfg := s.cfg
	cfg.LogsFor, cfg.Now = 3*24*time.Hour, func() time.Time { return now }
	db := openWith(t, cfg)
	var rows []store.MessageRow
	for day := range 8 {
		m := storetest.LogLine(day)
		m.EventTime = telemetry.At(now.AddDate(0, 0, -day))
		m.IngestTime = m.EventTime
		rows = append(rows, m)
	}
	for _, w := range []store.Writer[store.MessageRow]{db.Logs(), db.History()} {
		if err := w.Write(t.Context(), commitOf("w", 0, 0, 1), rows); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // and nothing goes wrong where another was quicker
		if err := db.Expire(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := readLogs(t, db); len(got) != 4 || got[0].EventTime != telemetry.At(now.AddDate(0, 0, -3)) {
		t.Errorf("%d rows are left, the oldest of %v, want today and 3 days", len(got), got[0].EventTime.Std())
	}
	if got := len(readHistory(t, db)); got != 8 {
		t.Errorf("%d rows of history, which is kept for ever, want 8", got)
	}
}

func TestAnIndexThatDoesNotSyncIsWarnedOf(t *testing.T) {
	s := newSite(t, open)
	call(t, s.open(t), http.MethodPut, "/"+s.cfg.Prefix+"-logs-2017.04.12", map[string]any{"settings": map[string]any{"index.translog.durability": "async"}}, nil)
	log := &bytes.Buffer{}
	cfg := s.cfg
	cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	if err := openWith(t, cfg).Close(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "may be lost") {
		t.Errorf("log is %q, want a warning", log)
	}
}

func TestAnAPIKeyOpensAndAWrongPasswordDoesNot(t *testing.T) {
	s := newSite(t, secure)
	var key struct {
		Encoded string `json:"encoded"`
	}
	call(t, s.open(t), http.MethodPost, "/_security/api_key", map[string]any{"name": s.cfg.Prefix}, &key)
	cfg := s.cfg
	cfg.User, cfg.Password, cfg.APIKey = "", "", key.Encoded
	if err := openWith(t, cfg).Logs().Write(t.Context(), commitOf("w", 0, 0, 1), []store.MessageRow{storetest.LogLine(1)}); err != nil {
		t.Errorf("with an API key: %v", err)
	}
	cfg = s.cfg
	cfg.Password = "wrong"
	if _, err := elasticsearch.Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("a wrong password: %v, want 401", err)
	}
	cfg = s.cfg
	cfg.TLS = nil
	if _, err := elasticsearch.Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown authority: %v, want an error of its certificate", err)
	}
	cfg = s.cfg
	cfg.URL = strings.Replace(s.cfg.URL, "https://", "https://"+s.cfg.User+":"+s.cfg.Password+"@", 1)
	cfg.User, cfg.Password = "", ""
	openWith(t, cfg)
}

func TestANodeThatIsDownIsGoneAround(t *testing.T) {
	s := newSite(t, open)
	cfg := s.cfg
	cfg.URL = "http://127.0.0.1:1," + strings.TrimPrefix(s.cfg.URL, "http://")
	var db *elasticsearch.DB
	for deadline := time.Now().Add(time.Minute); db == nil; {
		var err error
		if db, err = elasticsearch.Open(t.Context(), cfg); err != nil && time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	defer func() { _ = db.Close() }()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if err = db.Logs().Write(t.Context(), commitOf("w", 0, 0, 1), []store.MessageRow{storetest.LogLine(1)}); err == nil {
			return
		}
	}
	t.Error(err)
}

// TestRowsThatTheMappingRefusesAreNamed has a mapping of the operator's own that some rows do not fit.
func TestRowsThatTheMappingRefusesAreNamed(t *testing.T) {
	s := newSite(t, open)
	db := s.open(t)
	call(t, db, http.MethodPut, "/_component_template/"+s.cfg.Prefix+"-custom", map[string]any{"template": map[string]any{"mappings": map[string]any{
		"properties": map[string]any{"log": map[string]any{"properties": map[string]any{"origin": map[string]any{"type": "keyword"}}}},
	}}}, nil)
	s.template(t, db, store.TableLogs, func(body map[string]any) {
		var b strings.Builder
		_ = json.NewEncoder(&b).Encode(body)
		changed := strings.Replace(b.String(), `"logger":{"ignore_above":1024,"type":"keyword"}`, `"logger":{"type":"integer"}`, 1)
		if changed == b.String() {
			t.Fatal("the template does not look as it did")
		}
		clear(body)
		_ = json.Unmarshal([]byte(changed), &body)
	})
	rows := []store.MessageRow{storetest.LogLine(0), storetest.LogLine(1), storetest.LogLine(2), storetest.LogLine(3)}
	rows[0].LogSource, rows[2].LogSource = "1", "2"
	err := db.Logs().Write(t.Context(), commitOf("w", 0, 0, 1), rows)
	var refused *store.Refused
	if !errors.As(err, &refused) || fmt.Sprint(refused.Rows) != "[1 3]" || !strings.Contains(refused.Reasons[0], "log.logger") {
		t.Fatalf("%v, want rows 1 and 3 refused for log.logger", err)
	}
	if _, ok, err := db.Logs().Progress(t.Context(), "w", spanOf(0, 0, 0).Partition); ok || err != nil {
		t.Errorf("the commit was written (%v)", err)
	}
	if err := db.Logs().Write(t.Context(), commitOf("w", 0, 0, 1), []store.MessageRow{rows[0], rows[2]}); err != nil {
		t.Error(err)
	}
	if got := len(readLogs(t, db)); got != 2 {
		t.Errorf("%d rows, want 2", got)
	}
	rows[0].Origin.Seq = 1 << 60
	if err := db.Logs().Write(t.Context(), commitOf("w", 0, 1, 2), rows[:1]); !errors.As(err, &refused) {
		t.Errorf("a position beyond 2^39: %v, want it refused", err)
	}
}

func TestWhatIsTooLongForAnIndexIsKeptAndFound(t *testing.T) {
	s := newSite(t, open)
	db := s.open(t)
	long, short := storetest.LogLine(0), storetest.LogLine(1)
	long.Text = strings.Repeat("größer ", 10_000) + "needle"
	long.DeviceTime, short.DeviceTime = -9_214_560_000_000_000_000, 1
	if err := db.Logs().Write(t.Context(), commitOf("w", 0, 0, 1), []store.MessageRow{long, short}); err != nil {
		t.Fatal(err)
	}
	if err := db.History().Write(t.Context(), commitOf("w", 0, 0, 1), []store.MessageRow{long, short}); err != nil {
		t.Fatal(err)
	}
	refresh(t, db)
	count := func(table string, c store.Condition) (n int) {
		t.Helper()
		err := db.Select(t.Context(), store.Selection{Table: table, Columns: []string{"tenant"}, Where: []store.Condition{c}, Order: byTime(), Limit: 10}, func([]any) error {
			n++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	on := []string{"message"}
	for _, c := range []store.Condition{
		{Columns: on, Op: store.Contains, Value: "NEEDLE"},
		{Columns: on, Op: store.Contains, Value: "GRÖSSER"[:4] + "ßer größer NEEDLE"},
		{Columns: on, Op: store.Equal, Value: long.Text},
		{Columns: on, Op: store.In, Value: []string{"x", long.Text}},
		{Columns: on, Op: store.NotEqual, Value: long.Text},
		{Columns: on, Op: store.NotEqual, Value: short.Text},
	} {
		if got := count(store.TableLogs, c); got != 1 {
			t.Errorf("operator %d %.30q finds %d rows, want 1", c.Op, c.Value, got)
		}
	}
	got := readHistory(t, db)
	if len(got) != 2 || got[0].DeviceTime+got[1].DeviceTime != long.DeviceTime+short.DeviceTime {
		t.Errorf("a device's clock in 1678: %v", got)
	}
	if n := count(store.TableMessages, store.Condition{Columns: []string{"device_time"}, Op: store.Below, Value: telemetry.Time(0)}); n != 1 {
		t.Errorf("%d rows of before 1970, want 1", n)
	}
}

func TestLeftoversOfCrashesAreSweptAway(t *testing.T) {
	s := newSite(t, open)
	g, cfg := s.through(t)
	g.set(func(g *gate) { g.lose = 2 }) // the parcels are down, the mark is not swapped
	if err := correct(t.Context(), openWith(t, cfg), 0); err == nil {
		t.Fatal("the write went through")
	}
	g.set(func(*gate) {})
	db := s.open(t)
	if err := correct(t.Context(), db, 0); err != nil {
		t.Fatal(err)
	}
	pieces := func() int {
		refresh(t, db)
		var n struct{ Count int }
		call(t, db, http.MethodGet, "/"+s.cfg.Prefix+"-parcels/_count", nil, &n)
		return n.Count
	}
	if err := db.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := pieces(); n != 4 {
		t.Errorf("%d pieces, want those of two commits: they are young", n)
	}
	cfg = s.cfg
	cfg.Now = func() time.Time { return time.Now().Add(26 * time.Hour) }
	openWith(t, cfg)
	later := openWith(t, cfg)
	if err := later.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := pieces(); n != 2 {
		t.Errorf("%d pieces, want rows and checkpoint of the last commit", n)
	}
	wantWindow(t, db, 1, "after sweeping")
}

// TestPoliciesWhereTheServerHasThem asks a stand-in: no server with index lifecycle management runs here.
func TestPoliciesWhereTheServerHasThem(t *testing.T) {
	var put []string
	have := "{}"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Elastic-Product", "Elasticsearch")
		switch {
		case r.Method == http.MethodPut:
			put = append(put, r.URL.Path)
			_, _ = w.Write([]byte(`{}`))
		case r.URL.Path == "/":
			_, _ = w.Write([]byte(`{"version":{"number":"8.19.3"}}`))
		case r.URL.Path == "/_ilm/policy/millrace-logs":
			_, _ = w.Write([]byte(have))
		default:
			_, _ = w.Write([]byte(`{}`))
		}
	}))
	defer server.Close()
	cfg := elasticsearch.Config{URL: server.URL, Now: time.Now, LogsFor: 24 * time.Hour}
	changes, err := elasticsearch.Migrate(context.Background(), cfg, elasticsearch.MigrateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprint(changes)
	for _, want := range []string{
		"PUT /_ilm/policy/millrace-logs\n", `"min_age": "172800s"`, "PUT /millrace-logs-*/_settings?", `"parse_origination_date": true`, "PUT /_index_template/millrace-logs\n",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("the changes have no %q", want)
		}
	}
	if strings.Count(all, "parse_origination_date") != 2 || len(put) != len(changes) {
		t.Errorf("%d requests for %d changes", len(put), len(changes))
	}
	have = `{"millrace-logs":{"policy":{"phases":{"delete":{"min_age":"172800s"}}}}}`
	if changes, err = elasticsearch.Migrate(t.Context(), cfg, elasticsearch.MigrateOptions{DryRun: true}); err != nil || strings.Contains(fmt.Sprint(changes), "_ilm") {
		t.Errorf("a policy that is there is put again (%v)", err)
	}
	cfg.LogsFor = 0
	changes, err = elasticsearch.Migrate(t.Context(), cfg, elasticsearch.MigrateOptions{DryRun: true})
	if all := fmt.Sprint(changes); err != nil || !strings.Contains(all, "/_ilm/policy/millrace-logs") || strings.Contains(all, "delete") {
		t.Errorf("what is now kept for ever has a policy that deletes (%v): %s", err, all)
	}
}
