//go:build unix

package parquet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lockDir makes the folder this process's until unlock, or until the process is gone, however it went.
func lockDir(dir string) (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // a folder of the configuration
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another process has it open: lock %s: %w", f.Name(), err), f.Close())
	}
	return f.Close, nil
}

// diskFree returns the bytes of the disk under dir that an ordinary user may still take, and all it has.
func diskFree(dir string) (free, total uint64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	size := uint64(st.Bsize)                                       //nolint:gosec // its type differs between systems; never negative
	return uint64(st.Bavail) * size, uint64(st.Blocks) * size, nil //nolint:unconvert // as above
}
