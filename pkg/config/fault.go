package config

import (
	"cmp"
	"slices"
	"strings"
)

// Fault is one thing wrong with a configuration.
type Fault struct {
	// Where is "file:line", the name of a variable or of a flag, or empty when only a default is to blame.
	Where string
	// Line is the line in the file, from 1; 0 when the fault does not come from the file.
	Line int
	// Key is the full dotted key, such as router.routes[2].name; empty when the file as a whole is meant.
	Key string
	// Text says what stood there and what was wanted.
	Text string
}

// Error returns the fault on one line: "millrace.yml:12: ingest.mqtt.addr: is empty, want text".
func (f Fault) Error() string {
	parts := make([]string, 0, 3)
	for _, part := range []string{f.Where, f.Key, f.Text} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": ")
}

// Faults is the error that Load returns: every fault found, those of the file first and by line.
// Get at it with errors.As.
type Faults []Fault

// Error returns one fault a line.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the single faults, each a Fault, so that errors.As finds the first of them.
func (f Faults) Unwrap() []error {
	errs := make([]error, len(f))
	for i := range f {
		errs[i] = f[i]
	}
	return errs
}

// sorted puts the faults of the file in front, by line, drops doubles and leaves the rest in the order of their discovery.
func (f Faults) sorted() Faults {
	seen := make(map[Fault]bool, len(f))
	f = slices.DeleteFunc(f, func(one Fault) bool {
		double := seen[one]
		seen[one] = true
		return double
	})
	slices.SortStableFunc(f, func(a, b Fault) int {
		if (a.Line == 0) != (b.Line == 0) {
			return cmp.Compare(b.Line, a.Line)
		}
		return cmp.Compare(a.Line, b.Line)
	})
	return f
}
