package books

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

func at(seq uint64) bus.Position { return bus.Position{Seq: seq} }

// routers simulates routers on one partition: each begins where the group's commit stands, writes an account of a run, and then
// commits, unless it crashes in between; one that is thought dead goes on for a while beside its successor.
type routers struct {
	random    *rand.Rand
	committed uint64
	length    uint64 // of the partition
	accounts  []tile
}

type router struct{ hinted uint64 }

func (s *routers) account(r *router) {
	through := min(s.length, r.hinted+1+s.random.Uint64N(20))
	if through == r.hinted {
		return
	}
	s.accounts = append(s.accounts, truth(r.hinted, through))
	switch s.random.IntN(10) {
	case 0: // the commit fails, and the router goes on
		return
	case 1: // the commit stands, and the router does not know
		s.committed = max(s.committed, through)
		return
	}
	s.committed = max(s.committed, through) // a commit that is behind changes nothing
	r.hinted = through
}

// truth is what any router says of a run: the record at each position is of minute seq/7, and counts one.
func truth(after, through uint64) tile {
	one := tile{after: at(after), through: at(through), read: through - after}
	counts := map[int64]uint64{}
	for seq := after + 1; seq <= through; seq++ {
		counts[int64(seq/7)]++
	}
	for minute, n := range counts {
		one.lines = append(one.lines, line{counts: telemetry.AccountLine{Minute: minute, Read: n}})
	}
	return one
}

func (s *routers) run() {
	owner := &router{hinted: s.committed}
	var zombies []*router
	for s.committed < s.length {
		s.account(owner)
		for _, z := range zombies {
			if s.random.IntN(3) == 0 {
				s.account(z)
			}
		}
		switch s.random.IntN(12) {
		case 0: // a crash
			owner = &router{hinted: s.committed}
		case 1: // thought dead
			zombies = append(zombies, owner)
			owner = &router{hinted: s.committed}
		case 2:
			zombies = nil
		}
		if n := len(s.accounts); n > 0 && s.random.IntN(8) == 0 { // appended twice
			s.accounts = append(s.accounts, s.accounts[n-1])
		}
	}
}

func TestWhoeverCrashesEveryRecordIsCountedOnce(t *testing.T) {
	for seed := range uint64(1000) {
		checkSeed(t, seed, 0)
	}
}

func TestTilesAreHandedOnEarlyWithoutLosingCount(t *testing.T) {
	for seed := range uint64(8) {
		checkSeed(t, seed, 1)
	}
}

func FuzzTiling(f *testing.F) {
	f.Add(uint64(1), 0)
	f.Fuzz(func(t *testing.T, seed uint64, most int) { checkSeed(t, seed, most) })
}

func checkSeed(t *testing.T, seed uint64, most int) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 7))
	s := &routers{random: random, length: 200 + random.Uint64N(400)}
	if most > 0 {
		s.length *= 50
	}
	s.run()
	got := map[int64]uint64{}
	tiles := tiling{most: most, take: func(lines []line) {
		for _, l := range lines {
			got[l.counts.Minute] += l.counts.Read
		}
	}}
	for _, one := range s.accounts {
		tiles.add(one)
	}
	tiles.finish()
	if len(tiles.gaps) > 0 || tiles.first != at(0) || tiles.end.Compare(at(s.length)) < 0 {
		t.Fatalf("seed %d: from %v to %v with gaps %v, want 0 to %d without", seed, tiles.first, tiles.end, tiles.gaps, s.length)
	}
	for _, l := range truth(0, s.length).lines {
		if got[l.counts.Minute] != l.counts.Read {
			t.Fatalf("seed %d: %d records of minute %d, want %d", seed, got[l.counts.Minute], l.counts.Minute, l.counts.Read)
		}
	}
}

func TestWhatNoAccountTellsOfIsAGap(t *testing.T) {
	var read uint64
	tiles := tiling{take: func(lines []line) {
		for _, l := range lines {
			read += l.counts.Read
		}
	}}
	for _, one := range []tile{truth(5, 20), truth(10, 22), truth(30, 50), truth(30, 40), truth(50, 60)} {
		tiles.add(one)
	}
	tiles.finish()
	if got := fmt.Sprint(tiles.first, tiles.gaps, tiles.end, read); got != "5.0 [{{20 0} {30 0}}] 60.0 45" {
		t.Error(got)
	}
}

func BenchmarkTiling(b *testing.B) {
	s := &routers{random: rand.New(rand.NewPCG(1, 7)), length: 20000}
	s.run()
	b.ReportAllocs()
	for b.Loop() {
		tiles := tiling{take: func([]line) {}}
		for _, one := range s.accounts {
			tiles.add(one)
		}
		tiles.finish()
	}
}
