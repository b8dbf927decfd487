package virtual

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// options are the variables SEED, the first one, and SEEDS, how many.
func options(t *testing.T) (from, seeds uint64) {
	t.Helper()
	from, seeds = number(t, "SEED", 1), number(t, "SEEDS", 300)
	if testing.Short() {
		seeds = min(seeds, 60)
	}
	return from, seeds
}

func number(t *testing.T, variable string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%s: %v", variable, text, err)
	}
	return n
}

func TestWhateverBreaksNothingIsLostAndNothingCountedTwice(t *testing.T) {
	from, seeds := options(t)
	faults, messages := 0, 0
	for seed := from; seed < from+seeds; seed++ {
		p := newPlan(seed)
		o := run(t, p)
		faults, messages = faults+len(o.fired)+len(p.events), messages+len(p.sends)
		if len(o.breaches) == 0 {
			continue
		}
		report(t, p, o)
		return
	}
	t.Logf("%d seeds from %d: %d messages, %d faults, nothing lost, nothing doubled, nothing unexpected", seeds, from, messages, faults)
}

// A router that dies between publishing and committing, and comes back with other routes, sends what it reads again elsewhere: a reader
// of both topics takes it twice, or, where the topic holds a later message already, not at all.
func TestAMessageWhoseRouteChangesAcrossACrashIsKeptOnce(t *testing.T) {
	from, seeds := options(t)
	for seed := from; seed < from+seeds; seed++ {
		p := newPlan(seed)
		p.reroutes(10 * time.Second)
		if o := run(t, p); len(o.breaches) > 0 {
			report(t, p, o)
			return
		}
	}
}

// report shrinks a breach and prints it.
func report(t *testing.T, p *plan, o outcome) {
	t.Helper()
	t.Errorf("seed %d: %d messages, %d faults:\n\t%s", p.seed, len(p.sends), len(o.fired)+len(p.events), strings.Join(o.breaches, "\n\t"))
	if os.Getenv("SHRINK") == "no" {
		return
	}
	small, found := shrink(t, p, o)
	t.Logf("shrunk to %d messages, %d partitions:\n\t%s", len(small.sends), small.partitions, strings.Join(found.breaches, "\n\t"))
	for _, f := range found.fired {
		t.Logf("fault: %v", f)
	}
	for _, e := range small.events {
		t.Logf("event: %v", e)
	}
	t.Logf("the calls of the smallest run:\n%s", strings.Join(found.trace, "\n"))
}
