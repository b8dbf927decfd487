package parquet

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"iter"
	"os"
	"syscall"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/parquetfile"
)

// damagedError says that a file's bytes are not what was written.
type damagedError struct {
	path string
	err  error
}

func (e *damagedError) Error() string { return fmt.Sprintf("%s is damaged: %v", e.path, e.err) }
func (e *damagedError) Unwrap() error { return e.err }

// damaged makes a damagedError of whatever went wrong while path was read, unless the operating system refused the reading.
func damaged(path string, err error) error {
	if refused := (*fs.PathError)(nil); errors.As(err, &refused) && !ofTheFile(refused) {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return &damagedError{path, err}
}

// ofTheFile reports whether a refusal is about that one file, and will be the same tomorrow: it is not there, it is no file, or the disk cannot
// read it. Too many open files, or a lack of rights, are no damage.
func ofTheFile(refused *fs.PathError) bool {
	return errors.Is(refused, fs.ErrNotExist) || errors.Is(refused, syscall.EISDIR) || errors.Is(refused, syscall.ENOTDIR) || errors.Is(refused, syscall.EIO)
}

// ReadFile yields the rows of a file of an archive in their order. Columns that the file lacks are empty, those that are not
// known are passed over. An error ends it.
func ReadFile(path string) iter.Seq2[store.MessageRow, error] {
	return func(yield func(store.MessageRow, error) bool) {
		f, size, err := openFile(path)
		if err != nil {
			yield(store.MessageRow{}, err)
			return
		}
		defer f.Close() //nolint:errcheck // it was only read
		for row, err := range parquetfile.Rows(f, size) {
			if err != nil {
				err = damaged(path, err)
			}
			if !yield(row, err) {
				return
			}
		}
	}
}

func openFile(path string) (f *os.File, size int64, err error) {
	f, err = os.Open(path) //nolint:gosec // a file of the archive
	if err != nil {
		return nil, 0, damaged(path, err)
	}
	st, err := f.Stat()
	if err != nil {
		_ = f.Close() // it was only read
		return nil, 0, fmt.Errorf("read %s: %w", path, err)
	}
	return f, st.Size(), nil
}

// fileReader reads one file of the archive.
type fileReader struct {
	path string
	file *os.File
	rows *parquetfile.Reader
}

func openReader(path string) (*fileReader, error) {
	f, size, err := openFile(path)
	if err != nil {
		return nil, err
	}
	rows, err := parquetfile.OpenReader(f, size)
	if err != nil {
		_ = f.Close() // it was only read
		return nil, damaged(path, err)
	}
	return &fileReader{path: path, file: f, rows: rows}, nil
}

// read is parquetfile.Reader's Read; io.EOF comes alone.
func (r *fileReader) read(rows []parquetfile.Row) (int, error) {
	n, err := r.rows.Read(rows)
	if err != nil && !errors.Is(err, io.EOF) {
		err = damaged(r.path, err)
	}
	return n, err
}

func (r *fileReader) close() {
	r.rows.Close()
	_ = r.file.Close() // it was only read
}

// checkSum reads the whole file and compares it with what the manifest says of it.
func checkSum(path string, info *FileInfo) error {
	f, err := os.Open(path) //nolint:gosec // a file of the archive
	if err != nil {
		return damaged(path, err)
	}
	sum := crc32.New(castagnoli())
	size, err := io.Copy(sum, f)
	_ = f.Close() // it was only read
	if err != nil {
		return damaged(path, err)
	}
	if size != info.Bytes || sum.Sum32() != info.CRC {
		return damaged(path, fmt.Errorf("%d bytes of CRC-32C %08x, want %d of %08x", size, sum.Sum32(), info.Bytes, info.CRC))
	}
	return nil
}
