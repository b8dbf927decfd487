//go:build unix

package worker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// mapInHand maps a page, which is made where there is none.
func mapInHand(file string) (*inHand, error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return nil, fmt.Errorf("note what is in hand: %w", err)
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the directory is the operator's choice
	if err != nil {
		return nil, fmt.Errorf("note what is in hand: %w", err)
	}
	page, err := mapFile(f)
	if err = errors.Join(err, f.Close()); err != nil { // the mapping stays
		return nil, fmt.Errorf("note what is in hand: %s: %w", file, err)
	}
	return &inHand{page: page, file: file, close: func() error { return syscall.Munmap(page) }}, nil
}

func mapFile(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() != pageBytes {
		// Written and not only made long: a page that a full disk has no room for would end the process when it is touched.
		if err := f.Truncate(0); err != nil {
			return nil, err
		}
		if _, err := f.WriteAt(make([]byte, pageBytes), 0); err != nil {
			return nil, err
		}
	}
	return syscall.Mmap(int(f.Fd()), 0, pageBytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
}
