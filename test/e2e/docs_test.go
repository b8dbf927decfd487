package e2e

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

var (
	sqlBlock  = regexp.MustCompile("(?s)(<!-- answers -->\n)?```sql\n(.*?)```")
	columnRow = regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (\\w+) \\| .+ \\|$")
)

func page(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../../" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestTheQueriesOfDocsRun runs every query of docs/sql.md over a small house, and holds the columns that the page lists against
// those that there are. What is marked with <!-- answers --> must return rows.
func TestTheQueriesOfDocsRun(t *testing.T) {
	in := run(t, t.TempDir())
	c := dial(t, in, "thermostat-1")
	if err := c.Publish(t.Context(), "devices/thermostat-1/channels/setpoint", []byte("37"), 1); err != nil {
		t.Fatal(err)
	}
	sendHouse(t, in)
	text := page(t, "docs/sql.md")
	blocks := sqlBlock.FindAllStringSubmatch(text, -1)
	if len(blocks) < 10 {
		t.Fatalf("docs/sql.md has %d queries, want ten at least", len(blocks))
	}
	for i, block := range blocks {
		mustAnswer, sql := block[1] != "", block[2]
		t.Run(fmt.Sprintf("query %d", i+1), func(t *testing.T) {
			eventually(t, sql, func() error {
				rows, err := in.query(t.Context(), sql)
				if err == nil && mustAnswer && len(rows) == 0 {
					return fmt.Errorf("no rows")
				}
				return err
			})
		})
	}
	t.Run("columns", func(t *testing.T) { checkColumns(t, in, text) })
}

// sendHouse sends a little of everything, an hour old so that windows have closed.
func sendHouse(t *testing.T, in *instance) {
	t.Helper()
	begin := time.Now().UTC().Add(-time.Hour)
	at := func(seconds int) string {
		return begin.Add(time.Duration(seconds) * time.Second).Format(time.RFC3339Nano)
	}
	var body strings.Builder
	for n := range 240 {
		fmt.Fprintf(&body, `{"DeviceId":"thermostat-1","temperature":%.1f,"heating":%t,"timestamp":%q}`+"\n", 36+float64(n%20)/10, n%20 < 10, at(n))
	}
	for n, state := range []string{"closed", "open", "closed"} {
		fmt.Fprintf(&body, `{"DeviceId":"window-kitchen","window":%q,"timestamp":%q}`+"\n", state, at(600*n))
	}
	for n, state := range []string{"set", "alarm"} {
		fmt.Fprintf(&body, `{"MessageType":"Channel","DeviceId":"homecontroller","ChannelKey":"status@secvest","ChannelType":"json",`+
			`"ChannelValue":"{\"Name\":\"Secvest\",\"Partitions\":[{\"id\":\"1\",\"state\":\"unset\"},{\"id\":\"2\",\"state\":\"%s\"}]}","LocalTimestamp":%q}`+"\n",
			state, at(n))
	}
	for n, severity := range []string{"Info", "Critical"} {
		fmt.Fprintf(&body, `{"MessageType":"Log","DeviceId":"camera-yard","Severity":%q,"Message":"recording","LocalTimestamp":%q}`+"\n", severity, at(n))
	}
	body.WriteString(`{"DeviceId":"camera-yard","fps":25,"timestamp":"2099-01-01T00:00:00Z"}` + "\n")
	body.WriteString(`{"DeviceId":"camera-yard","fps":` + "\n")
	code, answer := in.post(t, "/v1/messages", "application/x-ndjson", body.String())
	if code != http.StatusAccepted || !strings.Contains(answer, `"index":248`) {
		t.Fatalf("%d %s", code, answer)
	}
}

// checkColumns holds each table's section against DESCRIBE.
func checkColumns(t *testing.T, in *instance, text string) {
	t.Helper()
	described := map[string]string{}
	for section := range strings.SplitSeq(text, "\n### ") {
		table, rest, _ := strings.Cut(section, "\n")
		var columns []string
		for _, row := range columnRow.FindAllStringSubmatch(rest, -1) {
			columns = append(columns, row[1]+" "+row[2])
		}
		described[table] = strings.Join(columns, ", ")
	}
	// archive and history have the columns of device_messages, as the page says.
	same := map[string]string{"archive": "device_messages", "history": "device_messages"}
	for _, table := range []string{
		"device_state", "device_messages", "archive", "history", "aggregates", "alarms", "logs", "devices", "dead_letters",
	} {
		rows, err := in.query(t.Context(), "SELECT column_name, column_type FROM (DESCRIBE "+table+")")
		if err != nil {
			t.Fatal(err)
		}
		var columns []string
		for _, row := range rows {
			columns = append(columns, row[0]+" "+row[1])
		}
		section := table
		if other := same[table]; other != "" {
			section = other
		}
		if want := strings.Join(columns, ", "); described[section] != want {
			t.Errorf("docs/sql.md, %s:\n got: %s\nwant: %s", section, described[section], want)
		}
	}
}
