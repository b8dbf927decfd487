// Package cli is the millrace command: one file a subcommand. The subcommands that speak to a running instance do so over
// its HTTP interface alone, so they work from any machine.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// Env is what a command has of its process.
type Env struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	// Getenv reads a variable of the environment.
	Getenv func(string) string
	// Environ is the environment as "KEY=value".
	Environ []string
	// Terminal says that Stdout is a terminal, so a status line may move.
	Terminal bool
	Version  string
	// Signals are the process's SIGINT and SIGTERM, which run handles itself: two count.
	Signals <-chan os.Signal
}

// command is one subcommand.
type command struct {
	name    string
	args    string // what follows the flags, for the usage line
	summary string
	example string
	// setup declares the flags and returns what runs once they are parsed.
	setup func(flags *flag.FlagSet, env *Env) func(ctx context.Context, args []string) error
}

// ErrUsage is returned for a command line that cannot be understood; what is wrong was already printed.
var ErrUsage = errors.New("usage")

func commands() []command {
	return []command{
		runCommand(), checkCommand(), sqlCommand(), sendCommand(), tailCommand(), tokenCommand(), deadLettersCommand(), migrateCommand(), moveCommand(), replayCommand(), auditCommand(), versionCommand(),
	}
}

// Main runs the command that args name (without the program's name). It returns ErrUsage for a command line that it does
// not understand, nil after --help.
func Main(ctx context.Context, env *Env, args []string) error {
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		if len(args) > 1 {
			return Main(ctx, env, []string{args[1], "--help"})
		}
		usage(env.Stdout)
		return nil
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return c.run(ctx, env, args[1:])
		}
	}
	_, _ = fmt.Fprintf(env.Stderr, "millrace: unknown command %q\n\n", args[0])
	usage(env.Stderr)
	return ErrUsage
}

func usage(w io.Writer) {
	_, _ = fmt.Fprint(w, "Millrace turns what a fleet of devices says into tables, history, aggregates, alarms and live streams.\n\nUsage: millrace COMMAND [flags]\n\n")
	for _, c := range commands() {
		_, _ = fmt.Fprintf(w, "  %-12s %s\n", c.name, c.summary)
	}
	_, _ = fmt.Fprint(w, "\n`millrace COMMAND --help` shows a command's flags and an example.\n")
}

func (c command) run(ctx context.Context, env *Env, args []string) error {
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	run := c.setup(flags, env)
	rest, err := parse(flags, args)
	if errors.Is(err, flag.ErrHelp) {
		c.help(env.Stdout, flags)
		return nil
	}
	if err != nil {
		_, _ = fmt.Fprintf(env.Stderr, "millrace %s: %v\n`millrace %s --help` shows what there is.\n", c.name, err, c.name)
		return ErrUsage
	}
	return run(ctx, rest)
}

// parse reads flags wherever they stand, also behind arguments: people write `millrace sql "SELECT 1" --format csv`.
func parse(flags *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		args = flags.Args()
		if len(args) == 0 {
			return rest, nil
		}
		rest, args = append(rest, args[0]), args[1:]
	}
}

func (c command) help(w io.Writer, flags *flag.FlagSet) {
	_, _ = fmt.Fprintf(w, "millrace %s — %s\n\nUsage: millrace %s [flags] %s\n\n", c.name, c.summary, c.name, c.args)
	flags.VisitAll(func(f *flag.Flag) {
		kind, text := flag.UnquoteUsage(f)
		name := "--" + f.Name
		if kind != "" {
			name += " " + kind
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" {
			text += " (default " + f.DefValue + ")"
		}
		_, _ = fmt.Fprintf(w, "  %-22s %s\n", name, text)
	})
	_, _ = fmt.Fprintf(w, "\nExample:\n  %s\n", strings.ReplaceAll(c.example, "\n", "\n  "))
}

func versionCommand() command {
	return command{
		name: "version", summary: "print the version", example: "millrace version",
		setup: func(_ *flag.FlagSet, env *Env) func(context.Context, []string) error {
			return func(context.Context, []string) error {
				_, err := fmt.Fprintln(env.Stdout, "millrace "+env.Version)
				return err
			}
		},
	}
}
