// Package rig runs Millrace as real processes, breaks them in ways drawn from a seed while devices send, and reports what the stores hold
// in the end.
package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// startPatience is how long a process may take to serve after a start, whatever it finds of its predecessor.
const startPatience = 3 * time.Minute

// drainTimeout is what a process is given to end after SIGTERM, and a little less than what the run waits for it.
const drainTimeout = 50 * time.Second

// process is one program that is started again and again. One goroutine uses it.
type process struct {
	name string
	path string
	args []string
	log  string // file to which every incarnation appends what it says
	// up waits until it serves; called after each start.
	up func(ctx context.Context, p *process) error

	cmd    *exec.Cmd
	exited chan struct{}
	err    error // valid once exited is closed
	begun  int64 // of the log, where the present incarnation begins
	paused bool
	deaths int // that nobody asked for
}

// launch starts the program and waits until it serves.
func (p *process) launch(ctx context.Context) error {
	f, err := os.OpenFile(filepath.Clean(p.log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	defer func() { _ = f.Close() }() // the process has its own handle
	at, err := f.Seek(0, 2)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	cmd := exec.Command(p.path, p.args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(environment(), "MILLRACE_DRAIN_TIMEOUT="+drainTimeout.String()), f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt at the terminal is ours, not its
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	exited := make(chan struct{})
	p.cmd, p.exited, p.begun, p.paused = cmd, exited, at, false
	go func() {
		p.err = cmd.Wait()
		close(exited)
	}()
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	return p.up(ctx, p)
}

// environment is ours without what begins with MILLRACE_.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MILLRACE_") })
}

func (p *process) running() bool {
	if p.exited == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

func (p *process) signal(s syscall.Signal) {
	if p.running() {
		_ = p.cmd.Process.Signal(s)
	}
}

// kill ends it at once.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	p.signal(syscall.SIGKILL)
	<-p.exited
}

// terminate asks it to drain, and kills it when it has not within a minute: an error.
func (p *process) terminate() error {
	const patience = time.Minute
	p.signal(syscall.SIGTERM)
	select {
	case <-p.exited:
		if p.err != nil {
			return fmt.Errorf("%s drained, and ended with %w", p.name, p.err)
		}
		return nil
	case <-time.After(patience):
		p.kill()
		return fmt.Errorf("%s did not drain within %v", p.name, patience)
	}
}

func (p *process) pause()  { p.paused = true; p.signal(syscall.SIGSTOP) }
func (p *process) resume() { p.paused = false; p.signal(syscall.SIGCONT) }

// ensure starts it again where it has ended by itself.
func (p *process) ensure(ctx context.Context) error {
	for !p.running() {
		p.deaths++
		err := p.launch(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if p.deaths > 50 {
			return fmt.Errorf("%s does not start again: %w", p.name, err)
		}
		nap(ctx, time.Second)
	}
	return nil
}

// said returns what the present incarnation has logged.
func (p *process) said() string {
	f, err := os.Open(p.log)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.NewSectionReader(f, p.begun, math.MaxInt64-p.begun))
	if err != nil {
		return ""
	}
	return string(b)
}

// errEnded is a process that ended before it served.
var errEnded = errors.New("it ended")

// until asks check again and again until it returns nil, the process ends, or ctx does.
func (p *process) until(ctx context.Context, what string, check func() error) error {
	for {
		err := check()
		if err == nil {
			return nil
		}
		if !p.running() {
			said := p.said()
			return fmt.Errorf("%s: %s: %w: %s", p.name, what, errEnded, said[max(0, len(said)-600):])
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %s: %w: %w", p.name, what, ctx.Err(), err)
		}
		nap(ctx, 30*time.Millisecond)
	}
}

// nap waits for d or the end of ctx.
func nap(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// Build compiles the commands by name into dir, from the workspace that the working directory is in.
func Build(ctx context.Context, dir string, names ...string) error {
	out, err := exec.CommandContext(ctx, "go", "env", "GOWORK").Output()
	if err != nil {
		return fmt.Errorf("find the workspace: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(out)))
	args := []string{"build", "-o", dir + string(filepath.Separator)}
	for _, name := range names {
		service := name
		if name == "millrace" {
			service = "standalone"
		}
		args = append(args, "./services/"+service+"/cmd/"+name)
	}
	build := exec.CommandContext(ctx, "go", args...)
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", strings.Join(names, ", "), err, out)
	}
	return nil
}

// address is a value that one goroutine sets and others ask.
type address struct {
	mu sync.Mutex
	at string
}

func (a *address) set(at string) { a.mu.Lock(); defer a.mu.Unlock(); a.at = at }
func (a *address) get() string   { a.mu.Lock(); defer a.mu.Unlock(); return a.at }
