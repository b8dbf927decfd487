package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// historySum is one row that two histories share only when they have the same messages.
const historySum = `SELECT count(*), count(DISTINCT (origin_partition, origin_position)), sum(hash(tenant || '|' || device_id || '|' || channel_key || '|' ||
	channel_value || '|' || message_id || '|' || kind || '|' || coalesce(attributes, '') || '|' || coalesce(properties, '') || '|' || source || codec ||
	origin_partition || '.' || origin_position || event_time || ingest_time)::HUGEINT) FROM device_messages`

const (
	stateSum = `SELECT count(*), sum(hash(device_id || '|' || channel_key || '|' || channel_value || event_time || ingest_time || origin_position)::HUGEINT) FROM device_state`
	// stateBehind counts the channels whose newest message is not the latest value.
	stateBehind = `SELECT count(*) FROM (SELECT device_id, channel_key, max(event_time) AS newest FROM device_messages GROUP BY ALL) h
		LEFT JOIN device_state s USING (device_id, channel_key) WHERE s.event_time IS DISTINCT FROM h.newest`
	logSum = `SELECT count(*), sum(hash(device_id || '|' || message || event_time)::HUGEINT) FROM logs`
)

// closed is a time before which no window was open any more when messages of the time sent came.
func closed(sent time.Time) string {
	return sent.Add(-2 * time.Minute).UTC().Truncate(10 * time.Second).Format(time.DateTime)
}

// windowSum is one row of the windows that were closed by then. What moves a window's revision is when its late messages came.
func windowSum(sent time.Time) string {
	return fmt.Sprintf(`SELECT count(*), sum(count), round(sum(sum), 3), sum(hash(device_id || '|' || channel_key || window_start || first || last || min || max)::HUGEINT)
		FROM aggregates WHERE window_seconds = 10 AND window_start < TIMESTAMP '%s'`, closed(sent))
}

// sendPast posts n messages of several devices, whose clocks say that they sent ten a second until now, with a few logs and events.
func sendPast(t *testing.T, in *instance, first, n int) {
	t.Helper()
	const postMessages = 20_000
	begin := time.Now().UTC().Add(-time.Duration(n) * 100 * time.Millisecond / 7)
	for done := 0; done < n; done += postMessages {
		var body strings.Builder
		for i := done; i < min(n, done+postMessages); i++ {
			k := first + i
			stamp := begin.Add(time.Duration(i) * 100 * time.Millisecond / 7).Format(time.RFC3339Nano)
			_, _ = fmt.Fprintf(&body, `{"MessageType":"Channel","DeviceId":"probe-%d","ChannelKey":"c%d","ChannelValue":%d.5,"LocalTimestamp":%q,"unit":"°C"}`+"\n",
				k%7, k%2, k*7%40, stamp)
			if i%50 == 0 {
				_, _ = fmt.Fprintf(&body, `{"MessageType":"Log","DeviceId":"probe-%d","Severity":"Warning","Message":"line %d","LocalTimestamp":%q}`+"\n", k%7, k, stamp)
				_, _ = fmt.Fprintf(&body, `{"MessageType":"Event","DeviceId":"probe-%d","n":%d,"LocalTimestamp":%q}`+"\n", k%7, k, stamp)
			}
		}
		if code, answer := in.post(t, "/v1/messages", "text/plain", body.String()); code != 202 || !strings.Contains(answer, `"rejected":[]`) {
			t.Fatalf("%d %s", code, answer)
		}
	}
}

// settled waits until the first column of the answer to a query is n, and returns the answer.
func (in *instance) settled(t *testing.T, sql string, n int) (answer string) {
	t.Helper()
	eventually(t, sql, func() error {
		rows, err := in.query(t.Context(), sql)
		if err == nil && rows[0][0] != strconv.Itoa(n) {
			err = fmt.Errorf("%v, want %d of them", rows, n)
		}
		answer = fmt.Sprint(rows)
		return err
	})
	return answer
}

// derived are the stores beside history, by who writes them.
type derived struct {
	worker string
	behind string // counts what a store lacks of what history has
	sum    string // one row that two stores share only when they have the same
}

// derivedStores are those of messages that were sent up to a time.
func derivedStores(sent time.Time) []derived {
	return []derived{
		{"state-projector", stateBehind, stateSum},
		{"aggregator", windowsDifferBefore("10", closed(sent)), windowSum(sent)},
	}
}

// wantTheSame makes a store anew beside others, once it has what history has, and finds in it what the live one has.
func (d derived) wantTheSame(t *testing.T, in *instance, into string) (fromLog, fromArchive int) {
	t.Helper()
	in.wantRows(t, d.behind, []string{"0"})
	rows, err := in.query(t.Context(), d.sum)
	if err != nil {
		t.Fatal(err)
	}
	fromLog, fromArchive = in.replay(t, d.worker, into)
	if got, want := in.asked(t, into, d.sum), fmt.Sprint(rows); got != want {
		t.Errorf("%s: made anew %s, the live store has %s", d.worker, got, want)
	}
	return fromLog, fromArchive
}

