// Package filelock keeps processes of one machine out of each other's files.
package filelock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ErrHeld says that another process uses what the lock stands for.
var ErrHeld = errors.New("another process uses it")

// Try opens path, made with mode 0600 where there is none, and takes its lock, which lasts until the file is closed or the process is gone,
// however it went. Where another open file has the lock, of this process or another, the error is ErrHeld. The file stays when the lock goes:
// to remove it would let two take the lock, each of a file of its own. On a system without flock(2) nobody is kept out.
func Try(path string) (*os.File, error) { return take(path, false) }

// Take is like Try and waits for whoever has the lock.
func Take(path string) (*os.File, error) { return take(path, true) }

func take(path string, wait bool) (*os.File, error) {
	f, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, wait); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}
