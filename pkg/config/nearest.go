package config

import "strings"

// listedMax is how many known names an error spells out when none is near.
const listedMax = 12

// didYouMean ends the fault of an unknown name: the nearest known one, else all of them when they are few.
func didYouMean(name string, known []string) string {
	if near := nearest(name, known); near != "" {
		return ", did you mean " + near + "?"
	}
	if len(known) == 0 || len(known) > listedMax {
		return ""
	}
	return ", want " + oneOf(known)
}

// oneOf lists names: "a", "a or b", "one of a, b, c".
func oneOf(names []string) string {
	switch len(names) {
	case 1:
		return names[0]
	case 2:
		return names[0] + " or " + names[1]
	default:
		return "one of " + strings.Join(names, ", ")
	}
}

// nearest returns the known name that was most likely meant: the one with the fewest edits, at most one for each
// three letters, else one that contains the name or is contained in it. Empty when there is none.
func nearest(name string, known []string) string {
	name = plain(name)
	best, bestEdits := "", len(name)/3+1
	for _, candidate := range known {
		if edits := distance(name, plain(candidate)); edits < bestEdits {
			best, bestEdits = candidate, edits
		}
	}
	if best != "" {
		return best
	}
	for _, candidate := range known {
		c := plain(candidate)
		if min(len(c), len(name)) >= 4 && (strings.Contains(c, name) || strings.Contains(name, c)) {
			return candidate
		}
	}
	return ""
}

func plain(name string) string {
	const longest = 128 // a name is bounded before it costs a quadratic comparison
	return strings.ReplaceAll(strings.ToLower(name[:min(len(name), longest)]), "-", "_")
}

// distance counts insertions, deletions, replacements and swaps of neighbours (optimal string alignment) by bytes.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
