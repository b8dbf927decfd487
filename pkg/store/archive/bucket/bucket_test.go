package bucket_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/enginetest"
	"github.com/millrace/millrace/pkg/store/archive"
	"github.com/millrace/millrace/pkg/store/archive/bucket"
)

func s3Config(t *testing.T) bucket.Config {
	t.Helper()
	e := enginetest.Need(t, "s3")
	u, err := url.Parse(e.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/bucket-" + strings.ToLower(rand.Text()[:12])
	return bucket.Config{URL: u.String(), AccessKey: e.Get("access_key"), SecretKey: e.Get("secret_key")}
}

func open(t *testing.T, cfg bucket.Config) bucket.Bucket {
	t.Helper()
	b, err := bucket.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		for o, err := range b.List(ctx, "") {
			if err == nil {
				err = b.Remove(ctx, o.Key)
			}
			if err != nil {
				t.Errorf("tidy up: %v", err)
				break
			}
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func put(t *testing.T, b archive.Bucket, key string, exclusive bool, body []byte) error {
	t.Helper()
	return b.Write(t.Context(), key, exclusive, func(w io.Writer) error { _, err := w.Write(body); return err })
}

func mustPut(t *testing.T, b archive.Bucket, key string, body []byte) {
	t.Helper()
	if err := put(t, b, key, false, body); err != nil {
		t.Fatal(err)
	}
}

func wantBody(t *testing.T, b archive.Bucket, key string, want []byte) {
	t.Helper()
	got, err := b.Read(t.Context(), key, 0, -1)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes (%v), want %d", key, len(got), err, len(want))
	}
}

func keys(t *testing.T, b archive.Bucket, prefix string) []string {
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

// promises are those of archive.Bucket.
func promises(t *testing.T, b archive.Bucket) {
	t.Helper()
	t.Run("what was written is read, whole and in part", func(t *testing.T) {
		mustPut(t, b, "a/one", []byte("0123456789"))
		wantBody(t, b, "a/one", []byte("0123456789"))
		for _, c := range []struct {
			offset, length int64
			want           string
		}{{3, 4, "3456"}, {8, 100, "89"}, {6, -1, "6789"}} {
			if got, err := b.Read(t.Context(), "a/one", c.offset, c.length); err != nil || string(got) != c.want {
				t.Errorf("from %d, %d bytes: %q, %v, want %q", c.offset, c.length, got, err, c.want)
			}
		}
	})
	t.Run("an exclusive write is refused where there is an object, and leaves it", func(t *testing.T) {
		if err := put(t, b, "b/one", true, []byte("first")); err != nil {
			t.Fatal(err)
		}
		if err := put(t, b, "b/one", true, []byte("second")); !errors.Is(err, archive.ErrExists) {
			t.Errorf("got %v, want ErrExists", err)
		}
		wantBody(t, b, "b/one", []byte("first"))
	})
	t.Run("of many exclusive writes at once one succeeds", func(t *testing.T) {
		const many = 16
		errs := make([]error, many)
		var wg sync.WaitGroup
		for i := range many {
			wg.Go(func() { errs[i] = put(t, b, "c/one", true, []byte{byte(i)}) })
		}
		wg.Wait()
		won := slices.Index(errs, nil)
		if won < 0 {
			t.Fatalf("nobody: %v", errors.Join(errs...))
		}
		wantBody(t, b, "c/one", []byte{byte(won)})
		for i, err := range errs {
			if i != won && !errors.Is(err, archive.ErrExists) {
				t.Errorf("beside %d, %d: %v, want ErrExists", won, i, err)
			}
		}
	})
	t.Run("a copy is the same, and may be made again", func(t *testing.T) {
		mustPut(t, b, "d/from", []byte("body"))
		for range 2 {
			if err := b.Copy(t.Context(), "dt=2026-02-03/hour=04/to.parquet", "d/from"); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Remove(t.Context(), "d/from"); err != nil {
			t.Fatal(err)
		}
		wantBody(t, b, "dt=2026-02-03/hour=04/to.parquet", []byte("body"))
		if err := b.Copy(t.Context(), "d/to", "d/from"); !errors.Is(err, archive.ErrNotFound) {
			t.Errorf("a copy of nothing: %v, want ErrNotFound", err)
		}
		if _, err := b.Read(t.Context(), "d/from", 0, -1); !errors.Is(err, archive.ErrNotFound) {
			t.Errorf("what was removed is read: %v, want ErrNotFound", err)
		}
		if err := b.Remove(t.Context(), "d/from"); err != nil {
			t.Errorf("removed again: %v", err)
		}
	})
	t.Run("a list is sorted, of a prefix, with sizes and times", func(t *testing.T) {
		for _, key := range []string{"e/2", "e/10", "e/x/y", "e/1", "f/1"} {
			mustPut(t, b, key, []byte(key))
		}
		if got := keys(t, b, "e/"); !slices.Equal(got, []string{"e/1", "e/10", "e/2", "e/x/y"}) {
			t.Errorf("got %v", got)
		}
		if got := keys(t, b, "e/1"); !slices.Equal(got, []string{"e/1", "e/10"}) {
			t.Errorf("got %v", got)
		}
		for o, err := range b.List(t.Context(), "e/x/") {
			if err != nil || o.Bytes != 5 || time.Since(o.Modified).Abs() > time.Hour {
				t.Errorf("got %+v, %v", o, err)
			}
		}
		if got := keys(t, b, "nothing/"); len(got) != 0 {
			t.Errorf("got %v", got)
		}
	})
	t.Run("a write that goes wrong half way stores nothing", func(t *testing.T) {
		half := errors.New("half way")
		err := b.Write(t.Context(), "g/one", false, func(w io.Writer) error {
			_, err := w.Write(make([]byte, 20<<20)) // more than a part of a multi-part upload
			return errors.Join(err, half)
		})
		if !errors.Is(err, half) {
			t.Errorf("got %v, want the reason", err)
		}
		if got := keys(t, b, "g/"); len(got) != 0 {
			t.Errorf("there is %v", got)
		}
	})
	t.Run("a large object", func(t *testing.T) {
		body := make([]byte, 21<<20)
		_, _ = rand.Read(body)
		mustPut(t, b, "h/one", body)
		wantBody(t, b, "h/one", body)
		if err := b.Copy(t.Context(), "h/two", "h/one"); err != nil {
			t.Fatal(err)
		}
		wantBody(t, b, "h/two", body)
	})
}

func TestAFolderIsABucket(t *testing.T) {
	promises(t, open(t, bucket.Config{URL: "file://" + t.TempDir() + "/made"}))
}

func TestS3IsABucket(t *testing.T) { promises(t, open(t, s3Config(t))) }

func TestUploadsThatNobodyGoesOnWithAreEnded(t *testing.T) {
	for name, b := range map[string]func(t *testing.T) bucket.Bucket{
		"folder": func(t *testing.T) bucket.Bucket {
			t.Helper()
			return open(t, bucket.Config{URL: "file://" + t.TempDir()})
		},
		"s3": func(t *testing.T) bucket.Bucket { t.Helper(); return open(t, s3Config(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			b := b(t)
			aborter, ok := b.(archive.Aborter)
			if !ok {
				t.Fatal("it cannot end uploads")
			}
			started, give := make(chan struct{}), make(chan struct{})
			var upload sync.WaitGroup
			upload.Go(func() {
				_ = b.Write(t.Context(), "staged/one", false, func(w io.Writer) error {
					_, err := w.Write(make([]byte, 40<<20))
					close(started)
					<-give
					return err
				})
			})
			<-started
			if n, err := aborter.AbortUploads(t.Context(), "staged/", time.Now().Add(-time.Hour)); n != 0 || err != nil {
				t.Errorf("%d uploads that are young are ended (%v)", n, err)
			}
			endUploads(t, aborter)
			close(give)
			upload.Wait()
			if got := keys(t, b, "staged/"); len(got) != 0 {
				t.Errorf("there is %v", got)
			}
		})
	}
}

// endUploads ends the one upload that is under way. A server may answer with an error while a part is just arriving; it is asked again, as
// the archive asks again.
func endUploads(t *testing.T, aborter archive.Aborter) {
	t.Helper()
	for tries := 1; ; tries++ {
		n, err := aborter.AbortUploads(t.Context(), "staged/", time.Now().Add(time.Hour))
		switch {
		case err == nil && (n == 1 || n == 0 && tries > 1):
			return
		case err == nil || tries == 50:
			t.Errorf("%d uploads are ended (%v), want 1", n, err)
			return
		}
		t.Logf("try %d: %v", tries, err)
		runtime.Gosched()
	}
}

func TestAWrongSecretIsSaid(t *testing.T) {
	cfg := s3Config(t)
	for name, c := range map[string]struct {
		change func(*bucket.Config)
		want   string
	}{
		"secret": {func(c *bucket.Config) { c.SecretKey = "not-that-one" }, "the secret key is wrong"},
		"key":    {func(c *bucket.Config) { c.AccessKey = "nobody" }, "does not know the access key"},
		"bucket": {func(c *bucket.Config) { c.URL = strings.Replace(c.URL, "s3://", "s3://nowhere-", 1) }, "there is no such bucket"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := cfg
			c.change(&cfg)
			b, err := bucket.Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			err = refused(t, b)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			t.Log(err)
			if err != nil && strings.Contains(err.Error(), cfg.SecretKey) {
				t.Error("the error tells the secret")
			}
		})
	}
}

// refused returns what a server says to who opens an archive in b. One that refuses before it has read the request closes the connection, and
// may cut off its own words: then it is asked again.
func refused(t *testing.T, b archive.Bucket) (err error) {
	t.Helper()
	for range 10 {
		_, err = archive.Open(t.Context(), archive.Config{Bucket: b, Now: time.Now})
		if err == nil || !strings.Contains(err.Error(), "failed to copy error response body") {
			break
		}
	}
	return err
}

func TestAnUnreachableServerIsAnErrorAndNoHang(t *testing.T) {
	b, err := bucket.Open(t.Context(), bucket.Config{URL: "s3://somewhere?endpoint=http://127.0.0.1:1", AccessKey: "a", SecretKey: "b"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := archive.Open(t.Context(), archive.Config{Bucket: b, Now: time.Now}); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v, want that the connection was refused", err)
	}
}

func TestURLs(t *testing.T) {
	t.Setenv("AZURE_STORAGE_ACCOUNT", "")
	t.Setenv("AZURE_STORAGE_SAS_TOKEN", "")
	key := base64.StdEncoding.EncodeToString([]byte("a key of azure"))
	for _, c := range []struct {
		name string
		cfg  bucket.Config
		want string // "" means that it opens
	}{
		{"s3", bucket.Config{URL: "s3://b/p?region=eu-west-1", AccessKey: "a", SecretKey: "b"}, ""},
		{"s3 with an unknown parameter", bucket.Config{URL: "s3://b?colour=red", AccessKey: "a", SecretKey: "b"}, "colour"},
		{"s3 path style", bucket.Config{URL: "s3://b?use_path_style=perhaps"}, "use_path_style"},
		{"google without credentials", bucket.Config{URL: "gs://b/p?anonymous=true"}, ""},
		{"google with nonsense for credentials", bucket.Config{URL: "gs://b", SecretKey: "x"}, "service account"},
		{"google with an unknown parameter", bucket.Config{URL: "gs://b?colour=red"}, "colour"},
		{"azure", bucket.Config{URL: "azblob://c/p?storage_account=acc", SecretKey: key}, ""},
		{"azure by identity", bucket.Config{URL: "azblob://c?storage_account=acc"}, ""},
		{"azure without account", bucket.Config{URL: "azblob://c", SecretKey: key}, "AZURE_STORAGE_ACCOUNT"},
		{"azure with a key that is none", bucket.Config{URL: "azblob://c?storage_account=acc", SecretKey: "%%%"}, "key of the storage account"},
		{"azure with an unknown parameter", bucket.Config{URL: "azblob://c?colour=red"}, "colour"},
		{"folder with a host", bucket.Config{URL: "file://data/archive"}, "three slashes"},
		{"another scheme", bucket.Config{URL: "ftp://b?password=secret"}, `scheme "ftp", want s3, gs, azblob or file`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := bucket.Open(t.Context(), c.cfg)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("got %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want an error with %q", err, c.want)
			case err != nil && strings.Contains(err.Error(), "password=secret"):
				t.Errorf("the error tells what the URL holds: %v", err)
			}
			if err == nil {
				if err := b.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
