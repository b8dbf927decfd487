package ledger

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// Ledger knows of each message how often it was sent, and whether it was acknowledged. Acknowledgements are also written to a file.
// Safe for concurrent use.
type Ledger struct {
	Plan Plan

	acknowledged atomic.Int64
	books        []book

	mu   sync.Mutex
	file *os.File
	out  *bufio.Writer
	fail error
}

// book is the part of one device.
type book struct {
	mu       sync.Mutex
	answered []uint64         // a bit a message
	sent     []uint64         // likewise
	again    map[int]int      // how often a broken one was sent beyond once: each may be a dead letter of its own
	high     int              // one more than the highest that was sent
	given    map[int]struct{} // up
}

// Open returns an empty ledger whose acknowledgements go to a file, which is made anew.
func Open(path string, plan Plan) (*Ledger, error) {
	f, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	l := &Ledger{Plan: plan, books: make([]book, plan.Devices), file: f, out: bufio.NewWriterSize(f, 1<<16)}
	words := (plan.Each + 63) / 64
	for d := range l.books {
		b := &l.books[d]
		b.answered, b.sent = make([]uint64, words), make([]uint64, words)
		b.again, b.given = map[int]int{}, map[int]struct{}{}
	}
	return l, nil
}

func has(bits []uint64, n int) bool { return bits[n/64]&(1<<(n%64)) != 0 }
func set(bits []uint64, n int)      { bits[n/64] |= 1 << (n % 64) }

// Send writes down that message n of device d is about to be sent.
func (l *Ledger) Send(d, n int) {
	b := &l.books[d]
	b.mu.Lock()
	defer b.mu.Unlock()
	if has(b.sent, n) {
		b.again[n]++
	}
	set(b.sent, n)
	b.high = max(b.high, n+1)
}

// Answer writes down that messages n to n+count-1 of device d were acknowledged.
func (l *Ledger) Answer(d, n, count int) {
	b := &l.books[d]
	b.mu.Lock()
	fresh := 0
	for m := n; m < n+count; m++ {
		if !has(b.answered, m) {
			set(b.answered, m)
			fresh++
		}
	}
	b.mu.Unlock()
	if fresh == 0 {
		return
	}
	l.acknowledged.Add(int64(fresh))
	line := binary.AppendUvarint(make([]byte, 0, 12), uint64(d))
	line = binary.AppendUvarint(line, uint64(n))
	line = binary.AppendUvarint(line, uint64(count))
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.out.Write(line); err != nil && l.fail == nil {
		l.fail = fmt.Errorf("write the ledger: %w", err)
	}
}

// GiveUp writes down that device d will not send message n again, though it got no answer.
func (l *Ledger) GiveUp(d, n int) {
	b := &l.books[d]
	b.mu.Lock()
	defer b.mu.Unlock()
	b.given[n] = struct{}{}
}

// Due reports whether message n of device d is still to be sent: not acknowledged, and not given up.
func (l *Ledger) Due(d, n int) bool {
	b := &l.books[d]
	b.mu.Lock()
	defer b.mu.Unlock()
	_, given := b.given[n]
	return !given && !has(b.answered, n)
}

// State is what the ledger knows of one message.
type State struct {
	Sent     int // how often
	Answered bool
}

// State returns what is known of message n of device d.
func (l *Ledger) State(d, n int) State {
	b := &l.books[d]
	b.mu.Lock()
	defer b.mu.Unlock()
	s := State{Answered: has(b.answered, n)}
	if has(b.sent, n) {
		s.Sent = 1 + b.again[n]
	}
	return s
}

// Acknowledged returns how many messages were.
func (l *Ledger) Acknowledged() int { return int(l.acknowledged.Load()) }

// Close writes the file out.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, err := range []error{l.out.Flush(), l.file.Close()} {
		if err != nil && l.fail == nil {
			l.fail = fmt.Errorf("write the ledger: %w", err)
		}
	}
	return l.fail
}
