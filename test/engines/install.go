package engines

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/pkg/filelock"
)

// downloads are tried again after these pauses, since the machines of CI share their way to the registries.
func downloadPauses() []time.Duration {
	return []time.Duration{5 * time.Second, 20 * time.Second, 60 * time.Second}
}

// missingError says what the machine has not. An engine that lacks a tool is left out, aloud; nothing else is.
type missingError struct{ tool string }

func (e *missingError) Error() string { return "not to be had here: " + e.tool }

// A recipe makes the programs of an engine, once; they lie in the cache under NAME-VERSION.
type recipe struct {
	name, version string
	// from is whatever else the result depends on: changed, it is made again.
	from []string
	make func(ctx context.Context, s *site, dir string) error
}

// A cache keeps programs between sets, and is shared by all of them.
type cache struct {
	dir string
	log func(format string, args ...any)
}

// get returns the directory with what r makes.
func (c *cache) get(ctx context.Context, s *site, r recipe) (dir string, err error) {
	sum := sha256.Sum256([]byte(strings.Join(r.from, "\x00")))
	dir = filepath.Join(c.dir, r.name+"-"+r.version+"-"+hex.EncodeToString(sum[:4]))
	unlock, err := lock(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	c.log("%s: fetching %s %s", s.engine, r.name, r.version)
	for pauses := downloadPauses(); ; pauses = pauses[1:] {
		part := dir + ".part"
		if err := errors.Join(os.RemoveAll(part), os.MkdirAll(part, 0o755)); err != nil { //nolint:gosec // programs are no secret
			return "", err
		}
		err := r.make(ctx, s, part)
		if err == nil {
			return dir, os.Rename(part, dir)
		}
		if len(pauses) == 0 {
			return "", fmt.Errorf("install %s %s: %w", r.name, r.version, err)
		}
		c.log("%s: %v; trying again in %v", s.engine, err, pauses[0])
		if err := pause(ctx, pauses[0]); err != nil {
			return "", err
		}
	}
}

// lock takes the file's lock, which other processes take as well, and gives the function that lets it go.
func lock(ctx context.Context, path string) (unlock func() error, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // PostgreSQL runs as another user below it
		return nil, err
	}
	for {
		f, err := filelock.Try(path)
		if err == nil {
			return f.Close, nil
		}
		if !errors.Is(err, filelock.ErrHeld) {
			return nil, err
		}
		if cut := pause(ctx, pollEvery); cut != nil {
			return nil, errors.Join(err, cut)
		}
	}
}

// tools finds what the engine needs on the machine, and installs a Debian package where it may.
func (c *cache) tools(ctx context.Context, s *site, e engine) error {
	if here := runtime.GOOS + "/" + runtime.GOARCH; e.machine != "" && e.machine != here {
		return &missingError{"a machine of " + e.machine + ", this is " + here}
	}
	s.Tools = map[string]string{}
	for _, t := range e.needs {
		path, ok := t.find()
		if !ok && c.debian(ctx, s, t) {
			path, ok = t.find()
		}
		if !ok {
			return &missingError{t.command}
		}
		if t.major > 0 {
			if err := t.recent(ctx, path); err != nil {
				return err
			}
		}
		s.Tools[t.command] = path
	}
	return nil
}

// find looks into the directories first: on PATH a distribution may have a wrapper of the same name.
func (t tool) find() (path string, ok bool) {
	for _, pattern := range t.dirs {
		found, err := filepath.Glob(filepath.Join(pattern, t.command))
		if err == nil && len(found) > 0 {
			return slices.Max(found), true
		}
	}
	path, err := exec.LookPath(t.command)
	return path, err == nil
}

var javaVersion = regexp.MustCompile(`version "(\d+)`)

// recent refuses a Java that is too old. It says of itself: openjdk version "17.0.15" 2025-04-15.
func (t tool) recent(ctx context.Context, path string) error {
	out, err := run(ctx, command{path: path, args: []string{"-version"}})
	if err != nil {
		return err
	}
	if m := javaVersion.FindSubmatch(out); m != nil {
		if major, err := strconv.Atoi(string(m[1])); err == nil && major >= t.major {
			return nil
		}
	}
	return &missingError{fmt.Sprintf("%s %d or later, but %.60q", t.command, t.major, out)}
}

// debian installs the tool's package where that is possible.
func (c *cache) debian(ctx context.Context, s *site, t tool) bool {
	apt, err := exec.LookPath("apt-get")
	if t.debian == "" || err != nil || os.Getuid() != 0 {
		return false
	}
	unlock, err := lock(ctx, filepath.Join(c.dir, "apt.lock")) // apt does not wait for another of its kind
	if err != nil {
		return false
	}
	defer func() { _ = unlock() }()
	if _, ok := t.find(); ok {
		return true
	}
	c.log("%s: installing the package %s", s.engine, t.debian)
	// At run level 1 a package's own service is not started.
	env := []string{"DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"}
	_, err = run(ctx, command{path: apt, args: []string{"update", "-qq"}, env: env})
	if err == nil {
		_, err = run(ctx, command{path: apt, args: []string{"install", "-qq", "-y", "--no-install-recommends", t.debian}, env: env})
	}
	if err != nil {
		c.log("%s: %v", s.engine, err)
	}
	return err == nil
}

// run runs a command to its end, and gives what it wrote; an error holds that as well.
func run(ctx context.Context, c command) (out []byte, err error) {
	cmd := exec.CommandContext(ctx, c.path, c.args...) //nolint:gosec // what the engine's own file says
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.user.credential()}
	if out, err = cmd.CombinedOutput(); err != nil {
		return out, fmt.Errorf("%s %s: %w\n%s", c.path, strings.Join(c.args, " "), err, out)
	}
	return out, nil
}
