// Package atomicfile writes small files in one step.
package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
)

// Write puts b into path, with mode 0600: whoever reads it, also after a crash or a power cut, finds the former content or this one, whole.
// When it returns nil the new one is on disk. It passes through path + ".tmp", so the callers of one path must take turns.
func Write(path string, b []byte) (err error) {
	f, err := os.OpenFile(filepath.Clean(path+".tmp"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
