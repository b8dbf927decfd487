//go:build linux && (amd64 || arm64)

package powerloss

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Recorder watches one process. Safe for concurrent use.
type Recorder struct {
	dir      string
	process  *os.Process
	listener int
	handled  chan struct{} // closed when nobody asks any more

	mu    sync.Mutex
	files map[fileID]*journal
	err   error // the first question that could not be answered
}

// fileID names a file for good: inode numbers are used again.
type fileID struct {
	device, inode uint64
	born          unix.StatxTimestamp
}

// journal is what of a file is not on disk.
type journal struct {
	size  int64  // of the file that is on disk
	saved []span // bytes on disk that were written over, in the order in which they were
}

type span struct {
	at    int64
	bytes []byte
}

// Start runs a program whose writes to files below dir are watched; its output goes to output. argv[0] is the program's path.
func Start(argv, env []string, dir string, output *os.File) (*Recorder, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	child := forkWatched(argv, env, output)
	if child.err != nil {
		return nil, child.err
	}
	process, err := os.FindProcess(child.pid)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", argv[0], err)
	}
	r := &Recorder{dir: dir + string(filepath.Separator), process: process, listener: child.listener, handled: make(chan struct{}), files: map[fileID]*journal{}}
	go r.answer()
	return r, nil
}

// Process is what was started; the caller signals it, Wait waits for it.
func (r *Recorder) Process() *os.Process { return r.process }

// Wait returns when the program has ended.
func (r *Recorder) Wait() (*os.ProcessState, error) {
	state, err := r.process.Wait()
	<-r.handled
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		err = r.err
	}
	return state, err
}

// Lose takes away what was not synced, and says from which files. To be called after Wait.
func (r *Recorder) Lose() ([]Loss, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var losses []Loss
	err := filepath.WalkDir(r.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		id, size, err := identify(path)
		if err != nil {
			return err
		}
		j := r.files[id]
		if j == nil {
			return nil
		}
		lost, err := j.undo(path, size)
		if lost > 0 {
			losses = append(losses, Loss{Path: strings.TrimPrefix(path, r.dir), Bytes: lost})
		}
		return err
	})
	r.files = map[fileID]*journal{}
	if err != nil {
		return losses, fmt.Errorf("lose what was not synced: %w", err)
	}
	return losses, nil
}

// undo brings a file back to what is on disk.
func (j *journal) undo(path string, size int64) (lost int64, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	for _, s := range slices.Backward(j.saved) {
		s.bytes = s.bytes[:max(0, min(int64(len(s.bytes)), j.size-s.at))]
		if _, err := f.WriteAt(s.bytes, s.at); err != nil {
			return lost, err
		}
		lost += int64(len(s.bytes))
	}
	if size > j.size {
		lost += size - j.size
		err = f.Truncate(j.size)
	}
	return lost, err
}

// identify follows links.
func identify(path string) (id fileID, size int64, err error) {
	var x unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &x); err != nil {
		return fileID{}, 0, fmt.Errorf("look at %s: %w", path, err)
	}
	return fileID{unix.Mkdev(x.Dev_major, x.Dev_minor), x.Ino, x.Btime}, int64(x.Size), nil
}
