package parquet

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// FS is what history does to the disk beyond reading it: the place where tests inject faults. Paths are absolute.
type FS interface {
	// Create makes an empty file, whose folder exists, or empties it.
	Create(path string) (File, error)
	// Rename replaces to with from in one step. It is durable after SyncDir of to's folder.
	Rename(from, to string) error
	// Remove deletes a file or an empty folder.
	Remove(path string) error
	// MkdirAll makes a folder and those above it, durably.
	MkdirAll(dir string) error
	// SyncDir makes the names in dir durable.
	SyncDir(dir string) error
}

// File is a file that is being written.
type File interface {
	io.Writer
	// Sync returns when everything written is on disk.
	Sync() error
	Close() error
}

// errUncertain is wrapped by the error of a writing that may have happened all the same.
var errUncertain = errors.New("it is not known which version is on disk")

// OS is the FS of the operating system.
type OS struct{}

// Create implements FS.
func (OS) Create(path string) (File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640) //nolint:gosec // the archive is read by others of the group
}

// Rename implements FS.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove implements FS.
func (OS) Remove(path string) error { return os.Remove(path) }

// MkdirAll implements FS.
func (o OS) MkdirAll(dir string) error {
	if st, err := os.Stat(dir); err == nil && st.IsDir() {
		return nil
	}
	up := filepath.Dir(dir)
	if up != dir {
		if err := o.MkdirAll(up); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o750); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return o.SyncDir(up) // the new name must survive what the files in it survive
}

// SyncDir implements FS.
func (OS) SyncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // a folder of the archive
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}

// writeFile puts what write gives into path in one step: all of it or nothing. It returns when the bytes are on disk; the
// name is durable after SyncDir. What went wrong half way leaves at most a .tmp file, which Open removes.
func writeFile(fs FS, path string, write func(io.Writer) error) (size int64, sum uint32, err error) {
	temp := path + tempSuffix
	f, err := fs.Create(temp)
	if err != nil {
		return 0, 0, fmt.Errorf("create: %w", err)
	}
	counted := &countingWriter{w: f, table: castagnoli()}
	err = write(counted)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		if err = fs.Rename(temp, path); err != nil {
			err = fmt.Errorf("%w: %w", errUncertain, err)
		}
	}
	if err != nil {
		_ = fs.Remove(temp) // what stays is removed by Open
		return 0, 0, fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return counted.n, counted.sum, nil
}

type countingWriter struct {
	w     io.Writer
	n     int64
	sum   uint32
	table *crc32.Table
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	c.sum = crc32.Update(c.sum, c.table, b[:n])
	return n, err
}
