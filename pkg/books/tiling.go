package books

import (
	"cmp"
	"slices"

	"github.com/millrace/millrace/pkg/bus"
)

// tile is what a router said of one run of a partition of ingested.
type tile struct {
	after, through bus.Position
	read           uint64 // all of its messages, also those outside of what is asked for
	lines          []line // of what is asked for
}

// gap is a run of which no account tells.
type gap struct{ after, through bus.Position }

// tiling chooses, from runs that overlap wherever a router crashed or one that was thought dead went on, some that follow each other
// without gap and overlap. Each is a true statement by itself, so any such choice counts every record once. It keeps the runs
// that may still turn out to lead nowhere, and hands on the others, so that its memory does not grow with the time that it covers.
type tiling struct {
	tiles []tile // not yet handed on
	held  int    // lines of tiles
	most  int    // lines beyond which tiles are handed on; 0 keeps all until the end
	begun bool   // something was handed on, and end is where it ended
	first bus.Position
	end   bus.Position
	gaps  []gap
	take  func(lines []line)
}

// tilesHeld is how many tiles are kept at least, before any is handed on. A router writes one every two seconds: who was thought dead
// for a quarter of an hour is still found out.
const tilesHeld = 512

func (t *tiling) add(one tile) {
	if one.through.Compare(one.after) <= 0 || t.begun && one.after.Compare(t.end) < 0 {
		return
	}
	t.tiles = append(t.tiles, one)
	t.held += len(one.lines)
	if t.most > 0 && t.held > t.most && len(t.tiles) >= tilesHeld {
		t.settle(len(t.tiles) / 2)
	}
}

// finish hands on all that is left. Where nothing was ever added, first and end are zero and begun is false.
func (t *tiling) finish() { t.settle(0) }

// settle hands on the chosen tiles but for the last keep of them.
func (t *tiling) settle(keep int) {
	chosen := t.choose()
	n := max(len(chosen)-keep, 0)
	for _, one := range chosen[:n] {
		if !t.begun {
			t.begun, t.first, t.end = true, one.after, one.after
		}
		if one.after.Compare(t.end) > 0 {
			t.gaps = append(t.gaps, gap{t.end, one.after})
		}
		t.take(one.lines)
		t.end = one.through
	}
	left := t.tiles[:0]
	t.held = 0
	for _, one := range t.tiles {
		if keep > 0 && (!t.begun || one.after.Compare(t.end) >= 0) {
			left = append(left, one)
			t.held += len(one.lines)
		}
	}
	clear(t.tiles[len(left):])
	t.tiles = left
}

// choose returns tiles that follow each other, in their order: of all such rows the one that reads the most and, where something was
// handed on already, begins there. What it leaves over at either side is chosen from likewise; what lies between is a gap.
func (t *tiling) choose() []tile {
	sorted := slices.Clone(t.tiles)
	slices.SortStableFunc(sorted, func(a, b tile) int {
		return cmp.Or(a.after.Compare(b.after), a.through.Compare(b.through))
	})
	if t.begun {
		if run := longest(sorted, func(one *tile) bool { return one.after == t.end }); run != nil {
			return append(run, fill(sorted, run[len(run)-1].through, nil)...)
		}
	}
	return fill(sorted, bus.Position{}, nil)
}

// fill chooses from what lies at or after from and, unless through is nil, through through.
func fill(sorted []tile, from bus.Position, through *bus.Position) []tile {
	var within []tile
	for _, one := range sorted {
		if one.after.Compare(from) >= 0 && (through == nil || one.through.Compare(*through) <= 0) {
			within = append(within, one)
		}
	}
	run := longest(within, func(*tile) bool { return true })
	if run == nil {
		return nil
	}
	before := fill(within, from, &run[0].after)
	behind := fill(within, run[len(run)-1].through, through)
	return slices.Concat(before, run, behind)
}

// longest returns, of tiles sorted by after, those that follow each other, begin as begins says, and read the most; the first of
// such rows where several do.
func longest(sorted []tile, begins func(*tile) bool) []tile {
	type way struct {
		read uint64
		tile int
	}
	ways := map[bus.Position]way{} // the best one from a position on
	best := way{tile: -1}
	for i := len(sorted) - 1; i >= 0; i-- {
		one := &sorted[i]
		w := way{one.read + ways[one.through].read, i}
		if was, known := ways[one.after]; !known || w.read > was.read {
			ways[one.after] = w
		}
		if begins(one) && (best.tile < 0 || w.read >= best.read) {
			best = w
		}
	}
	if best.tile < 0 {
		return nil
	}
	run := []tile{sorted[best.tile]}
	for {
		next, ok := ways[run[len(run)-1].through]
		if !ok {
			return run
		}
		run = append(run, sorted[next.tile])
	}
}
