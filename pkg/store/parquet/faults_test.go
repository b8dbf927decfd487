package parquet_test

import (
	"errors"
	"sync"

	"github.com/millrace/millrace/pkg/store/parquet"
)

var errDisk = errors.New("the disk refuses")

// faults is a disk that breaks: at its at-th step, or while told so. It is the operating system's else.
type faults struct {
	parquet.OS
	// at is the step, from 1, that goes wrong; 0 means none. half says that it happens all the same, or half of it for bytes.
	at   int
	half bool
	// dead means that nothing works from there on, as after a crash.
	dead bool

	mu      sync.Mutex
	steps   int
	refused bool
	held    chan struct{}
}

// step returns whether the step goes wrong, and whether it happens nevertheless.
func (f *faults) step() (err error, happens bool) {
	f.mu.Lock()
	held := f.held
	f.mu.Unlock()
	if held != nil {
		<-held
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.steps++
	switch {
	case f.refused, f.dead && f.at > 0 && f.steps > f.at:
		return errDisk, false
	case f.at > 0 && f.steps == f.at && f.dead:
		return errDisk, f.half
	}
	return nil, true
}

func (f *faults) refuse(is bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refused = is
}

func (f *faults) hold() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = make(chan struct{})
}

func (f *faults) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.held)
	f.held = nil
}

func (f *faults) do(what func() error) error {
	err, happens := f.step()
	if happens {
		err = errors.Join(err, what())
	}
	return err
}

func (f *faults) Create(path string) (parquet.File, error) {
	var file parquet.File
	err := f.do(func() (err error) { file, err = f.OS.Create(path); return err })
	if err != nil {
		if file != nil {
			_ = file.Close()
		}
		return nil, err
	}
	return &faultyFile{File: file, disk: f}, nil
}

func (f *faults) Rename(from, to string) error {
	return f.do(func() error { return f.OS.Rename(from, to) })
}

func (f *faults) Remove(path string) error { return f.do(func() error { return f.OS.Remove(path) }) }

func (f *faults) MkdirAll(dir string) error { return f.do(func() error { return f.OS.MkdirAll(dir) }) }

func (f *faults) SyncDir(dir string) error { return f.do(func() error { return f.OS.SyncDir(dir) }) }

type faultyFile struct {
	parquet.File
	disk *faults
}

func (f *faultyFile) Write(b []byte) (int, error) {
	err, happens := f.disk.step()
	switch {
	case err != nil && happens:
		n, _ := f.File.Write(b[:len(b)/2])
		return n, err
	case err != nil:
		return 0, err
	}
	return f.File.Write(b)
}

func (f *faultyFile) Sync() error { return f.disk.do(f.File.Sync) }

func (f *faultyFile) Close() error {
	return errors.Join(f.File.Close(), f.disk.do(func() error { return nil }))
}
