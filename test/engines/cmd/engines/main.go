// Engines runs the engines that tests need, on loopback and without containers.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/test/engines"
	"github.com/millrace/millrace/test/engines/internal/chdb"
)

const usage = `usage: engines [--dir DIR] [--cache DIR] COMMAND

  up [NAME…]            start the engines named, or all, and write DIR/engines.json
  down [NAME…]          end them and remove what they kept
  status                what runs, and where
  env                   the line for a shell that tells tests of the engines
  with [--only A,B] COMMAND…
                        start what does not run, run COMMAND, and end all if none ran before
  kill NAME NODE        end a node at once (SIGKILL)
  start NAME NODE       start it again on its old ports and data
  pause NAME NODE       stop a node in its tracks (SIGSTOP)
  resume NAME NODE      let it go on

`

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	err := run(ctx, os.Args[1:])
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "engines:", err)
	if ended := (*endedError)(nil); errors.As(err, &ended) {
		os.Exit(max(ended.code, 1))
	}
	os.Exit(1)
}

// endedError is how the command of "with" ended.
type endedError struct{ code int }

func (e *endedError) Error() string { return fmt.Sprintf("the command ended with %d", e.code) }

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == chdb.Command { // the ClickHouse server is this program too
		return chdb.Main(ctx, args[1:], os.Stderr)
	}
	flags := flag.NewFlagSet("engines", flag.ContinueOnError)
	dir := flags.String("dir", "test/engines/.run", "where the engines keep their data")
	cache := flags.String("cache", os.Getenv("MILLRACE_ENGINES_CACHE"),
		"where downloads are kept ($MILLRACE_ENGINES_CACHE, else in the user's cache directory)")
	flags.Usage = func() {
		_, _ = fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
		_, _ = fmt.Fprintln(flags.Output(), "\nengines:", engines.Names())
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	set, err := open(*dir, *cache)
	if err != nil {
		return err
	}
	if flags.NArg() == 0 {
		flags.Usage()
		return errors.New("no command")
	}
	return do(ctx, set, flags.Arg(0), flags.Args()[1:])
}

func open(dir, cache string) (*engines.Set, error) {
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("find the cache directory: %w", err)
		}
		cache = filepath.Join(user, "millrace-engines")
	}
	set := &engines.Set{Log: os.Stderr, Now: time.Now}
	var err1, err2 error
	set.Dir, err1 = filepath.Abs(dir)
	set.Cache, err2 = filepath.Abs(cache)
	return set, errors.Join(err1, err2)
}

func do(ctx context.Context, set *engines.Set, verb string, args []string) error {
	switch verb {
	case "up":
		return set.Up(ctx, args)
	case "down":
		return set.Down(ctx, args)
	case "status":
		return set.Status(os.Stdout)
	case "env":
		fmt.Printf("export %s=%s\n", engines.Variable, set.Path())
		return nil
	case "with":
		return with(ctx, set, args)
	case "kill", "start", "pause", "resume":
		if len(args) != 2 {
			return fmt.Errorf("%s: want NAME NODE", verb)
		}
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return fmt.Errorf("%s %s: node %q, want a number", verb, args[0], args[1])
		}
		return set.Do(ctx, verb, args[0], n)
	}
	return fmt.Errorf("no command %q; engines --help lists them", verb)
}

// with runs a command beside the engines, and leaves things as they were.
func with(ctx context.Context, set *engines.Set, args []string) (err error) {
	var names []string
	if len(args) > 1 && args[0] == "--only" {
		names, args = strings.Split(args[1], ","), args[2:]
	}
	if len(args) == 0 {
		return errors.New("with: want a command")
	}
	before, err := set.Running()
	if err != nil {
		return err
	}
	if len(before) == 0 {
		// Not ctx: what was started is ended after an interrupt as well.
		defer func() { err = errors.Join(err, set.Down(context.WithoutCancel(ctx), nil)) }()
	}
	if err := set.Up(ctx, names); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // what the user asks for
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Env = append(os.Environ(), engines.Variable+"="+set.Path())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return &endedError{exit.ExitCode()}
	}
	return err
}
