// Torture breaks Millrace while devices send, seed after seed, and says what the stores hold in the end. It exits with 1 when something
// was lost, doubled or unexpected.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/test/torture/rig"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	clean, err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		_, _ = fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(2)
	case !clean:
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (clean bool, err error) {
	flags := flag.NewFlagSet("torture", flag.ContinueOnError)
	var (
		o      = rig.Options{Out: out}
		seeds  = flags.Int("seeds", 1, "how many seeds, one after the other")
		faults = flags.String("kinds", "", "only faults of these kinds, separated by commas; empty means all")
		until  = flags.String("until", "", "time of day (15:04) after which no further seed begins")
	)
	seed := flags.Uint64("seed", 1, "the first seed")
	flags.StringVar(&o.Set, "set", "embedded", "embedded, split, nats or kafka; all but the first need engines (see docs/torture.md)")
	flags.IntVar(&o.Messages, "messages", 50_000, "messages of a run, at least")
	flags.IntVar(&o.Devices, "devices", 0, "devices that send them; 0 chooses")
	flags.IntVar(&o.Rate, "rate", 0, "messages a second; 0 gives each fault about two seconds of them")
	flags.IntVar(&o.Faults, "faults", 0, "faults of a run; 0 means one for each 40,000 messages, and 12 at least")
	flags.StringVar(&o.Dir, "dir", "", "where runs keep their files; empty means a temporary folder")
	flags.StringVar(&o.Bin, "bin", "", "folder of the binaries; empty builds them")
	flags.StringVar(&o.Control, "control", "", "switch a promise off, and see the breach: no-repeats (embedded only)")
	flags.BoolVar(&o.Keep, "keep", false, "keep the files of clean runs too")
	if err := flags.Parse(args); err != nil {
		return false, err
	}
	if *faults != "" {
		o.Kinds = strings.Split(*faults, ",")
	}
	if o.Dir == "" {
		if o.Dir, err = os.MkdirTemp("", "millrace-torture"); err != nil {
			return false, err
		}
		defer func() { _ = os.Remove(o.Dir) }() // it stays when a run left something in it
	} else if err := os.MkdirAll(o.Dir, 0o750); err != nil {
		return false, err
	}
	if o.Bin == "" {
		o.Bin = filepath.Join(o.Dir, "bin")
		if err := rig.Build(ctx, o.Bin, rig.Commands(o.Set)...); err != nil {
			return false, err
		}
		defer func() { _ = os.RemoveAll(o.Bin) }()
	}
	var reports []rig.Report
	clean = true
	for i := range *seeds {
		o.Seed = *seed + uint64(i)
		if *until != "" && time.Now().Format("15:04") >= *until {
			_, _ = fmt.Fprintf(out, "left out for want of time: seeds %d to %d\n", o.Seed, *seed+uint64(*seeds)-1)
			break
		}
		_, _ = fmt.Fprintf(out, "seed %d, %s, %d messages\n", o.Seed, o.Set, o.Messages)
		report, err := rig.Run(ctx, o)
		reports = append(reports, report)
		rig.Tell(out, &report)
		if err != nil {
			rig.Table(out, reports)
			return false, fmt.Errorf("seed %d (its files are in %s): %w", o.Seed, report.Dir, err)
		}
		clean = clean && report.Clean()
	}
	rig.Table(out, reports)
	return clean, nil
}
