package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/store/archive"
)

// folder is a bucket on a disk or a share. Objects are files; those on their way lie in _millrace/tmp. It needs hard links, which
// say for sure that a name was not taken, between processes and over NFS too.
type folder struct{ dir, temp string }

func openFolder(u *url.URL) (*folder, error) {
	if u.Host != "" && u.Host != "localhost" {
		return nil, fmt.Errorf("host %q, want file:///FOLDER with three slashes", u.Host)
	}
	if err := unknown(u.Query()); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.FromSlash(u.Path))
	if err != nil {
		return nil, err
	}
	f := &folder{dir: dir, temp: filepath.Join(dir, "_millrace", "tmp")}
	if err := makeDir(f.temp); err != nil {
		return nil, err
	}
	return f, nil
}

// makeDir makes a folder and those above it, durably.
func makeDir(dir string) error {
	if st, err := os.Stat(dir); err == nil && st.IsDir() { //nolint:gosec // the configuration says where
		return nil
	}
	up := filepath.Dir(dir)
	if up != dir {
		if err := makeDir(up); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) { //nolint:gosec // as above
		return err
	}
	return syncDir(up)
}

func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // a folder of the archive
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (f *folder) path(key string) (string, error) {
	if !filepath.IsLocal(filepath.FromSlash(key)) {
		return "", fmt.Errorf("key %q leaves the folder", key)
	}
	return filepath.Join(f.dir, filepath.FromSlash(key)), nil
}

// Write implements archive.Bucket.
func (f *folder) Write(ctx context.Context, key string, exclusive bool, fill func(io.Writer) error) error {
	path, err := f.path(key)
	if err != nil {
		return err
	}
	temp, err := f.writeTemp(fill)
	if err != nil {
		return err
	}
	defer os.Remove(temp) //nolint:errcheck // what stays is removed by AbortUploads
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	put := os.Rename
	if exclusive {
		put = os.Link
	}
	if err := put(temp, path); err != nil {
		if exclusive && errors.Is(err, fs.ErrExist) {
			return archive.ErrExists
		}
		return err
	}
	return syncDir(filepath.Dir(path))
}

// writeTemp puts what fill writes on disk, under a name of its own.
func (f *folder) writeTemp(fill func(io.Writer) error) (path string, err error) {
	w, err := os.CreateTemp(f.temp, "")
	if err != nil {
		return "", err
	}
	err = errors.Join(w.Chmod(0o640), fill(w))
	if err == nil {
		err = w.Sync()
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return "", errors.Join(err, os.Remove(w.Name()))
	}
	return w.Name(), nil
}

// Copy implements archive.Bucket: a second name for the same bytes, since nobody ever changes them.
func (f *folder) Copy(_ context.Context, to, from string) error {
	target, err := f.path(to)
	if err != nil {
		return err
	}
	source, err := f.path(from)
	if err != nil {
		return err
	}
	if err := makeDir(filepath.Dir(target)); err != nil {
		return err
	}
	err = os.Link(source, target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return archive.ErrNotFound
	case err != nil && !errors.Is(err, fs.ErrExist): // a name is given once, so what is there is this
		return err
	}
	return syncDir(filepath.Dir(target))
}

// Remove implements archive.Bucket. Folders that become empty go too, but for the one of all.
func (f *folder) Remove(_ context.Context, key string) error {
	path, err := f.path(key)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if strings.HasPrefix(key, "dt=") {
		hour := filepath.Dir(path)
		if os.Remove(hour) == nil { // only where it is empty
			_ = os.Remove(filepath.Dir(hour))
		}
	}
	return nil
}

// List implements archive.Bucket.
func (f *folder) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return func(yield func(archive.Object, error) bool) {
		objects, err := f.list(ctx, prefix)
		if err != nil {
			yield(archive.Object{}, err)
			return
		}
		for _, o := range objects {
			if !yield(o, nil) {
				return
			}
		}
	}
}

func (f *folder) list(ctx context.Context, prefix string) (objects []archive.Object, err error) {
	err = filepath.WalkDir(f.dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // it has just been removed
			return nil
		}
		if err != nil || path == f.dir {
			return errors.Join(err, ctx.Err())
		}
		rel, err := filepath.Rel(f.dir, path)
		if err != nil {
			return err
		}
		key := filepath.ToSlash(rel)
		if e.IsDir() {
			if path == f.temp || !strings.HasPrefix(key+"/", prefix) && !strings.HasPrefix(prefix, key+"/") {
				return fs.SkipDir
			}
			return ctx.Err()
		}
		if !strings.HasPrefix(key, prefix) {
			return nil
		}
		st, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		objects = append(objects, archive.Object{Key: key, Bytes: st.Size(), Modified: st.ModTime()})
		return nil
	})
	slices.SortFunc(objects, func(a, b archive.Object) int { return strings.Compare(a.Key, b.Key) })
	return objects, err
}

// Read implements archive.Bucket.
func (f *folder) Read(_ context.Context, key string, offset, length int64) (body []byte, err error) {
	path, err := f.path(key)
	if err != nil {
		return nil, err
	}
	r, err := os.Open(path) //nolint:gosec // path has looked at it
	if errors.Is(err, fs.ErrNotExist) {
		return nil, archive.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if _, err := r.Seek(offset, io.SeekStart); err != nil {
		return nil, err
	}
	if length < 0 {
		return io.ReadAll(r)
	}
	return io.ReadAll(io.LimitReader(r, length))
}

// AbortUploads implements archive.Aborter, for whatever prefix.
func (f *folder) AbortUploads(_ context.Context, _ string, before time.Time) (ended int, err error) {
	entries, err := os.ReadDir(f.temp)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		st, err := e.Info()
		if err != nil || !st.ModTime().Before(before) {
			continue
		}
		if err := os.Remove(filepath.Join(f.temp, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return ended, err
		}
		ended++
	}
	return ended, nil
}

// Close implements Bucket.
func (f *folder) Close() error { return nil }
