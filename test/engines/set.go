package engines

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Variable is the environment variable that tells tests where the engines are.
const Variable = "MILLRACE_ENGINES"

// A Set is a directory with engines in it, running or not. Its methods may be called by several processes at once.
type Set struct {
	Dir   string // made if need be; everything in it is the set's own
	Cache string // where downloads are kept, for all sets
	Log   io.Writer
	Now   func() time.Time
}

// File is the set's engines.json, which package enginetest reads.
type File struct {
	Control []string                     `json:"control"`
	Engines map[string]map[string]string `json:"engines"`
	Missing map[string]string            `json:"missing,omitempty"`
}

// Path is the file that tells where the engines are.
func (s *Set) Path() string { return filepath.Join(s.Dir, "engines.json") }

func (s *Set) tell(format string, args ...any) {
	_, _ = fmt.Fprintf(s.Log, format+"\n", args...) // nobody may be listening
}

// site opens the place of an engine; known is false when it has never been up.
func (s *Set) site(name string) (place *site, known bool, err error) {
	place = &site{
		engine: name, dir: filepath.Join(s.Dir, name), tls: &authority{filepath.Join(s.Dir, "tls")},
		self: filepath.Join(s.Dir, "bin", "engines"), now: s.Now,
	}
	known, err = place.load()
	return place, known, err
}

