package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/pkg/bus"
)

const (
	corruptDevices  = 8
	corruptMessages = 30 // of each device, before the damage and again after it
)

// sendNumbered posts numbered messages of every device, from number from on.
func (in *instance) sendNumbered(t *testing.T, begin time.Time, from, to int) {
	t.Helper()
	var all errgroup.Group
	for d := range corruptDevices {
		all.Go(func() error {
			for n := from; n < to; n++ {
				body := fmt.Sprintf(`{"n":%d,"timestamp":%q}`, n, begin.Add(time.Duration(n)*time.Second).Format(time.RFC3339Nano))
				resp, err := http.Post(fmt.Sprintf("%s/v1/devices/corrupt-%d/messages", in.http, d), "application/json", strings.NewReader(body))
				if err != nil {
					return err
				}
				if err := resp.Body.Close(); err != nil || resp.StatusCode/100 != 2 {
					return fmt.Errorf("message %d: %s, %w", n, resp.Status, err)
				}
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
}

// wantNumbered waits until every store has the messages up to number to, each once.
func (in *instance) wantNumbered(t *testing.T, to int) {
	t.Helper()
	in.wantRows(t, `SELECT count(*), count(DISTINCT (device_id, value)), max(value)::BIGINT FROM device_messages WHERE channel_key = 'n'`,
		[]string{fmt.Sprint(corruptDevices * to), fmt.Sprint(corruptDevices * to), fmt.Sprint(to - 1)})
	in.wantRows(t, `SELECT count(*), min(value)::BIGINT FROM device_state WHERE channel_key = 'n'`, []string{fmt.Sprint(corruptDevices), fmt.Sprint(to - 1)})
	in.wantRows(t, windowsDiffer("10"), []string{"0"})
}

// status is what an instance says of itself.
type status struct {
	Warnings []string `json:"warnings"`
	Workers  []struct {
		Worker  string `json:"worker"`
		Records uint64 `json:"records"`
		Behind  uint64 `json:"behind"`
	} `json:"workers"`
}

func (in *instance) status(t *testing.T) (s status) {
	t.Helper()
	if err := json.Unmarshal([]byte(ask(t, http.MethodGet, in.http+"/v1/status", "")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// warnings returns what the status warns of, and whether the metric counts files.
func (in *instance) warnings(t *testing.T) (text string, corrupt bool) {
	t.Helper()
	for line := range strings.Lines(ask(t, http.MethodGet, in.http+"/metrics", "")) {
		if strings.HasPrefix(line, "millrace_corrupt_files_total{") && !strings.HasSuffix(strings.TrimSpace(line), " 0") {
			corrupt = true
		}
	}
	return strings.Join(in.status(t).Warnings, "\n"), corrupt
}

// corruptArgs let files of history be written soon, and windows be closed.
func corruptArgs() []string {
	return []string{"--set", "history.segment_age=1s", "--set", "aggregator.lateness=1s", "--log-level", "error"}
}

// wholeInstance is the data directory of an instance that has taken messages and was killed.
func wholeInstance(t *testing.T, begin time.Time) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	in := run(t, dir, corruptArgs()...)
	in.sendNumbered(t, begin, 0, corruptMessages)
	in.wantNumbered(t, corruptMessages)
	eventually(t, "history is in files", func() error {
		rows, err := in.query(t.Context(), "SELECT count(*) FROM archive")
		if err == nil && rows[0][0] != fmt.Sprint(corruptDevices*corruptMessages) {
			err = fmt.Errorf("%s rows", rows[0][0])
		}
		return err
	})
	in.wantEndsRemembered(t)
	in.kill()
	return dir
}

// wantEndsRemembered waits until the file of ends says of every partition what it has now, or more.
func (in *instance) wantEndsRemembered(t *testing.T) {
	t.Helper()
	log := openLog(t, in.nats)
	want := map[string]uint64{}
	for _, topic := range bus.Topics() {
		ends, err := partitionEnds(log, topic)(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for n, end := range ends {
			want[fmt.Sprintf("MR_%s_%d", topic, n)] = end
		}
	}
	eventually(t, "what was appended is remembered", func() error {
		b, err := os.ReadFile(filepath.Join(in.data, "log-ends.json"))
		if err != nil {
			return err
		}
		var streams map[string]struct {
			Last uint64 `json:"last"`
		}
		if err := json.NewDecoder(bytes.NewReader(b)).Decode(&streams); err != nil { // a checksum follows
			return err
		}
		for stream, end := range want {
			if last := streams[stream].Last; last < end {
				return fmt.Errorf("%s through %d, want %d", stream, last, end)
			}
		}
		return nil
	})
}

// blocks returns the files of a topic in the log of a data directory.
func blocks(t *testing.T, data, topic string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(data, "log", "jetstream", "*", "streams", "MR_"+topic+"_*", "msgs", "*.blk"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// segments returns the files of history in a data directory.
func segments(t *testing.T, data string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(data, "archive"), func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".parquet") {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// size returns how long a file is; 0 where it is not there, since it may go while an instance runs.
func size(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// largest returns the largest of some files.
func largest(t *testing.T, paths []string) string {
	t.Helper()
	if len(paths) == 0 {
		t.Fatal("there are no such files")
	}
	return slices.MaxFunc(paths, func(a, b string) int { return cmp.Compare(size(a), size(b)) })
}

// The damages that a file can take.
func cutFile(t *testing.T, path string, percent int64) {
	t.Helper()
	st, err := os.Stat(path)
	if err == nil {
		err = os.Truncate(path, st.Size()*percent/100)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func flipFile(t *testing.T, path string, percent int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		b[(len(b)*percent/100+i)%len(b)] ^= 0xff
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func removeAll(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// corruption is a damage and what an operator must be told of it; "" is nothing, since nothing is lost or needs to be seen to.
type corruption struct {
	name   string
	damage func(t *testing.T, data string)
	told   string
}

func corruptions() []corruption {
	in := func(name string) func(t *testing.T, data string) string {
		return func(_ *testing.T, data string) string { return filepath.Join(data, name) }
	}
	block := func(topic string) func(t *testing.T, data string) string {
		return func(t *testing.T, data string) string { t.Helper(); return largest(t, blocks(t, data, topic)) }
	}
	segment := func(t *testing.T, data string) string { t.Helper(); return largest(t, segments(t, data)) }
	cut := func(of func(*testing.T, string) string, percent int64) func(*testing.T, string) {
		return func(t *testing.T, data string) { t.Helper(); cutFile(t, of(t, data), percent) }
	}
	flip := func(of func(*testing.T, string) string, percent int) func(*testing.T, string) {
		return func(t *testing.T, data string) { t.Helper(); flipFile(t, of(t, data), percent) }
	}
	remove := func(of func(*testing.T, string) string) func(*testing.T, string) {
		return func(t *testing.T, data string) { t.Helper(); removeAll(t, of(t, data)) }
	}
	database, wal, manifest := in("millrace.duckdb"), in("millrace.duckdb.wal"), in("manifest.json")
	return []corruption{
		{"nothing", func(*testing.T, string) {}, ""},
		{"database cut", cut(database, 60), "database"},
		{"database header flipped", flip(database, 0), "database"},
		{"database gone", func(t *testing.T, data string) {
			t.Helper()
			removeAll(t, database(t, data))
			removeAll(t, wal(t, data))
		}, "database"},
		{"write-ahead log flipped", flip(wal, 50), "database"},
		{"segment cut", cut(segment, 70), "history"},
		{"segment gone", remove(segment), "history"},
		{"manifest flipped", flip(manifest, 50), "manifest"},
		{"manifest gone", remove(manifest), "manifest"},
		{"block of ingested cut", cut(block("ingested"), 50), "log"},
		{"block of telemetry flipped", flip(block("telemetry"), 50), "log"},
		{"all of the log gone", remove(in("log")), "log"},
		{"positions of groups gone", func(t *testing.T, data string) {
			t.Helper()
			all, err := filepath.Glob(filepath.Join(data, "log", "jetstream", "*", "streams", "KV_MR_positions"))
			if err != nil || len(all) != 1 {
				t.Fatalf("%v, %v", all, err)
			}
			removeAll(t, all[0])
		}, ""},
		{"ends gone", remove(in("log-ends.json")), ""},
	}
}

// TestADamagedFileIsNamedAndNothingIsLost damages each kind of file of an instance that was killed, and wants the next start to
// name it, to have every message in every store once more, and to take new messages and count each.
func TestADamagedFileIsNamedAndNothingIsLost(t *testing.T) {
	begin := time.Now().UTC().Truncate(time.Hour).Add(-3 * time.Hour) // so that every window has ended
	whole := wholeInstance(t, begin)
	for i, c := range corruptions() {
		if testing.Short() && i%3 != 0 {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			data := filepath.Join(t.TempDir(), "data")
			if err := os.CopyFS(data, os.DirFS(whole)); err != nil {
				t.Fatal(err)
			}
			c.damage(t, data)
			in := run(t, data, corruptArgs()...)
			in.sendNumbered(t, begin, corruptMessages, 2*corruptMessages)
			in.wantNumbered(t, 2*corruptMessages)
			text, counted := in.warnings(t)
			if told := strings.Contains(text, "found damaged: "+c.told); c.told != "" && !told || c.told == "" && strings.Contains(text, "found damaged") || counted != (c.told != "") {
				t.Errorf("the status warns of %q (%v), want %q", text, counted, c.told)
			}
			if c.told != "" && !strings.Contains(in.output.tail(50_000), "found damaged") {
				t.Errorf("the log of the process says nothing of it:\n%s", in.output.tail(5000))
			}
		})
	}
}

// TestWhatTheLogLostUnreadIsWrittenAgainByTheRouter damages a topic that nobody has read yet: its messages are in ingested still.
func TestWhatTheLogLostUnreadIsWrittenAgainByTheRouter(t *testing.T) {
	begin := time.Now().UTC().Truncate(time.Hour).Add(-3 * time.Hour)
	data := filepath.Join(t.TempDir(), "data")
	first := run(t, data, append(corruptArgs(), "--set", "workers=[ingest, router, live]")...)
	first.sendNumbered(t, begin, 0, corruptMessages)
	eventually(t, "the router has written everything", func() error {
		written := int64(0)
		for _, b := range blocks(t, data, "telemetry") {
			written += size(b)
		}
		if behind := first.behind(t, "router"); written == 0 || behind {
			return fmt.Errorf("%d bytes, behind: %v", written, behind)
		}
		return nil
	})
	first.wantEndsRemembered(t)
	first.kill()
	damaged := 0
	for i, b := range blocks(t, data, "telemetry") {
		if size(b) == 0 {
			continue
		}
		damaged++
		if i%2 == 0 {
			flipFile(t, b, 40)
		} else {
			removeAll(t, filepath.Dir(filepath.Dir(b))) // the whole stream
		}
	}
	if damaged == 0 {
		t.Fatal("telemetry is empty")
	}
	in := run(t, data, corruptArgs()...)
	in.sendNumbered(t, begin, corruptMessages, 2*corruptMessages)
	in.wantNumbered(t, 2*corruptMessages)
	if text, _ := in.warnings(t); !strings.Contains(text, "the router reads ingested") || strings.Contains(text, "Missing") {
		t.Errorf("the status warns of %q, want the router to be set back and nothing missing", text)
	}
}

// behind says whether a worker has not taken, or not committed, everything that sendNumbered sent.
func (in *instance) behind(t *testing.T, worker string) bool {
	t.Helper()
	for _, w := range in.status(t).Workers {
		if w.Worker == worker {
			return w.Behind > 0 || w.Records < corruptDevices*corruptMessages
		}
	}
	return true
}
