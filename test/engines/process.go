package engines

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// healthyWithin is how long a node may take to serve: on a machine that does much else Java has taken three minutes,
	// and ClickHouse's library, half a gigabyte, may have to come from a cold disk.
	healthyWithin = 6 * time.Minute
	// stopWithin is how long a node may take to end when asked; then it is killed.
	stopWithin = 20 * time.Second
	// launchesMax is how often a node that ends before it serves is launched.
	launchesMax = 3
	// pollEvery is how often a node is asked.
	pollEvery = 100 * time.Millisecond
	// attemptWithin bounds one question to a node that hangs.
	attemptWithin = 10 * time.Second
)

// A command is how a node is started.
type command struct {
	path string
	args []string
	env  []string // beside the program's own
	user *account // whom it runs as; nil for the one who runs this program
}

// A process is what is known of a running node. Ticks, the time since boot at which it started, tells it from another
// process that was given the same id later.
type process struct {
	PID   int    `json:"pid"`
	Ticks string `json:"ticks"`
}

func (s *site) process(n int) (p process, err error) {
	text, err := os.ReadFile(filepath.Join(s.node(n), "pid.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return process{}, nil
	}
	if err != nil {
		return process{}, err
	}
	err = json.Unmarshal(text, &p)
	return p, err
}

// A procStat is what the kernel says of a process.
type procStat struct {
	state  byte // 'R', 'S', 'T' when stopped, 'Z' when it has ended and nobody has asked how
	parent int
	ticks  string
}

func stat(pid int) (procStat, bool) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return procStat{}, false
	}
	end := bytes.LastIndexByte(text, ')') // the name may hold anything
	if end < 0 {
		return procStat{}, false
	}
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) < 20 {
		return procStat{}, false
	}
	parent, err := strconv.Atoi(fields[1])
	return procStat{state: fields[0][0], parent: parent, ticks: fields[19]}, err == nil
}

func (p process) stat() (procStat, bool) {
	if p.PID <= 1 {
		return procStat{}, false
	}
	st, ok := stat(p.PID)
	return st, ok && st.ticks == p.Ticks && st.state != 'Z'
}

func (p process) alive() bool {
	_, ok := p.stat()
	return ok
}

// family is p and all that descends from it, the eldest first.
func (p process) family() []int {
	children := map[int][]int{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return []int{p.PID}
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if st, ok := stat(pid); ok {
				children[st.parent] = append(children[st.parent], pid)
			}
		}
	}
	family := []int{p.PID}
	for i := 0; i < len(family); i++ {
		family = append(family, children[family[i]]...)
	}
	return family
}

// signal sends sig to p and its descendants: PostgreSQL's processes end with their parent only when they notice.
func (p process) signal(sig syscall.Signal) error {
	for i, pid := range p.family() {
		if err := syscall.Kill(pid, sig); err != nil && (i == 0 || !errors.Is(err, syscall.ESRCH)) {
			return fmt.Errorf("signal %d to process %d: %w", sig, pid, err)
		}
	}
	return nil
}

// launch starts node n, unless it runs. It does not wait until the node serves.
func (s *site) launch(ctx context.Context, e engine, n int) error {
	p, err := s.process(n)
	if err != nil {
		return err
	}
	if st, ok := p.stat(); ok {
		if st.state == 'T' {
			return p.signal(syscall.SIGCONT)
		}
		return nil
	}
	c, err := e.command(s, n)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(s.logFile(n), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	// Its own session: neither the end of this program nor an interrupt from the keyboard reaches it.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), c.path, c.args...) //nolint:gosec // what the engine's own file says
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: c.user.credential()}
	err = cmd.Start()
	if err = errors.Join(err, log.Close()); err != nil {
		return fmt.Errorf("start node %d: %w", n, err)
	}
	go func() { _ = cmd.Wait() }() // so that it is quite gone when it ends before this program; how it ended is in its log
	p = process{PID: cmd.Process.Pid}
	if st, ok := stat(p.PID); ok {
		p.Ticks = st.ticks
	}
	return writeJSON(filepath.Join(s.node(n), "pid.json"), p)
}

// await returns when node n serves; an error tells the end of its log.
func (s *site) await(ctx context.Context, e engine, n int) error {
	ctx, cancel := context.WithTimeout(ctx, healthyWithin)
	defer cancel()
	p, err := s.process(n)
	if err != nil {
		return err
	}
	for launches := 1; ; {
		attempt, done := context.WithTimeout(ctx, attemptWithin)
		err := e.healthy(attempt, s, n)
		done()
		switch {
		case err == nil:
			return nil
		case !p.alive() && launches < launchesMax: // its port may have been somebody's for a moment
			launches++
			if err := s.launch(ctx, e, n); err != nil {
				return err
			}
			if p, err = s.process(n); err != nil {
				return err
			}
		case !p.alive():
			return fmt.Errorf("node %d has ended; the end of %s:\n%s", n, s.logFile(n), tail(s.logFile(n)))
		}
		if pause(ctx, pollEvery) != nil {
			return fmt.Errorf("node %d does not serve: %w; the end of %s:\n%s", n, err, s.logFile(n), tail(s.logFile(n)))
		}
	}
}

// kill ends node n at once, and returns when it is gone.
func (s *site) kill(ctx context.Context, n int) error {
	p, err := s.process(n)
	if err != nil || !p.alive() {
		return err
	}
	family := p.family()
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	return gone(ctx, family, stopWithin)
}

// stop asks node n to end, kills it when it does not, and returns when it is gone.
func (s *site) stop(ctx context.Context, e engine, n int) error {
	p, err := s.process(n)
	if err != nil || !p.alive() {
		return err
	}
	sig := e.stop
	if sig == 0 {
		sig = syscall.SIGTERM
	}
	family := p.family()
	if err := syscall.Kill(p.PID, sig); err != nil {
		return fmt.Errorf("stop node %d: %w", n, err)
	}
	if err := syscall.Kill(p.PID, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop node %d: %w", n, err) // a paused one would not hear
	}
	if gone(ctx, family, stopWithin) == nil {
		return nil
	}
	return s.kill(ctx, n)
}

// gone waits until none of the processes is left.
func gone(ctx context.Context, pids []int, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for _, pid := range pids {
		for {
			st, ok := stat(pid)
			if !ok || st.state == 'Z' {
				break
			}
			if err := pause(ctx, pollEvery/4); err != nil {
				return fmt.Errorf("process %d does not end: %w", pid, err)
			}
		}
	}
	return nil
}

// pause waits for d, or returns ctx's error when it ends before.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// tail is the end of a log.
func tail(path string) string {
	const bytesMax = 3000
	text, err := os.ReadFile(path) //nolint:gosec // a log of ours
	if err != nil {
		return err.Error()
	}
	if len(text) > bytesMax {
		text = text[len(text)-bytesMax:]
	}
	return string(text)
}
