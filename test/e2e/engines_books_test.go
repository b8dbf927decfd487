package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/enginetest"
	"github.com/millrace/millrace/pkg/store/archive"
	"github.com/millrace/millrace/pkg/store/archive/bucket"
)

// astray sends what has the channel of that name to where only logs are taken.
const astray = `
router:
  routes:
    - {name: astray, condition: kind == "channel" && channelKey == "astray", endpoints: [logs]}
    - {name: channel, condition: kind == "channel" && channelKey != "astray", endpoints: [telemetry]}
`

// TestEnginesBalanceTakeBackAndAreMadeAnew runs every worker over each set of engines. The books balance; what was refused is put back
// repaired, through a live that is a process of its own; and each store that replay makes has the rows of the live one.
func TestEnginesBalanceTakeBackAndAreMadeAnew(t *testing.T) {
	for _, set := range sets() {
		t.Run(set.name, func(t *testing.T) {
			s := set.over(t)
			s.config = strings.Replace(s.config, "ingest:\n", "ingest:\n  formats: {decimal_comma: [comma]}\n", 1) + astray
			d := deploy(t, s)
			sendASample(t, d.edges[0])
			devices := startLedger(t, "ledger", 10, pace, d.edge)
			devices.more(t, 1500, "before the books are read")
			devices.finish()
			wantBalance(t, d.live(0))
			putBackOverEngines(t, d)
			wantBalance(t, d.live(1))
			d.live(1).wantRows(t, windowsDiffer("10"), []string{"0"}) // the stores that the books do not tell of are whole, too
			madeAnew(t, d, s)
		})
	}
}

// wantBalance audits until nothing is on the way. No breach is there meanwhile.
func wantBalance(t *testing.T, in *instance) {
	t.Helper()
	eventually(t, "everything has arrived", func() error {
		report, code := in.audit(t, "--from", "-1h", "--to", "-0s")
		if code != 0 || !report.Balanced || !report.Complete {
			b, _ := json.Marshal(report)
			t.Fatalf("exit code %d: %s", code, b)
		}
		if report.Total.Accepted == 0 {
			return errors.New("nothing is counted yet")
		}
		if err := onTheWay(report); err != nil {
			return err
		}
		t.Logf("%+v", report.Total)
		return nil
	})
}

// putBackOverEngines breaks a message at the edge and one at a worker, looks at the letters and puts them back.
func putBackOverEngines(t *testing.T, d *deployment) {
	t.Helper()
	in, edge := d.live(0), d.edges[1]
	if code, answer := edge.post(t, "/v1/messages", "application/json", `{"DeviceId":"strayed","astray":21.5}`); code != http.StatusAccepted {
		t.Fatalf("POST: %d %s", code, answer)
	}
	if err := dial(t, edge, "torn").Publish(t.Context(), "devices/torn/messages/events/", []byte(`{"DeviceType":"comma","t":"21,5"`), 1); err != nil {
		t.Fatal(err)
	}
	repaired := func(name, body string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	torn, strayed := in.letterID(t, "--worker", "ingest", "--device", "torn"), in.letterID(t, "--worker", "log-consumer")
	if out, err := in.millrace(t, "dead-letters", "show", strayed); err != nil || !strings.Contains(out, `"channel_key": "astray"`) {
		t.Fatalf("%v: %s", err, out)
	}
	file := repaired("torn.json", `{"DeviceType":"comma","t":"21,5"}`)
	if out, err := in.millrace(t, "dead-letters", "replay", torn, "--payload", file); err != nil || !strings.Contains(out, "to ingested (1 message)") {
		t.Fatalf("%v: %s", err, out)
	}
	file = repaired("strayed.json", `{"DeviceId":"strayed","MessageType":"Log","Severity":"Warning","Message":"it was 21.5"}`)
	if out, err := in.millrace(t, "dead-letters", "replay", strayed, "--payload", file); err != nil || !strings.Contains(out, "to log-consumer") {
		t.Fatalf("%v: %s", err, out)
	}
	in.wantRows(t, "SELECT channel_key, value, message_id FROM device_messages WHERE device_id = 'torn'", []string{"t", "21.5", "letter-" + torn})
	eventually(t, "the strayed one is a log", func() error {
		rows, err := get(d.live(1), "/v1/logs?device=strayed", "logs")
		if err == nil && (len(rows) != 1 || rows[0]["message"] != "it was 21.5") {
			err = fmt.Errorf("%v", rows)
		}
		return err
	})
	for _, id := range []string{torn, strayed} {
		eventually(t, "the letter says who put it back", func() error {
			rows, err := get(d.live(1), "/v1/dead-letters?limit=100", "dead_letters")
			at := slices.IndexFunc(rows, func(r map[string]any) bool { return r["id"] == id })
			if err == nil && (len(rows) != 3 || at < 0 || rows[at]["replayed_by"] != "ada") {
				err = fmt.Errorf("%v, want three letters, and %s put back by ada", rows, id)
			}
			return err
		})
		if out, err := in.millrace(t, "dead-letters", "replay", id); err == nil || !strings.Contains(err.Error(), "it was put back at") {
			t.Errorf("%s a second time: %v: %s", id, err, out)
		}
	}
}

// madeAnew makes each store once more, and finds in the new one what the live one has.
func madeAnew(t *testing.T, d *deployment, s engineSet) {
	t.Helper()
	in, into := d.live(0), ownName()
	replay := func(worker string) (fromLog, fromArchive int) {
		t.Helper()
		return in.replay(t, worker, into, "--config", d.config)
	}
	tables := map[string]func(place string) string{
		"history-writer": tableOf(t, "device_messages", "origin_partition, origin_position"),
		"state-projector": func(place string) string {
			return tableOf(t, "device_state", "device_id, channel_key")(place) + tableOf(t, "devices", "device_id")(place)
		},
		"aggregator":   tableOf(t, "aggregates WHERE window_start < now() - INTERVAL 1 HOUR", "device_id, channel_key, window_seconds, window_start"),
		"log-consumer": tableOf(t, "logs", "origin_partition, origin_position"),
	}
	if s.archive != nil {
		tables["log-consumer"] = logsOf(t)
		rows, err := in.query(t.Context(), "SELECT count(*) FROM device_messages")
		if err != nil {
			t.Fatal(err)
		}
		tables["archive-writer"] = func(place string) string { return archiveOf(t, *s.archive, place, number(t, rows[0][0])) }
	}
	for worker, rows := range tables {
		if fromLog, _ := replay(worker); fromLog == 0 {
			t.Errorf("%s: nothing came from the log", worker)
		}
		want, got := rows(s.own), rows(into)
		if got != want || strings.Count(want, "\n") < 1 {
			t.Errorf("%s: made anew has %d lines, the live one %d: %s", worker, strings.Count(got, "\n"), strings.Count(want, "\n"), difference(got, want))
		}
		if fromLog, fromArchive := replay(worker); fromLog+fromArchive != 0 {
			t.Errorf("%s once more: %d and %d records passed, want none", worker, fromLog, fromArchive)
		}
		if again := rows(into); again != got {
			t.Errorf("%s once more: %s", worker, difference(again, got))
		}
	}
}

// difference names the first line that two texts do not share.
func difference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d: got %.500s\nwant %.500s", i, g[i], w[i])
		}
	}
	return "one ends before the other"
}

