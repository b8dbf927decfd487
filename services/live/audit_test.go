package live_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/books"
	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/bus/mem"
	"github.com/millrace/millrace/pkg/telemetry"
)

// TestAnAuditNamesWhatIsMissing puts onto the log, by a router's word, the 25 rows that the store has of a device and one that it
// has not.
func TestAnAuditNamesWhatIsMissing(t *testing.T) {
	f := startOn(t, mem.New(mem.Config{Partitions: 2, Now: noon().Std}), nil)
	routed := [2]*books.Routed{books.NewRouted("a"), books.NewRouted("b")}
	rows := messages(f.at)
	gone := rows[24]
	gone.Origin.Seq, gone.ChannelKey = 27, "humidity"
	for _, row := range append(rows, gone) {
		n := row.Origin.Partition
		line := routed[n].Line(row.Tenant, row.DeviceID, row.IngestTime)
		line.Read++
		line.Telemetry++
		must(t, f.log.Append(t.Context(), bus.PartitionID{Topic: bus.Telemetry, Number: int(n)}, []bus.Record{
			{Origin: row.Origin, Value: telemetry.AppendMessage(nil, &row.Message)},
		}))
	}
	for n, r := range routed {
		p := bus.PartitionID{Topic: bus.Ingested, Number: n}
		must(t, f.log.Append(t.Context(), books.Partition(f.log, n), r.Account(p, bus.Position{}, bus.Position{Seq: 30})))
	}
	hour := fmt.Sprintf("/v1/audit?from=%s&to=%s", f.at.Std().Add(-time.Hour).Format(time.RFC3339), f.at.Std().Add(time.Hour).Format(time.RFC3339))
	code, _, body := f.ask(t, "GET", hour, "")
	var report books.Report
	if err := json.Unmarshal([]byte(body), &report); code != http.StatusOK || err != nil {
		t.Fatalf("%d %v: %s", code, err, body)
	}
	if report.Balanced || len(report.Breaches) != 1 {
		t.Fatalf("want one breach: %s", body)
	}
	b := report.Breaches[0]
	if b.What != books.Missing || b.Table != "device_messages" || b.DeviceID != "thermostat-1" || b.Partition != 0 || b.Position != "27.0" ||
		b.ChannelKey != "humidity" || b.EventTime == nil || !b.EventTime.Equal(gone.EventTime.Std()) {
		t.Errorf("%+v", b)
	}
	c := readContract(t)
	c.check(t, body, at(t, c.doc, "components", "schemas", "Audit").(object))
	code, _, body = f.ask(t, "GET", hour+"&device=another", "")
	if code != http.StatusOK || !strings.Contains(body, `"balanced":true`) {
		t.Errorf("another device: %d %s", code, body)
	}
}

func TestAnAuditWantsATime(t *testing.T) {
	f := start(t, nil)
	for _, query := range []string{"", "?from=-1h", "?from=-1m&to=-1h", "?from=x&to=-1h"} {
		if code, _, body := f.ask(t, "GET", "/v1/audit"+query, ""); code != http.StatusBadRequest {
			t.Errorf("%q: %d %s", query, code, body)
		}
	}
}
