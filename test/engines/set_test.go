package engines_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pkg/enginetest"
	"github.com/millrace/millrace/test/engines"
)

// program builds cmd/engines and gives a function that runs it on one directory of the test's own.
func program(t *testing.T) (dir string, run func(args ...string) (string, error)) {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "engines")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./cmd/engines")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	dir = filepath.Join(t.TempDir(), "set")
	run = func(args ...string) (string, error) {
		// Not the test's context, since a cleanup runs it too.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, bin, append([]string{"--dir", dir}, args...)...).CombinedOutput()
		return string(out), err
	}
	t.Cleanup(func() {
		if out, err := run("down"); err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
	})
	return dir, run
}

// host is where a setting's URL points to; the first of several.
func host(t *testing.T, text string) string {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

func listens(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// pids are the processes that run in the set, by what the kernel says of their command lines; one that has ended has none.
func pids(t *testing.T, dir string) (found []int) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range lines {
		text, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(text), dir) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && pid != os.Getpid() {
			found = append(found, pid)
		}
	}
	return found
}

func TestANodeIsKilledStartedPausedAndResumedAndDownLeavesNothing(t *testing.T) {
	if os.Getenv(enginetest.Variable) == "" {
		t.Skipf("%s is not set: this starts engines of its own", enginetest.Variable)
	}
	dir, run := program(t)
	must := func(args ...string) string {
		t.Helper()
		out, err := run(args...)
		if err != nil {
			t.Fatalf("engines %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}
	must("up", "nats", "s3")
	file := filepath.Join(dir, "engines.json")
	f, err := enginetest.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Engines) != 2 {
		t.Fatalf("engines.json has %v, want nats and s3", f.Engines)
	}
	nats, s3 := host(t, f.Engines["nats"]["url"]), host(t, f.Engines["s3"]["endpoint"])
	if !listens(nats) || !listens(s3) {
		t.Fatalf("nobody listens at %s or %s", nats, s3)
	}

	// The file's own control command does it, as for any test.
	t.Setenv(enginetest.Variable, file)
	t.Run("test", func(t *testing.T) {
		e := enginetest.Need(t, "nats")
		e.Kill(t, 1)
		if listens(nats) {
			t.Error("a killed node listens")
		}
		e.Start(t, 1)
		if !listens(nats) {
			t.Error("a node does not come back to its port")
		}
		e.Pause(t, 1)
		if out := must("status"); !strings.Contains(out, "paused") {
			t.Errorf("status of a paused node:\n%s", out)
		}
		e.Resume(t, 1)
		e.Kill(t, 1) // and the test's end starts it again
	})
	if !listens(nats) {
		t.Error("a node that a test killed is not started at its end")
	}

	before := pids(t, dir)
	must("up", "nats", "s3") // what runs is left alone
	if after := pids(t, dir); len(before) != 2 || len(after) != 2 {
		t.Errorf("%v run in the set, then %v; want two", before, after)
	}
	must("down")
	if left := pids(t, dir); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || (len(left) > 0 && filepath.Base(left[0]) != "lock") || len(left) > 1 {
		t.Errorf("%v, %v is left", left, err)
	}
}

func TestWithRunsACommandBesideTheEnginesAndTellsHowItEnded(t *testing.T) {
	if os.Getenv(enginetest.Variable) == "" {
		t.Skipf("%s is not set: this asks for engines", enginetest.Variable)
	}
	dir, run := program(t)
	out, err := run("with", "--only", "nats", "sh", "-c", "test -s \"$MILLRACE_ENGINES\" && echo seen && exit 7")
	exit := (*exec.ExitError)(nil)
	if !errors.As(err, &exit) || exit.ExitCode() != 7 || !strings.Contains(out, "seen") {
		t.Errorf("got %v\n%s", err, out)
	}
	if left := pids(t, dir); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}

func TestWhatCannotBeDoneIsRefusedByName(t *testing.T) {
	set := &engines.Set{Dir: filepath.Join(t.TempDir(), "set"), Cache: t.TempDir(), Log: t.Output(), Now: time.Now}
	for _, c := range []struct {
		verb, name string
		node       int
		want       string
	}{
		{"kill", "mysql", 1, `no engine "mysql", but kafka, nats`},
		{"kill", "nats", 1, "it has never been up in " + set.Dir},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := set.Do(t.Context(), c.verb, c.name, c.node)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if err := set.Up(t.Context(), []string{"mysql"}); err == nil || !strings.Contains(err.Error(), `no engine "mysql"`) {
		t.Errorf("up of an engine that there is not: %v", err)
	}
	if err := set.Down(t.Context(), nil); err != nil {
		t.Errorf("down where nothing is up: %v", err)
	}
}

func TestAnEngineWithoutItsToolIsLeftOutAloudAndRefusedWhenAskedFor(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	var log strings.Builder
	set := &engines.Set{Dir: filepath.Join(t.TempDir(), "set"), Cache: t.TempDir(), Log: &log, Now: time.Now}
	err := set.Up(t.Context(), []string{"nats"})
	if err == nil || !strings.Contains(err.Error(), "not to be had here: go") {
		t.Errorf("got %v", err)
	}
	f, err := enginetest.ReadFile(set.Path())
	if err != nil || len(f.Engines) != 0 {
		t.Errorf("got %+v, %v", f, err)
	}
	if _, err := os.Stat(filepath.Join(set.Dir, "nats", "1", "data")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was started all the same: %v", err)
	}
}
