package standalone

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/pkg/store/duckdb"
	"github.com/millrace/millrace/services/alerting"
)

func newProcess(t *testing.T) *service.Process {
	t.Helper()
	p, err := service.New("millrace", service.Options{Stderr: io.Discard, LogLevel: slog.LevelError})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// fillLog puts messages onto the log of an instance of which only the edge runs.
func fillLog(t *testing.T, cfg Config, messages int) {
	t.Helper()
	cfg.Workers = []string{"ingest"}
	at, stop := run(t, cfg)
	var body strings.Builder
	for i := range messages {
		_, _ = fmt.Fprintf(&body, `{"MessageType":"Channel","DeviceId":"dev%d","ChannelKey":"n","ChannelValue":%d}`+"\n", i%7, 90+i)
		_, _ = fmt.Fprintf(&body, `{"MessageType":"Log","DeviceId":"dev%d","Severity":"Critical","Message":"line %d"}`+"\n", i%7, i)
	}
	if code, answer := post(t, at.HTTP+"/v1/messages", body.String()); code != http.StatusAccepted {
		t.Fatalf("%d %s", code, answer)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T, db *duckdb.DB, table string) (n int64) {
	t.Helper()
	answer, err := db.Rows(t.Context(), "SELECT count(*) FROM "+table)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Close()
	for row, err := range answer.Rows() {
		if err != nil {
			t.Fatal(err)
		}
		n, _ = row[0].(int64)
	}
	return n
}

func TestDrainReadsTheLogToItsEndAndTheStoresStandStill(t *testing.T) {
	cfg := local(t)
	fillLog(t, cfg, 100)
	if err := Drain(t.Context(), cfg, newProcess(t)); err != nil {
		t.Fatal(err)
	}
	embedded, err := OpenEmbedded(t.Context(), cfg, newProcess(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := embedded.Close(); err != nil {
			t.Error(err)
		}
	}()
	for table, want := range map[string]int64{"device_messages": 100, "logs": 100, "device_state": 7, "devices": 7} {
		if n := count(t, embedded.DB, table); n != want {
			t.Errorf("%s has %d rows, want %d", table, n, want)
		}
	}
	if _, err := OpenEmbedded(t.Context(), cfg, newProcess(t)); err == nil {
		t.Error("the stores were opened twice")
	}
}

func TestDrainRefusesAnInstanceThatRuns(t *testing.T) {
	cfg := local(t)
	_, stop := run(t, cfg)
	err := Drain(t.Context(), cfg, newProcess(t))
	if err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("drain: %v, want words on another process", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestDrainNamesWhoGetsNoFurther(t *testing.T) {
	cfg := local(t)
	cfg.Alerting.Rules = []alerting.Rule{{Name: "hot", Condition: "value > 95", Severity: "error"}}
	cfg.Alerting.Notify = []alerting.Target{{Name: "nobody", Webhook: &alerting.Webhook{URL: "http://127.0.0.1:1/"}}}
	if err := cfg.Alerting.Validate(); err != nil {
		t.Fatal(err)
	}
	fillLog(t, cfg, 20)
	err := Drain(t.Context(), cfg, newProcess(t))
	if err == nil || !strings.Contains(err.Error(), "notify-nobody has read alarms[") || errors.Is(err, duckdb.ErrInUse) {
		t.Errorf("drain: %v, want the target that cannot be told", err)
	}
}
