//go:build unix

package filelock_test

import (
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/pkg/filelock"
)

func TestALockIsOnesUntilItIsClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := filelock.Try(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := filelock.Try(path); !errors.Is(err, filelock.ErrHeld) || !strings.Contains(err.Error(), path) {
		t.Errorf("a second one: %v, want ErrHeld that names %s", err, path)
	}
	var letGo atomic.Bool
	waited := make(chan error)
	go func() {
		f, err := filelock.Take(path)
		if err == nil && !letGo.Load() {
			err = errors.New("took what another has")
		}
		waited <- errors.Join(err, f.Close())
	}()
	letGo.Store(true)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Error(err)
	}
}

func TestALockInNoFolderNamesIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none", "lock")
	if _, err := filelock.Try(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v, want one that names %s", err, path)
	}
}
