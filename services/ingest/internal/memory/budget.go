// Package memory bounds what the bodies in hand take, of both edges together, and shares it out by sender: who holds much of it
// leaves something to who comes next. Start reading at Budget.
package memory

import (
	"errors"
	"sync"
)

// timesFree is how many times of what is still free a sender's bodies may take: one sender alone gets two thirds of the memory, two get
// two fifths each, and something stays free for who comes next (dynamic thresholds, Choudhury and Hahne 1998).
const timesFree = 2

// Why Take refuses.
var (
	ErrAll   = errors.New("too many bodies in hand")                // of all senders
	ErrShare = errors.New("too many bodies of this sender in hand") // there is room for others
)

// Budget is the memory for the bodies in hand, in bytes. Safe for concurrent use; nothing waits.
type Budget struct {
	limit int64

	mu    sync.Mutex
	taken int64
	of    map[string]int64 // by sender
}

// New returns a budget of limit bytes.
func New(limit int64) *Budget { return &Budget{limit: limit, of: map[string]int64{}} }

// Take takes n bytes for a sender, or none: ErrAll where all together have too much, ErrShare where it has.
func (b *Budget) Take(who string, n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	free, own := b.limit-b.taken, b.of[who]
	switch {
	case n > free:
		return ErrAll
	case own > 0 && own+n > timesFree*free:
		return ErrShare
	}
	b.taken += n
	b.of[who] = own + n
	return nil
}

// Give gives back n bytes that were taken for the sender.
func (b *Budget) Give(who string, n int64) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.taken -= n
	if b.of[who] -= n; b.of[who] <= 0 {
		delete(b.of, who)
	}
}

// Taken returns the bytes that are taken.
func (b *Budget) Taken() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.taken
}
