package virtual

import (
	"maps"
	"slices"
	"testing"
)

// tries is how often a run is repeated before it counts as whole: goroutines do not run in the same order each time.
const tries = 4

// shrink returns the smallest plan that it finds which shows a breach in one of the same tables: with fewer faults, then fewer
// events, then fewer messages.
func shrink(t *testing.T, p *plan, first outcome) (*plan, outcome) {
	t.Helper()
	small := *p
	small.only, small.trace = make(map[fired]bool), true
	for _, f := range first.fired {
		small.only[f] = true
	}
	found, again := breaks(t, &small, first)
	if !again {
		return p, first
	}
	faults := slices.Clone(first.fired)
	sortFired(faults)
	fewer(faults, func(left []fired) bool {
		candidate := small
		candidate.only = make(map[fired]bool)
		for _, f := range left {
			candidate.only[f] = true
		}
		return accept(t, &small, candidate, first, &found)
	})
	small.events = fewer(small.events, func(left []event) bool {
		candidate := small
		candidate.events = left
		return accept(t, &small, candidate, first, &found)
	})
	small.sends = fewer(small.sends, func(left []send) bool {
		candidate := small
		candidate.sends = left
		return accept(t, &small, candidate, first, &found)
	})
	for _, s := range services() {
		candidate := small
		candidate.replicas = maps.Clone(small.replicas)
		candidate.replicas[s] = 1
		if !needs(candidate.events, s+"/1") {
			accept(t, &small, candidate, first, &found)
		}
	}
	return &small, found
}

func needs(events []event, process string) bool {
	return slices.ContainsFunc(events, func(e event) bool { return e.process == process })
}

// accept makes candidate the smallest plan if it still breaks.
func accept(t *testing.T, small *plan, candidate plan, like outcome, found *outcome) bool {
	t.Helper()
	o, broken := breaks(t, &candidate, like)
	if broken {
		*small, *found = candidate, o
	}
	return broken
}

// breaks says whether a plan shows a breach in a table in which like shows one.
func breaks(t *testing.T, p *plan, like outcome) (outcome, bool) {
	t.Helper()
	tables := kinds(like.breaches)
	for range tries {
		o := run(t, p)
		if slices.ContainsFunc(kinds(o.breaches), func(k string) bool { return slices.Contains(tables, k) }) {
			return o, true
		}
	}
	return outcome{}, false
}

// fewer leaves out what it can: halves first, then ever smaller parts.
func fewer[E any](all []E, breaks func([]E) bool) []E {
	for part := (len(all) + 1) / 2; part > 0; part /= 2 {
		for from := 0; from < len(all); {
			left := slices.Delete(slices.Clone(all), from, min(from+part, len(all)))
			if breaks(left) {
				all = left
			} else {
				from += part
			}
		}
	}
	return all
}
