// Package powerloss runs a program as if its machine could lose power: it knows at any moment which bytes of a directory the program
// wrote and has not synced, and takes them away when told to.
//
// The kernel asks it before every write and every sync of the program (seccomp user notification, seccomp_unotify(2)). Before a write
// over bytes that are on disk it keeps these; a sync of a file forgets what was kept for it. After the program was killed, Lose puts
// back what was kept and cuts each file to its length at its last sync. So what remains is what a disk may hold after a power cut
// whose cache wrote nothing by itself: the worst that an operating system is allowed to do to a file's bytes.
//
// What it does not take away: names. A file that was created, renamed or removed stays so, as if each directory had been synced; nor
// a write through a memory map, which it does not see. A file that was opened with O_TRUNC is empty at once.
//
// It needs Linux on amd64 or arm64, and a kernel and a container that allow the notification; where they do not, Start returns
// ErrUnsupported.
package powerloss

import "errors"

// ErrUnsupported is returned by Start where the system cannot do this.
var ErrUnsupported = errors.New("this system does not let a process be asked about its writes")

// Loss is what Lose took away from a file.
type Loss struct {
	Path  string
	Bytes int64 // cut from its end, or overwritten and put back
}
