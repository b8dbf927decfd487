//go:build linux && (amd64 || arm64)

package powerloss

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forked is a program that was started, and where the questions about it come.
type forked struct {
	pid, listener int
	err           error
}

// forkWatched starts a program under a filter that asks us about its writes and syncs. The filter is that of the thread that forks, which
// ends afterwards: no other thread of ours has it.
func forkWatched(argv, env []string, output *os.File) forked {
	done := make(chan forked, 1)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with this function
		if unix.Gettid() == os.Getpid() {
			// The first thread of a process never ends. While this goroutine has it, the next one has another.
			done <- forkWatched(argv, env, output)
			runtime.UnlockOSThread()
			return
		}
		done <- forkFromThisThread(argv, env, output)
	}()
	return <-done
}

func forkFromThisThread(argv, env []string, output *os.File) forked {
	listener, err := filterThisThread()
	if err != nil {
		return forked{err: err}
	}
	out := output.Fd()
	pid, err := syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{Env: env, Files: []uintptr{os.Stdin.Fd(), out, out}})
	if err != nil {
		_ = unix.Close(listener)
		return forked{err: fmt.Errorf("start %s: %w", argv[0], err)}
	}
	return forked{pid: pid, listener: listener}
}

// watched are the calls that change a file's bytes or put them on disk.
func watched() []uint32 {
	return []uint32{
		unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_WRITEV, unix.SYS_PWRITEV, unix.SYS_PWRITEV2, unix.SYS_FALLOCATE,
		unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_SYNC, unix.SYS_SYNCFS,
	}
}

// Offsets in struct seccomp_data.
const (
	dataCall = 0
	dataArch = 4
)

// filterThisThread installs the filter and returns where its questions come.
func filterThisThread() (listener int, err error) {
	arch := uint32(unix.AUDIT_ARCH_X86_64)
	if runtime.GOARCH == "arm64" {
		arch = unix.AUDIT_ARCH_AARCH64
	}
	calls := watched()
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	equal := func(value uint32, yes, no int) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jt: uint8(yes), Jf: uint8(no)}
	}
	give := func(value uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: value} }
	program := []unix.SockFilter{load(dataArch), equal(arch, 0, len(calls)+1), load(dataCall)}
	for i, call := range calls {
		program = append(program, equal(call, len(calls)-i, 0))
	}
	program = append(program, give(unix.SECCOMP_RET_ALLOW), give(unix.SECCOMP_RET_USER_NOTIF))
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&fprog)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return 0, fmt.Errorf("%w: seccomp: %w", ErrUnsupported, errno)
	}
	return int(fd), nil
}

// notification and response are struct seccomp_notif and struct seccomp_notif_resp.
type notification struct {
	id        uint64
	pid       uint32
	flags     uint32
	call      int32
	arch      uint32
	at        uint64
	arguments [6]uint64
}

type response struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// The requests of seccomp_unotify(2): _IOWR('!', 0, 80 bytes) and _IOWR('!', 1, 24 bytes).
const (
	requestReceive = 0xc0502100
	requestSend    = 0xc0182101
	letContinue    = 1 // SECCOMP_USER_NOTIF_FLAG_CONTINUE
)

// answer lets every call go on once it was seen, until no process is left that could ask.
func (r *Recorder) answer() {
	defer close(r.handled)
	defer func() { _ = unix.Close(r.listener) }()
	for {
		poll := []unix.PollFd{{Fd: int32(r.listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); errors.Is(err, unix.EINTR) {
			continue
		} else if err != nil || poll[0].Revents&unix.POLLIN == 0 {
			r.fail(err)
			return
		}
		var n notification
		if err := request(r.listener, requestReceive, unsafe.Pointer(&n)); err != nil {
			continue // who asked was killed meanwhile
		}
		if err := r.see(asked{thread: n.pid, call: n.call, args: n.arguments}); err != nil {
			r.fail(err)
		}
		_ = request(r.listener, requestSend, unsafe.Pointer(&response{id: n.id, flags: letContinue})) // likewise
	}
}

func (r *Recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil && err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
		r.err = err
	}
}

func request(fd int, number uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), number, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// vectorLength sums up the lengths of a program's struct iovec array.
func vectorLength(pid int, address uintptr, count int) (int64, error) {
	const most = 1024 // IOV_MAX
	if count < 0 || count > most {
		return 0, nil // the call fails by itself
	}
	vectors := make([]unix.Iovec, count)
	if count == 0 {
		return 0, nil
	}
	size := count * int(unsafe.Sizeof(vectors[0]))
	local := []unix.Iovec{{Base: (*byte)(unsafe.Pointer(&vectors[0])), Len: uint64(size)}}
	remote := []unix.RemoteIovec{{Base: address, Len: size}}
	if _, err := unix.ProcessVMReadv(pid, local, remote, 0); err != nil {
		return 0, fmt.Errorf("read what a writev is given: %w", err)
	}
	total := int64(0)
	for _, v := range vectors {
		total += int64(v.Len)
	}
	return total, nil
}
