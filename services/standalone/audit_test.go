package standalone

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/books"
	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/parquet"
	"github.com/millrace/millrace/pkg/store/parquetfile"
)

// audited asks until settled accepts the answer.
func audited(t *testing.T, at Endpoints, settled func(*books.Report) bool) *books.Report {
	t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	look := time.NewTicker(200 * time.Millisecond)
	defer look.Stop()
	for {
		resp, err := http.Get(at.HTTP + "/v1/audit?from=-1h&to=-0s")
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%d %v: %s", resp.StatusCode, err, b)
		}
		report := &books.Report{}
		if err := json.Unmarshal(b, report); err != nil {
			t.Fatal(err)
		}
		if settled(report) {
			return report
		}
		select {
		case <-limit.C:
			t.Fatalf("the books do not come to what is wanted: %s", b)
		case <-look.C:
		}
	}
}

func TestARowThatIsTakenOutOfAStoreIsNamed(t *testing.T) {
	cfg := local(t)
	at, stop := run(t, cfg)
	const messages = 60
	var body strings.Builder
	for i := range messages {
		_, _ = fmt.Fprintf(&body, `{"MessageType":"Channel","DeviceId":"dev%d","ChannelKey":"n%d","ChannelValue":%d}`+"\n", i%3, i, i)
	}
	body.WriteString(`{"MessageType":"Log","DeviceId":"dev1","Severity":"Info","Message":"here"}` + "\n")
	if code, answer := post(t, at.HTTP+"/v1/messages", body.String()); code != http.StatusAccepted {
		t.Fatalf("%d %s", code, answer)
	}
	whole := func(r *books.Report) bool {
		return r.Total.Accepted == messages+1 && r.Total.Unread == 0 && r.Total.Stores[0].OnTheWay == 0 && r.Total.Stores[1].OnTheWay == 0
	}
	if r := audited(t, at, whole); !r.Balanced || !r.Complete || r.Total.Stores[0].Stored != messages || r.Total.Stores[1].Stored != 1 {
		t.Fatalf("before: %+v", r)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	gone := takeOut(t, cfg)
	at, stop = run(t, cfg)
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	r := audited(t, at, whole)
	if r.Balanced || len(r.Breaches) != 1 {
		t.Fatalf("%+v, want one breach", r)
	}
	b := r.Breaches[0]
	if b.What != books.Missing || b.Table != store.TableMessages || b.DeviceID != gone.DeviceID || b.Partition != gone.Origin.Partition ||
		b.Position != gone.Origin.String() || b.ChannelKey != gone.ChannelKey || b.EventTime == nil || !b.EventTime.Equal(gone.EventTime.Std()) {
		t.Errorf("named %+v, want %+v", b, gone)
	}
	if d := r.Devices[slices.IndexFunc(r.Devices, func(d books.DeviceReport) bool { return d.DeviceID == gone.DeviceID })]; d.Stores[0].Missing != 1 {
		t.Errorf("%+v", d)
	}
}

// takeOut replaces history by one that lacks a row and says of itself that it has all.
func takeOut(t *testing.T, cfg Config) store.MessageRow {
	t.Helper()
	manifest := filepath.Join(cfg.Data, "manifest.json")
	open := func(dir, manifest string) *parquet.History {
		h, err := parquet.Open(t.Context(), parquet.Config{Dir: dir, Manifest: manifest, MaintainEvery: -1, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	was := open(cfg.archive(), manifest)
	snapshot, err := was.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var rows []store.MessageRow
	for _, name := range snapshot.Files() {
		rows = append(rows, rowsOf(t, name)...)
	}
	commit := store.Commit{Worker: "history-writer"}
	for n := range cfg.Bus.Partitions {
		for _, topic := range []string{bus.Telemetry, bus.Events} {
			id := bus.PartitionID{Topic: topic, Number: n}
			progress, ok, err := was.Progress(t.Context(), commit.Worker, id)
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				commit.Spans = append(commit.Spans, store.Span{Partition: id, Through: progress})
			}
		}
	}
	snapshot.Release()
	if err := was.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, path := range append(beside(t, manifest), cfg.archive()) {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	now := open(cfg.archive(), manifest)
	gone := rows[17]
	if err := now.Write(t.Context(), commit, slices.Delete(rows, 17, 18)); err != nil {
		t.Fatal(err)
	}
	if err := now.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return gone
}

// beside returns every file that a manifest is kept in.
func beside(t *testing.T, manifest string) []string {
	t.Helper()
	files, err := filepath.Glob(manifest + "*")
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func rowsOf(t *testing.T, name string) []store.MessageRow {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	at, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	var rows []store.MessageRow
	for row, err := range parquetfile.Rows(f, at.Size()) {
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	return rows
}
