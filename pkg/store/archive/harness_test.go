package archive_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/enginetest"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/archive"
	"github.com/millrace/millrace/pkg/store/archive/bucket"
	"github.com/millrace/millrace/pkg/store/storetest"
	"github.com/millrace/millrace/pkg/telemetry"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Connections that the clients keep for the next call end by themselves.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("go.opencensus.io/stats/view.(*worker).start"))
}

const worker = "archive-writer"

// config is one that does nothing by itself: tests say when.
func config(b archive.Bucket) archive.Config {
	return archive.Config{Bucket: b, FileAge: time.Hour, UpkeepEvery: -1, Now: time.Now}
}

func inFolder(t testing.TB) bucket.Bucket {
	t.Helper()
	return openBucket(t, bucket.Config{URL: "file://" + t.TempDir()})
}

func openBucket(t testing.TB, cfg bucket.Config) bucket.Bucket {
	t.Helper()
	b, err := bucket.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// s3Config is where a test may write; everything there is removed when it ends.
func s3Config(t testing.TB, e *enginetest.Engine) bucket.Config {
	t.Helper()
	u, err := url.Parse(e.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/archive-" + strings.ToLower(rand.Text()[:12])
	return bucket.Config{URL: u.String(), AccessKey: e.Get("access_key"), SecretKey: e.Get("secret_key")}
}

func onS3(t testing.TB) bucket.Bucket {
	t.Helper()
	b := openBucket(t, s3Config(t, enginetest.Need(t, "s3")))
	t.Cleanup(func() { empty(t, b) })
	return b
}

func empty(t testing.TB, b archive.Bucket) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	for o, err := range b.List(ctx, "") {
		if err == nil {
			err = b.Remove(ctx, o.Key)
		}
		if err != nil {
			t.Errorf("tidy up: %v", err)
			return
		}
	}
}

// onEach runs a test on every kind of bucket that this machine has.
func onEach(t *testing.T, test func(t *testing.T, open func(t testing.TB) bucket.Bucket)) {
	t.Run("folder", func(t *testing.T) { test(t, inFolder) })
	t.Run("s3", func(t *testing.T) { test(t, onS3) })
}

func open(t testing.TB, cfg archive.Config) *archive.Archive {
	t.Helper()
	a, err := archive.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { crash(t, a) })
	return a
}

func crash(t testing.TB, a *archive.Archive) {
	t.Helper()
	if err := a.Abandon(); err != nil && !errors.Is(err, archive.ErrClosed) {
		t.Error(err)
	}
}