// asked returns what a directory answers to a query.
func (in *instance) asked(t *testing.T, dir, sql string) string {
	t.Helper()
	out, err := in.millrace(t, "sql", "--data", dir, "--format", "csv", sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	var rows [][]string
	for _, line := range strings.Split(strings.TrimSpace(out), "\n")[1:] {
		rows = append(rows, strings.Split(line, ","))
	}
	return fmt.Sprint(rows)
}

var passed = regexp.MustCompile(`(\d+) records passed: (\d+) from the log, (\d+) from the archive`)

// replay runs millrace replay and returns how many records passed from the log and from the archive.
func (in *instance) replay(t *testing.T, worker, into string, args ...string) (fromLog, fromArchive int) {
	t.Helper()
	args = append(append([]string{"replay", "--worker", worker, "--into", into}, in.sets...), args...)
	if in.data != "" {
		args = append(args, "--data", in.data)
	}
	out, err := in.millrace(t, args...)
	m := passed.FindStringSubmatch(out)
	if err != nil || m == nil {
		t.Fatalf("replay %s: %v\n%s", worker, err, out)
	}
	t.Logf("replay %s: %s", worker, m[0])
	return number(t, m[2]), number(t, m[3])
}

func TestAStoreIsMadeAnewFromTheLogWhileTheInstanceRunsAndGoesOnWhereItWasKilled(t *testing.T) {
	in := run(t, t.TempDir())
	const n = 100_000
	sendPast(t, in, 0, n)
	want := in.settled(t, historySum, n+n/50)
	into := filepath.Join(t.TempDir(), "again")

	const small = "history.memory=16MiB" // closes files often
	killed := start(t, "millrace", nil, "replay", "--data", in.data, "--worker", "history-writer", "--into", into, "--set", small)
	eventually(t, "the new store has a file, or all", func() error {
		select {
		case <-killed.exited:
			return nil
		default:
		}
		manifest, err := os.ReadFile(filepath.Join(into, "manifest.json"))
		if err == nil && !strings.Contains(string(manifest), ".parquet") {
			err = errors.New("no file yet")
		}
		return err
	})
	killed.kill()
	in.replay(t, "history-writer", into, "--set", small)
	if got := in.asked(t, into, historySum); got != want {
		t.Errorf("made anew %s, the live store has %s", got, want)
	}
	if fromLog, fromArchive := in.replay(t, "history-writer", into); fromLog+fromArchive != 0 {
		t.Errorf("once more: %d and %d records passed, want none", fromLog, fromArchive)
	}

	sent := time.Now()
	sendPast(t, in, n, 500) // what came in since is taken by the next run
	want = in.settled(t, historySum, n+n/50+500+500/50)
	if fromLog, _ := in.replay(t, "history-writer", into); fromLog != 510 {
		t.Errorf("%d records passed of the 510 that came in since", fromLog)
	}
	if got := in.asked(t, into, historySum); got != want {
		t.Errorf("after more came in: %s, the live store has %s", got, want)
	}
	if _, err := in.millrace(t, "replay", "--data", in.data, "--worker", "history-writer", "--into", into, "--from", "2026-01-01"); err == nil ||
		!strings.Contains(err.Error(), "it was begun with --from") {
		t.Errorf("with another beginning: %v", err)
	}

	logs := derived{"log-consumer", fmt.Sprintf("SELECT %d - count(*) FROM logs", (n+500)/50), logSum}
	for _, d := range append(derivedStores(sent), logs) {
		d.wantTheSame(t, in, into)
	}
	in.stop(t) // the log of an instance that stands still is read from its directory
	other := filepath.Join(t.TempDir(), "other")
	in.replay(t, "history-writer", other)
	if got := in.asked(t, other, historySum); got != want {
		t.Errorf("of the instance that stands still: %s, want %s", got, want)
	}
	again := run(t, in.data)
	if got := again.settled(t, historySum, n+n/50+510); got != want {
		t.Errorf("the live store has %s after all, had %s", got, want)
	}
}

func TestWhatTheLogHasNoMoreComesFromTheArchiveOnce(t *testing.T) {
	bucket := []string{"--set", "history.retention=24h", "--set", "archive.file_age=1s", "--set"}
	for name, cold := range map[string][]string{"files of history": nil, "object storage": append(bucket, "archive.url=file://"+t.TempDir())} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			replayTrimmed(t, cold)
		})
	}
}

