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

func inFolder(tb testing.TB) bucket.Bucket {
	tb.Helper()
	return openBucket(tb, bucket.Config{URL: "file://" + tb.TempDir()})
}

func openBucket(tb testing.TB, cfg bucket.Config) bucket.Bucket {
	tb.Helper()
	b, err := bucket.Open(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := b.Close(); err != nil {
			tb.Error(err)
		}
	})
	return b
}

// s3Config is where a test may write; everything there is removed when it ends.
func s3Config(tb testing.TB, e *enginetest.Engine) bucket.Config {
	tb.Helper()
	u, err := url.Parse(e.URL)
	if err != nil {
		tb.Fatal(err)
	}
	u.Path = "/archive-" + strings.ToLower(rand.Text()[:12])
	return bucket.Config{URL: u.String(), AccessKey: e.Get("access_key"), SecretKey: e.Get("secret_key")}
}

func onS3(tb testing.TB) bucket.Bucket {
	tb.Helper()
	b := openBucket(tb, s3Config(tb, enginetest.Need(tb, "s3")))
	tb.Cleanup(func() { empty(tb, b) })
	return b
}

func empty(tb testing.TB, b archive.Bucket) {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context())
	for o, err := range b.List(ctx, "") {
		if err == nil {
			err = b.Remove(ctx, o.Key)
		}
		if err != nil {
			tb.Errorf("tidy up: %v", err)
			return
		}
	}
}

// kinds are the kinds of bucket that tests run on; s3 skips where there is none.
func kinds() map[string]func(testing.TB) bucket.Bucket {
	return map[string]func(testing.TB) bucket.Bucket{"folder": inFolder, "s3": onS3}
}

func open(tb testing.TB, cfg archive.Config) *archive.Archive {
	tb.Helper()
	a, err := archive.Open(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { crash(tb, a) })
	return a
}

func crash(tb testing.TB, a *archive.Archive) {
	tb.Helper()
	if err := a.Abandon(); err != nil && !errors.Is(err, archive.ErrClosed) {
		tb.Error(err)
	}
}

// visible returns every row that a reader with a glob sees.
func visible(tb testing.TB, b archive.Bucket) []store.MessageRow {
	tb.Helper()
	rows, err := readAll(tb.Context(), b)
	if err != nil {
		tb.Fatal(err)
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

func write(tb testing.TB, a *archive.Archive, c store.Commit, rows []store.MessageRow) {
	tb.Helper()
	if err := a.Write(tb.Context(), c, rows); err != nil {
		tb.Fatal(err)
	}
}

func flush(tb testing.TB, a *archive.Archive) {
	tb.Helper()
	if err := a.Flush(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}

func progressOf(tb testing.TB, a *archive.Archive, number int) uint64 {
	tb.Helper()
	p, _, err := a.Progress(tb.Context(), worker, bus.PartitionID{Topic: bus.Telemetry, Number: number})
	if err != nil {
		tb.Fatal(err)
	}
	return p.Through.Seq
}

// wantOnce checks that the messages from..to are visible, each once, and nothing else.
func wantOnce(tb testing.TB, b archive.Bucket, from, to int) {
	tb.Helper()
	rows := visible(tb, b)
	seen := map[string]int{}
	for i := range rows {
		seen[rows[i].MessageID]++
	}
	for i := from; i < to; i++ {
		if n := seen[fmt.Sprintf("id-%d", i)]; n != 1 {
			tb.Fatalf("message %d is there %d times (of %d rows), want once", i, n, len(rows))
		}
	}
	if len(rows) != to-from {
		tb.Errorf("%d rows, want %d", len(rows), to-from)
	}
}

func wantNoneTwice(tb testing.TB, rows []store.MessageRow) {
	tb.Helper()
	seen := map[string]bool{}
	for i := range rows {
		if seen[rows[i].MessageID] {
			tb.Fatalf("message %s is visible twice", rows[i].MessageID)
		}
		seen[rows[i].MessageID] = true
	}
}

func keys(tb testing.TB, b archive.Bucket, prefix string) []string {
	tb.Helper()
	var all []string
	for o, err := range b.List(tb.Context(), prefix) {
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, o.Key)
	}
	return all
}

func eventually(tb testing.TB, what string, is func() bool) {
	tb.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline.C:
			tb.Fatalf("not within a minute: %s", what)
		}
	}
}

// hours makes row i an hour later than row i-1, so that a flush has many files.
func hours(rows []store.MessageRow) []store.MessageRow {
	for i := range rows {
		rows[i].EventTime += telemetry.Time(int64(i%2) * int64(time.Hour))
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