// visible returns every row that a reader with a glob sees.
func visible(t testing.TB, b archive.Bucket) []store.MessageRow {
	t.Helper()
	rows, err := readAll(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func readAll(ctx context.Context, b archive.Bucket) ([]store.MessageRow, error) {
	var rows []store.MessageRow
	for o, err := range archive.Files(ctx, b) {
		if err != nil {
			return nil, err
		}
		for row, err := range archive.ReadFile(ctx, b, o.Key) {
			if err != nil {
				return nil, err
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

func commit(number int, after, through uint64) store.Commit {
	span := store.Span{Partition: bus.PartitionID{Topic: bus.Telemetry, Number: number}}
	span.After.Seq, span.Through.Through.Seq = after, through
	span.Through.Origins = bus.Origins{{Partition: int32(number), Position: bus.Position{Seq: through}}}
	return store.Commit{Worker: worker, Spans: []store.Span{span}}
}

func messages(from, to int) []store.MessageRow {
	var rows []store.MessageRow
	for i := from; i < to; i++ {
		rows = append(rows, storetest.Message(i))
	}
	return rows
}

func write(t testing.TB, a *archive.Archive, c store.Commit, rows []store.MessageRow) {
	t.Helper()
	if err := a.Write(t.Context(), c, rows); err != nil {
		t.Fatal(err)
	}
}

func flush(t testing.TB, a *archive.Archive) {
	t.Helper()
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func progressOf(t testing.TB, a *archive.Archive, number int) uint64 {
	t.Helper()
	p, _, err := a.Progress(t.Context(), worker, bus.PartitionID{Topic: bus.Telemetry, Number: number})
	if err != nil {
		t.Fatal(err)
	}
	return p.Through.Seq
}

// wantOnce checks that the messages from..to are visible, each once, and nothing else.
func wantOnce(t testing.TB, b archive.Bucket, from, to int) {
	t.Helper()
	rows := visible(t, b)
	seen := map[string]int{}
	for i := range rows {
		seen[rows[i].MessageID]++
	}
	for i := from; i < to; i++ {
		if n := seen[fmt.Sprintf("id-%d", i)]; n != 1 {
			t.Fatalf("message %d is there %d times (of %d rows), want once", i, n, len(rows))
		}
	}
	if len(rows) != to-from {
		t.Errorf("%d rows, want %d", len(rows), to-from)
	}
}

func wantNoneTwice(t testing.TB, rows []store.MessageRow) {
	t.Helper()
	seen := map[string]bool{}
	for i := range rows {
		if seen[rows[i].MessageID] {
			t.Fatalf("message %s is visible twice", rows[i].MessageID)
		}
		seen[rows[i].MessageID] = true
	}
}

func keys(t testing.TB, b archive.Bucket, prefix string) []string {
	t.Helper()
	var all []string
	for o, err := range b.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, o.Key)
	}
	return all
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// hours makes row i an hour later than row i-1, so that a flush has many files.
func hours(rows []store.MessageRow) []store.MessageRow {
	for i := range rows {
		rows[i].EventTime += telemetry.Time(int64(i%3) * int64(time.Hour))
	}
	return rows
}

var errBroken = errors.New("the bucket is broken")

// faults is a bucket that breaks at its at-th call that changes something, from 1. It breaks before the call, or after it: then the call
// happened and its caller does not know. Later calls break too where dead is set, as after a crash.
type faults struct {
	archive.Bucket
	at          int
	after, dead bool
	each        func() // called after each step, if set

	mu    sync.Mutex
	steps int
	// hold, where set, keeps step holdAt waiting until it is closed; held is closed when it waits.
	holdAt     int
	hold, held chan struct{}
}

func (f *faults) do(what func() error) error {
	f.mu.Lock()
	f.steps++
	step := f.steps
	f.mu.Unlock()
	if f.each != nil {
		defer f.each()
	}
	if f.hold != nil && step == f.holdAt {
		close(f.held)
		<-f.hold
	}
	switch {
	case f.at > 0 && step == f.at && f.after:
		return errors.Join(what(), errBroken)
	case f.at > 0 && step == f.at, f.dead && f.at > 0 && step > f.at:
		return errBroken
	}
	return what()
}

func (f *faults) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.steps
}

func (f *faults) Write(ctx context.Context, key string, exclusive bool, fill func(io.Writer) error) error {
	return f.do(func() error { return f.Bucket.Write(ctx, key, exclusive, fill) })
}

func (f *faults) Copy(ctx context.Context, to, from string) error {
	return f.do(func() error { return f.Bucket.Copy(ctx, to, from) })
}

func (f *faults) Remove(ctx context.Context, key string) error {
	return f.do(func() error { return f.Bucket.Remove(ctx, key) })
}

func (f *faults) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return func(yield func(archive.Object, error) bool) {
		if err := f.do(func() error { return nil }); err != nil {
			yield(archive.Object{}, err)
			return
		}
		f.Bucket.List(ctx, prefix)(yield)
	}
}

func (f *faults) Read(ctx context.Context, key string, offset, length int64) (body []byte, err error) {
	err = f.do(func() (err error) { body, err = f.Bucket.Read(ctx, key, offset, length); return err })
	return body, err
}

func (b *tapped) Write(ctx context.Context, key string, exclusive bool, fill func(io.Writer) error) error {
	if exclusive && b.record != nil && strings.Contains(key, "/records/") {
		b.record()
	}
	return b.Bucket.Write(ctx, key, exclusive, func(w io.Writer) error {
		if exclusive || b.amid == nil {
			return fill(w)
		}
		return fill(&amid{w: w, call: b.amid})
	})
}

// amid calls once 12 MiB have passed.
type amid struct {
	w    io.Writer
	n    int
	call func()
}

func (a *amid) Write(p []byte) (int, error) {
	if a.n < 12<<20 && a.n+len(p) >= 12<<20 {
		a.call()
	}
	a.n += len(p)
	return a.w.Write(p)
}