// replayTrimmed makes stores anew of what an instance, configured with cold, has on its log in part only.
func replayTrimmed(t *testing.T, cold []string) {
	t.Helper()
	in := run(t, t.TempDir(), append([]string{"--set", "bus.retention.age=1s", "--set", "history.segment_age=1s"}, cold...)...)
	in.sets = cold
	const n, later = 20_000, 1000
	sendPast(t, in, 0, n)
	in.settled(t, historySum, n+n/50)
	tries := t.TempDir()
	round := 0
	eventually(t, "the log was trimmed", func() error {
		round++
		_, fromArchive := in.replay(t, "history-writer", filepath.Join(tries, strconv.Itoa(round)))
		if fromArchive == 0 {
			return errors.New("all comes from the log")
		}
		return nil
	})
	begun := filepath.Join(tries, strconv.Itoa(round))
	sent := time.Now()
	sendPast(t, in, n, later)
	want := in.settled(t, historySum, n+n/50+later+later/50)
	in.replay(t, "history-writer", begun)
	fresh := filepath.Join(tries, "fresh")
	fromLog, fromArchive := in.replay(t, "history-writer", fresh)
	if fromLog == 0 || fromArchive == 0 || fromLog+fromArchive != n+n/50+later+later/50 {
		t.Errorf("%d from the log and %d from the archive, want some of both, and each once", fromLog, fromArchive)
	}
	for what, dir := range map[string]string{"begun before": begun, "fresh": fresh} {
		if got := in.asked(t, dir, historySum); got != want {
			t.Errorf("%s: made anew %s, the live store has %s", what, got, want)
		}
	}
	for _, d := range derivedStores(sent) {
		if _, fromArchive := d.wantTheSame(t, in, fresh); fromArchive == 0 {
			t.Errorf("%s: nothing came from the archive", d.worker)
		}
	}
}

func TestChangedRulesAreTriedOutOnThePastWithoutRaisingAnything(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	present := write("present.yml", `
alerting:
  rules:
    - {name: hot, device: "oven-*", condition: value > 30, severity: error}
    - {name: other, device: "oven-*", condition: value > 1}
    - {name: gusts, on: aggregates, device: "oven-*", window: 10s, condition: max > 30, severity: warning}
`)
	changed := write("changed.yml", `
rules:
  - {name: hot, device: "oven-*", condition: value > 25, severity: error}
  - {name: gusts, on: aggregates, device: "oven-*", window: 10s, condition: max > 100, severity: warning}
`)
	in := run(t, t.TempDir(), "--config", present)
	var body strings.Builder
	begin := time.Now().UTC().Add(-10 * time.Minute).Truncate(10 * time.Second)
	// oven-1 gets to 35 once, oven-2 to 28 twice, oven-3 to nothing.
	for device, values := range map[string][]float64{"oven-1": {20, 35, 34, 20, 20}, "oven-2": {20, 28, 20, 28.5, 20}, "oven-3": {20, 20, 20, 20, 20}} {
		for i, v := range values {
			_, _ = fmt.Fprintf(&body, `{"DeviceId":%q,"t":%g,"timestamp":%q}`+"\n", device, v, begin.Add(time.Duration(i)*time.Minute).Format(time.RFC3339Nano))
		}
	}
	if code, answer := in.post(t, "/v1/messages", "text/plain", body.String()); code != 202 {
		t.Fatalf("%d %s", code, answer)
	}
	const table = `SELECT rule, device_id, count(*) FROM alarms GROUP BY 1, 2 ORDER BY 1, 2`
	live := [][]string{{"gusts", "oven-1", "1"}, {"hot", "oven-1", "1"}, {"other", "oven-1", "1"}, {"other", "oven-2", "1"}, {"other", "oven-3", "1"}}
	in.wantRows(t, table, live...)

	out, err := in.millrace(t, "replay", "--data", in.data, "--config", present, "--rules", changed, "--from", "1h", "--format", "json")
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Rules []struct {
			Rule                                     string
			Present, Changed, Same, Moved, New, Gone int
		}
		Alarms []struct {
			Rule, Device, Channel, Beside string
			Peak                          *float64
			Seconds                       *float64 `json:"duration_seconds"`
		}
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if text := fmt.Sprint(got.Rules); text != "[{gusts 1 0 0 0 0 1} {hot 1 3 1 0 2 0}]" {
		t.Errorf("counts %s\n%s", text, out)
	}
	var alarms []string
	for _, a := range got.Alarms {
		peak, seconds := "", ""
		if a.Peak != nil {
			peak = fmt.Sprint(*a.Peak)
		}
		if a.Seconds != nil {
			seconds = fmt.Sprint(*a.Seconds)
		}
		alarms = append(alarms, strings.Join([]string{a.Rule, a.Device, a.Channel, a.Beside, peak, seconds}, " "))
	}
	for _, want := range []string{"hot oven-1 t same 35 120", "hot oven-2 t new 28 60", "hot oven-2 t new 28.5 60"} {
		if !strings.Contains(strings.Join(alarms, "\n"), want) {
			t.Errorf("no alarm %q among %q", want, alarms)
		}
	}
	in.wantRows(t, table, live...) // nothing was raised

	out, err = in.millrace(t, "replay", "--data", in.data, "--config", present, "--rules", changed, "--from", "1h", "--device", "oven-2")
	if err != nil || !strings.Contains(out, "oven-2") || strings.Contains(out, "oven-1") {
		t.Errorf("of one device: %v\n%s", err, out)
	}
}
