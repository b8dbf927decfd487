//go:build unix

package worker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/millrace/millrace/pkg/filelock"
)

// pagesMax is how many processes may keep notes of one share at a time in one directory: one that was stopped, and wakes, has its page still.
const pagesMax = 8

// mapInHand maps the page of a file, which is made where there is none, or of one beside it where another process has that.
func mapInHand(file string) (*inHand, error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return nil, fmt.Errorf("note what is in hand: %w", err)
	}
	f, err := lockPage(file)
	if err != nil {
		return nil, fmt.Errorf("note what is in hand: %w", err)
	}
	page, err := mapFile(f)
	if err != nil {
		return nil, fmt.Errorf("note what is in hand: %w", errors.Join(err, f.Close()))
	}
	return &inHand{page: page, file: f.Name(), close: func() error { return errors.Join(syscall.Munmap(page), f.Close()) }}, nil
}

// lockPage opens the first page that no other process has. The lock ends with the process, whatever ends that.
func lockPage(file string) (*os.File, error) {
	name := file
	for n := range pagesMax {
		if n > 0 {
			name = file + "." + strconv.Itoa(n)
		}
		if f, err := filelock.Try(name); !errors.Is(err, filelock.ErrHeld) {
			return f, err
		}
	}
	return nil, fmt.Errorf("%s: %d processes have such a page", file, pagesMax)
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
