package httpedge

import "sync"

// timesFree is how many times of what is still free a sender's bodies may take: one sender alone gets two thirds of the memory, two get
// two fifths each, and something stays free for who comes next (dynamic thresholds, Choudhury and Hahne 1998).
const timesFree = 2

// budget is the memory for the bodies in hand. Safe for concurrent use.
type budget struct {
	limit int64

	mu    sync.Mutex
	taken int64
	of    map[string]int64 // by sender
}

func newBudget(limit int64) *budget { return &budget{limit: limit, of: map[string]int64{}} }

// take takes n bytes for who, or says why not: unavailableBodies where all together have too much, unavailableShare where who has.
func (b *budget) take(who string, n int64) (why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	free, own := b.limit-b.taken, b.of[who]
	switch {
	case n > free:
		return unavailableBodies
	case own > 0 && own+n > timesFree*free:
		return unavailableShare
	}
	b.taken += n
	b.of[who] = own + n
	return ""
}

func (b *budget) give(who string, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.taken -= n
	if b.of[who] -= n; b.of[who] <= 0 {
		delete(b.of, who)
	}
}
