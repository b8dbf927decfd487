//go:build linux && (amd64 || arm64)

package powerloss

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

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
