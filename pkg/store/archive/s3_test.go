package archive_test

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/enginetest"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/archive"
	"github.com/millrace/millrace/pkg/store/storetest"
)

// large makes rows of 64 KiB that do not compress, so that a file is uploaded in several parts.
func large(from, to int) []store.MessageRow {
	rows := messages(from, to)
	for i := range rows {
		body := make([]byte, 32<<10)
		_, _ = rand.Read(body)
		rows[i].ChannelValue = hex.AppendEncode(nil, body)
	}
	return rows
}

func TestALargeFileIsUploadedInParts(t *testing.T) {
	b := onS3(t)
	a := open(t, config(b))
	want := large(0, 600)
	write(t, a, commit(0, 0, 1), want)
	flush(t, a)
	largest := int64(0)
	for o, err := range archive.Files(t.Context(), b) {
		if err != nil {
			t.Fatal(err)
		}
		largest = max(largest, o.Bytes)
	}
	if largest < 16<<20 {
		t.Errorf("the largest file has %d bytes, want several parts of 8 MiB", largest)
	}
	wantOnce(t, b, 0, 600)
	for _, row := range visible(t, b) {
		var i int
		if _, err := fmt.Sscanf(row.MessageID, "id-%d", &i); err != nil || string(row.ChannelValue) != string(want[i].ChannelValue) {
			t.Fatalf("%s is not what was written (%v)", row.MessageID, err)
		}
	}
}

// The server is killed while a file is on its way, and comes back: nothing is lost, doubled or seen in part, and the flush goes on
// by itself.
func TestKillS3AmidAnUpload(t *testing.T) {
	e := enginetest.Need(t, "s3")
	b := openBucket(t, s3Config(t, e))
	t.Cleanup(func() { empty(t, b) })
	killed := false
	tap := &tapped{Bucket: b, amid: func() {
		if !killed {
			killed = true
			e.Kill(t, 1)
		}
	}}
	cfg := config(tap)
	cfg.RowGroupRows = 16 // a MiB, so that the file flows
	a := open(t, cfg)
	progressOf(t, a, 0)
	write(t, a, commit(0, 0, 1), large(0, 600))
	if err := a.Flush(t.Context()); err == nil {
		t.Fatal("the flush has not noticed the kill")
	}
	if !killed {
		t.Fatal("the server was never killed")
	}
	write(t, a, commit(0, 1, 2), messages(600, 650)) // goes to memory meanwhile
	e.Start(t, 1)
	wantNoneTwice(t, visible(t, b))
	eventually(t, "it flushes by itself", func() bool { return a.Flush(t.Context()) == nil })
	wantOnce(t, b, 0, 650)
	if at := progressOf(t, open(t, config(b)), 0); at != 2 {
		t.Errorf("progress is %d, want 2", at)
	}
	aborter, ok := b.(archive.Aborter)
	if !ok {
		t.Fatal("uploads cannot be ended")
	}
	n, err := aborter.AbortUploads(t.Context(), "", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d uploads had been left half done", n)
}

// The server hangs at the moment in which a record is written, and nobody knows whether it was.
func TestKillS3ThatHangsAtTheCommit(t *testing.T) {
	e := enginetest.Need(t, "s3")
	b := openBucket(t, s3Config(t, e))
	t.Cleanup(func() { empty(t, b) })
	paused := false
	tap := &tapped{Bucket: b, record: func() {
		if !paused {
			paused = true
			e.Pause(t, 1)
			time.AfterFunc(time.Second, func() { e.Resume(t, 1) })
		}
	}}
	a := open(t, config(b))
	crash(t, a)
	a = open(t, config(tap))
	for i := range 3 {
		write(t, a, commit(0, uint64(i), uint64(i+1)), hours(messages(i*50, i*50+50)))
		eventually(t, "it flushes", func() bool { return a.Flush(t.Context()) == nil })
	}
	wantOnce(t, b, 0, 150)
}

// tapped calls amid when some of a file has been handed to the bucket, and record before a record is written.
type tapped struct {
	archive.Bucket
	amid, record func()
}

// ClickHouse reads the bucket by itself, while it is written.
func TestClickHouseReadsTheBucket(t *testing.T) {
	engine, e := enginetest.Need(t, "clickhouse"), enginetest.Need(t, "s3")
	cfg := s3Config(t, e)
	b := openBucket(t, cfg)
	t.Cleanup(func() { empty(t, b) })
	a := open(t, config(b))
	rows := append(messages(0, 1000), storetest.Extremes()...)
	write(t, a, commit(0, 0, 1), hours(rows))
	flush(t, a)
	u, err := url.Parse(cfg.URL)
	if err != nil {
		t.Fatal(err)
	}
	glob := e.Get("endpoint") + "/" + e.Get("bucket") + u.Path + "/dt=*/hour=*/*.parquet"
	query := fmt.Sprintf(`SELECT count(), uniqExact(message_id), round(sum(value), 1), min(toYear(event_time)), any(toTypeName(origin_position)) `+
		`FROM s3('%s', '%s', '%s', 'Parquet') WHERE device_id LIKE 'device-%%'`, glob, e.Get("access_key"), e.Get("secret_key"))
	if got, want := ask(t, engine.Get("http_url"), query), "1000\t1000\t500000\t2017\tInt64"; got != want {
		t.Errorf("ClickHouse reads %q, want %q", got, want)
	}
}

func ask(t *testing.T, address, query string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(query))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", res.Status, body, err)
	}
	return strings.TrimSpace(string(body))
}