// tableOf returns what reads a table of a database of ClickHouse.
func tableOf(t *testing.T, table, order string) func(database string) string {
	t.Helper()
	base := enginetest.Need(t, "clickhouse").Get("http_url")
	return func(database string) string {
		t.Helper()
		u, err := url.Parse(base)
		if err != nil {
			t.Fatal(err)
		}
		u.Path, u.RawQuery = "/", url.Values{"database": {database}}.Encode()
		return ask(t, http.MethodPost, u.String(), "SELECT * FROM "+table+" ORDER BY "+order+" FORMAT JSONEachRow")
	}
}

// logsOf returns what reads the logs below a prefix of Elasticsearch.
func logsOf(t *testing.T) func(prefix string) string {
	t.Helper()
	base := enginetest.Need(t, "elasticsearch").URL
	return func(prefix string) string {
		t.Helper()
		_ = ask(t, http.MethodPost, base+"/"+prefix+"-logs-*/_refresh", "")
		body := ask(t, http.MethodPost, base+"/"+prefix+"-logs-*/_search?size=10000", "")
		var answer struct {
			Hits struct {
				Hits []struct {
					ID     string          `json:"_id"`
					Source json.RawMessage `json:"_source"`
				} `json:"hits"`
			} `json:"hits"`
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, h := range answer.Hits.Hits {
			lines = append(lines, h.ID+" "+string(h.Source)+"\n")
		}
		slices.Sort(lines)
		return strings.Join(lines, "")
	}
}

// archiveOf reads the archive below a prefix of the bucket once it has so many rows: the writer may hold some back yet.
func archiveOf(t *testing.T, cfg bucket.Config, place string, rows int) string {
	t.Helper()
	cfg.URL = withPath(t, cfg.URL, place)
	b, err := bucket.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	var lines []string
	eventually(t, "the archive has every row", func() error {
		lines = lines[:0]
		for file, err := range archive.Files(t.Context(), b) {
			if err != nil {
				return err
			}
			if lines, err = appendArchived(t.Context(), lines, b, file.Key); err != nil {
				return err
			}
		}
		if len(lines) != rows {
			return fmt.Errorf("%d of %d", len(lines), rows)
		}
		return nil
	})
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func appendArchived(ctx context.Context, lines []string, b archive.Bucket, key string) ([]string, error) {
	for row, err := range archive.ReadFile(ctx, b, key) {
		if err != nil {
			return nil, err
		}
		lines = append(lines, fmt.Sprintf("%+v\n", row))
	}
	return lines, nil
}
