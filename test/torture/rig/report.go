package rig

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Commands returns the binaries that a set runs.
func Commands(set string) []string {
	switch set {
	case "embedded":
		return []string{"millrace"}
	case "split":
		return []string{"millrace", "ingest", "router", "live"}
	}
	return append([]string{"millrace"}, workers()...)
}

func workers() []string {
	return []string{"ingest", "router", "state-projector", "history-writer", "aggregator", "alerting", "log-consumer", "live"}
}

// Tell prints what a run came to, and every breach with what happened around it.
func Tell(out io.Writer, r *Report) {
	_, _ = fmt.Fprintf(out, "  %d acknowledged in %v, drained in %v, %d faults (%s), %d processes ended by themselves, %d answers never came\n",
		r.Acknowledged, r.Sending.Round(time.Millisecond), r.Draining.Round(time.Millisecond), len(r.Faults), kinds(r.Faults), r.Deaths, r.Interrupted)
	if r.Note != "" {
		_, _ = fmt.Fprintf(out, "  left out: disks that fill up: %s\n", r.Note)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "  store\texpected\tfound\tlost\tdoubled\tunexpected\tunknown\tafter\t")
	for i, v := range r.Stores {
		_, _ = fmt.Fprintf(w, "  %s\t%d\t%d\t%d\t%d\t%d\t%d\t%v\t\n", v.Store, v.Expected, v.Found, v.Lost, v.Doubled, v.Unexpected, v.Unknown, r.Waits[i].Round(time.Millisecond))
	}
	_ = w.Flush() // who reads it sees what is missing
	_, _ = fmt.Fprintf(out, "  %s\n", r.Books)
	if r.Clean() {
		return
	}
	_, _ = fmt.Fprintf(out, "  BREACH, seed %d; everything is kept in %s\n", r.Seed, r.Dir)
	for _, b := range r.Breaches {
		_, _ = fmt.Fprintf(out, "    %s\n", b)
	}
	for _, v := range r.Stores {
		for _, s := range v.Stories {
			_, _ = fmt.Fprintf(out, "    %s\n", s)
		}
	}
}

func kinds(faults []Happened) string {
	counts := map[string]int{}
	for _, f := range faults {
		counts[f.Kind]++
	}
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", kind, counts[kind]))
	}
	return strings.Join(parts, ", ")
}

// Table prints one line a run.
func Table(out io.Writer, reports []Report) {
	_, _ = fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	_, _ = fmt.Fprintln(w, "| seed\t| set\t| acknowledged\t| faults\t| sent in\t| drained in\t| lost\t| doubled\t| unexpected\t| unknown\t| books\t|")
	_, _ = fmt.Fprintln(w, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
	for i := range reports {
		r := &reports[i]
		var lost, doubled, unexpected, unknown int
		for _, v := range r.Stores {
			lost, doubled, unexpected, unknown = lost+v.Lost, doubled+v.Doubled, unexpected+v.Unexpected, unknown+v.Unknown
		}
		books := "balance"
		if len(r.Breaches) > 0 || len(r.Stores) == 0 {
			books = "BREACH"
		}
		_, _ = fmt.Fprintf(w, "| %d\t| %s\t| %d\t| %d\t| %v\t| %v\t| %d\t| %d\t| %d\t| %d\t| %s\t|\n", r.Seed, r.Set, r.Acknowledged, len(r.Faults),
			r.Sending.Round(time.Second), r.Draining.Round(time.Second), lost, doubled, unexpected, unknown, books)
	}
	_ = w.Flush() // as above
}
