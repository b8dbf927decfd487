//go:build linux && (amd64 || arm64)

package powerloss

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

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

// asked is one call of the program that waits for our answer.
type asked struct {
	thread uint32
	call   int32
	args   [6]uint64
}

// see takes note of a call that is about to happen.
func (r *Recorder) see(a asked) error {
	proc := "/proc/" + strconv.FormatUint(uint64(a.thread), 10)
	if a.call == unix.SYS_SYNC || a.call == unix.SYS_SYNCFS {
		r.forgetAll()
		return nil
	}
	fd := strconv.FormatInt(int64(int32(a.args[0])), 10)
	link := proc + "/fd/" + fd
	path, err := os.Readlink(link)
	if err != nil || !strings.HasPrefix(path, r.dir) {
		return nil //nolint:nilerr // a call on a descriptor that is closed fails by itself, and sockets are not ours
	}
	id, size, err := identify(link)
	if err != nil {
		return nil //nolint:nilerr // likewise
	}
	if a.call == unix.SYS_FSYNC || a.call == unix.SYS_FDATASYNC {
		r.forget(id)
		return nil
	}
	return r.seeWrite(proc, fd, id, size, a)
}

func (r *Recorder) seeWrite(proc, fd string, id fileID, size int64, a asked) error {
	position, flags, err := describe(proc + "/fdinfo/" + fd)
	if err != nil {
		return err
	}
	if flags&syscall.O_DSYNC != 0 {
		r.forget(id)
		return nil
	}
	at, length, err := extent(a, position, size, flags)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	j := r.files[id]
	if j == nil {
		j = &journal{size: size}
		r.files[id] = j
	}
	j.size = min(j.size, size) // it was cut since, which counts as on disk at once
	if at >= j.size {
		return nil
	}
	old := make([]byte, min(length, j.size-at))
	f, err := os.Open(proc + "/fd/" + fd)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.ReadAt(old, at); err != nil {
		return fmt.Errorf("keep what is written over: %w", err)
	}
	j.saved = append(j.saved, span{at, old})
	return nil
}

func (r *Recorder) forget(id fileID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.files, id)
}

func (r *Recorder) forgetAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.files)
}

// identify follows links.
func identify(path string) (id fileID, size int64, err error) {
	var x unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &x); err != nil {
		return fileID{}, 0, fmt.Errorf("look at %s: %w", path, err)
	}
	return fileID{unix.Mkdev(x.Dev_major, x.Dev_minor), x.Ino, x.Btime}, int64(x.Size), nil
}

// describe reads a descriptor's position and flags (proc_pid_fdinfo(5)).
func describe(fdinfo string) (position int64, flags int, err error) {
	text, err := os.ReadFile(fdinfo)
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch name {
		case "pos":
			position, err = strconv.ParseInt(value, 10, 64)
		case "flags":
			var n int64
			n, err = strconv.ParseInt(value, 8, 64)
			flags = int(n)
		}
		if err != nil {
			return 0, 0, fmt.Errorf("read %s: %w", fdinfo, err)
		}
	}
	return position, flags, nil
}

// extent returns which bytes a write is about to change.
func extent(a asked, position, size int64, flags int) (at, length int64, err error) {
	at, length = position, int64(a.args[2])
	switch a.call {
	case unix.SYS_PWRITE64:
		at = int64(a.args[3])
	case unix.SYS_WRITEV, unix.SYS_PWRITEV, unix.SYS_PWRITEV2:
		if length, err = vectorLength(int(a.thread), uintptr(a.args[1]), int(a.args[2])); err != nil {
			return 0, 0, err
		}
		if a.call != unix.SYS_WRITEV {
			at = int64(a.args[3])
		}
	case unix.SYS_FALLOCATE:
		return size, 0, nil // at most it makes the file longer
	}
	if flags&syscall.O_APPEND != 0 {
		at = size
	}
	return at, length, nil
}