// Up starts the engines named, or all, side by side, and returns when they serve; those that run are left alone. Then it
// writes engines.json with all of the set that are up. An engine for which the machine lacks a tool is told and left out,
// unless it was asked for by name; any other fault is an error, and what did come up stays.
func (s *Set) Up(ctx context.Context, names []string) (err error) {
	asked := len(names) > 0
	if !asked {
		names = Names()
	}
	unlock, err := lock(ctx, filepath.Join(s.Dir, "lock"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := s.keepProgram(); err != nil {
		return err
	}
	if err := (&authority{filepath.Join(s.Dir, "tls")}).ensure(s.Now()); err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	errs := make([]error, len(names))
	var group sync.WaitGroup
	for i, name := range names {
		group.Go(func() { errs[i] = s.up(ctx, name) })
	}
	group.Wait()
	missing := map[string]string{}
	for i, err := range errs {
		if lacks := (*missingError)(nil); errors.As(err, &lacks) && !asked {
			missing[names[i]] = lacks.Error()
			s.tell("%s: LEFT OUT, %v; its tests are skipped", names[i], lacks)
			errs[i] = nil
		}
	}
	return errors.Join(append(errs, s.write(missing))...)
}

func (s *Set) up(ctx context.Context, name string) error {
	began := s.Now()
	e, err := find(name)
	if err != nil {
		return err
	}
	place, _, err := s.site(name)
	if err != nil {
		return err
	}
	kept := &cache{dir: s.Cache, log: s.tell}
	if err := kept.tools(ctx, place, e); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if e.programs != nil {
		if place.Programs, err = kept.get(ctx, place, e.programs()); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := errors.Join(place.choosePorts(e), place.save()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for n := range e.nodes {
		if err := os.MkdirAll(place.node(n+1), 0o755); err != nil { //nolint:gosec // PostgreSQL runs as another user below it
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := e.configure(ctx, place); err != nil {
		return fmt.Errorf("%s: configure: %w", name, err)
	}
	if err := s.eachNode(e, func(n int) error { return place.launch(ctx, e, n) }); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := s.eachNode(e, func(n int) error { return place.await(ctx, e, n) }); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if e.settle != nil {
		if err := e.settle(ctx, place); err != nil {
			return fmt.Errorf("%s: settle: %w", name, err)
		}
	}
	place.Settled = true
	if err := place.save(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s.tell("%s: up after %.1f s", name, s.Now().Sub(began).Seconds())
	return nil
}

// eachNode calls do for all nodes at once.
func (s *Set) eachNode(e engine, do func(n int) error) error {
	errs := make([]error, e.nodes)
	var group sync.WaitGroup
	for n := range e.nodes {
		group.Go(func() { errs[n] = do(n + 1) })
	}
	group.Wait()
	return errors.Join(errs...)
}

// keepProgram copies this program into the set: it goes on to be the control command when the original is built anew.
func (s *Set) keepProgram() (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	kept := filepath.Join(s.Dir, "bin", "engines")
	if self == kept {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(kept), 0o755); err != nil { //nolint:gosec // a program, for anyone
		return err
	}
	f, err := os.Open(self) //nolint:gosec // this very program
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := copyTo(kept+".part", f); err != nil { // and not over it, since a ClickHouse may be running from it
		return err
	}
	return os.Rename(kept+".part", kept)
}

// write makes engines.json of what is up.
func (s *Set) write(missing map[string]string) error {
	file := File{
		Control: []string{filepath.Join(s.Dir, "bin", "engines"), "--dir", s.Dir, "--cache", s.Cache},
		Engines: map[string]map[string]string{}, Missing: missing,
	}
	for _, e := range all() {
		place, known, err := s.site(e.name)
		if err != nil {
			return err
		}
		if !known || !place.Settled || !place.running(e) {
			continue
		}
		settings, err := e.settings(place)
		if err != nil {
			return fmt.Errorf("%s: settings: %w", e.name, err)
		}
		settings["nodes"] = fmt.Sprint(e.nodes)
		file.Engines[e.name] = settings
	}
	return writeJSON(s.Path(), file)
}

// running says whether any of an engine's nodes is alive: a test may have killed another for a while.
func (s *site) running(e engine) bool {
	for n := range e.nodes {
		if p, err := s.process(n + 1); err == nil && p.alive() {
			return true
		}
	}
	return false
}

// Running lists the engines of which a node is alive.
func (s *Set) Running() (names []string, err error) {
	for _, e := range all() {
		place, known, err := s.site(e.name)
		if err != nil {
			return nil, err
		}
		if known && place.running(e) {
			names = append(names, e.name)
		}
	}
	return names, nil
}

// Down ends the engines named, or all, and removes what they kept; with all, the directory goes as well.
func (s *Set) Down(ctx context.Context, names []string) (err error) {
	whole := len(names) == 0
	if whole {
		names = Names()
	}
	if _, err := os.Stat(s.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	unlock, err := lock(ctx, filepath.Join(s.Dir, "lock"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	errs := make([]error, len(names))
	var group sync.WaitGroup
	for i, name := range names {
		group.Go(func() { errs[i] = s.down(ctx, name) })
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if !whole {
		return s.write(nil)
	}
	return errors.Join(
		os.RemoveAll(s.Path()), os.RemoveAll(filepath.Join(s.Dir, "tls")), os.RemoveAll(filepath.Join(s.Dir, "bin")),
	)
}

func (s *Set) down(ctx context.Context, name string) error {
	e, err := find(name)
	if err != nil {
		return err
	}
	place, known, err := s.site(name)
	if err != nil || !known {
		return err
	}
	if err := s.eachNode(e, func(n int) error { return place.stop(ctx, e, n) }); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if place.Data != "" {
		err = os.RemoveAll(filepath.Dir(place.Data))
	}
	return errors.Join(err, os.RemoveAll(place.dir))
}

// Do does verb ("kill", "start", "pause" or "resume") to one node. Start and resume return when the node serves.
func (s *Set) Do(ctx context.Context, verb, name string, n int) (err error) {
	e, err := find(name)
	if err != nil {
		return err
	}
	place, known, err := s.site(name)
	if err != nil {
		return err
	}
	if !known {
		return fmt.Errorf("%s %s: it has never been up in %s", verb, name, s.Dir)
	}
	if n < 1 || n > e.nodes {
		return fmt.Errorf("%s %s: no node %d; they are 1 to %d", verb, name, n, e.nodes)
	}
	unlock, err := lock(ctx, filepath.Join(place.node(n), "lock"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	switch verb {
	case "kill":
		err = place.kill(ctx, n)
	case "start":
		if err = place.launch(ctx, e, n); err == nil {
			err = place.await(ctx, e, n)
		}
	case "pause", "resume":
		err = place.hold(ctx, e, n, verb == "pause")
	default:
		err = fmt.Errorf("no command %q", verb)
	}
	if err != nil {
		return fmt.Errorf("%s %s %d: %w", verb, name, n, err)
	}
	return nil
}

func (s *site) hold(ctx context.Context, e engine, n int, stopped bool) error {
	p, err := s.process(n)
	if err != nil {
		return err
	}
	if !p.alive() {
		return errors.New("it does not run")
	}
	if stopped {
		return stand(ctx, p)
	}
	if err := p.signal(syscall.SIGCONT); err != nil {
		return err
	}
	return s.await(ctx, e, n)
}

// stand stops a process in its tracks, and returns once it stands: on a busy machine its threads go on for a moment.
func stand(ctx context.Context, p process) error {
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for {
		if st, ok := p.stat(); !ok || st.state == 'T' {
			return nil
		}
		if err := pause(ctx, stopPause); err != nil {
			return err
		}
	}
}

// stopPause lies between two looks at a process that is told to stop.
const stopPause = 5 * time.Millisecond

// Status tells of each engine's nodes.
func (s *Set) Status(w io.Writer) error {
	for _, e := range all() {
		place, known, err := s.site(e.name)
		if err != nil {
			return err
		}
		for n := range e.nodes {
			state := "never up"
			if known {
				if state, err = place.state(e, n+1); err != nil {
					return err
				}
			}
			if _, err := fmt.Fprintf(w, "%-21s %d  %s\n", e.name, n+1, state); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *site) state(e engine, n int) (string, error) {
	p, err := s.process(n)
	if err != nil {
		return "", err
	}
	st, ok := p.stat()
	if !ok {
		return "down", nil
	}
	state := "up    "
	if st.state == 'T' {
		state = "paused"
	}
	var ports []string
	for _, name := range e.ports {
		ports = append(ports, fmt.Sprintf("%s %s", name, s.addr(n, name)))
	}
	return fmt.Sprintf("%s  pid %d  %s", state, p.PID, strings.Join(ports, ", ")), nil
}
