//go:build unix

package parquet

import (
	"fmt"
	"syscall"
)

// diskFree returns the bytes of the disk under dir that an ordinary user may still take, and all it has.
func diskFree(dir string) (free, total uint64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	size := uint64(st.Bsize)                                       //nolint:gosec // its type differs between systems; never negative
	return uint64(st.Bavail) * size, uint64(st.Blocks) * size, nil //nolint:unconvert // as above
}
