// Package gather keeps rows of history in memory until enough of them have come to make good files, and says how far each
// partition is held and how far it is durable. The stores of history in Parquet have this in common; what a file is and when
// it counts is theirs.
//
// Promise. What Write took is in Segments until Settle says that its batch is durable; batches are closed one at a time, in
// order, and one that cannot be closed is tried again for ever. Memory is bounded: beyond Config.MemoryBytes, Write waits.
//
// Start reading at Rows.
package gather

import (
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/store/parquetfile"
)

// ErrClosed is returned by whatever is called after Stop.
var ErrClosed = errors.New("history: closed")

// Source is one partition as one worker reads it.
type Source struct {
	Worker    string
	Partition bus.PartitionID
}

// Lane is what is written as one: a worker's share, that is one partition number of each of its topics.
type Lane struct {
	Worker string
	Number int
}

// SeveralNumbers is the number of the lane of commits that cover partitions of different numbers.
const SeveralNumbers = -1

// Lane returns the lane that s is in by itself.
func (s Source) Lane() Lane { return Lane{s.Worker, s.Partition.Number} }

func laneOf(c store.Commit) Lane {
	number := c.Spans[0].Partition.Number
	for _, s := range c.Spans[1:] {
		if s.Partition.Number != number {
			return Lane{c.Worker, SeveralNumbers}
		}
	}
	return Lane{c.Worker, number}
}

// Taken is the run of a source that rows cover.
type Taken struct {
	After   bus.Position // exclusive
	Through bus.Progress
}

// Batch is rows that are closed together, and what they cover. It never changes, so that a close which went wrong is done
// again over the same rows.
type Batch struct {
	Segments map[Lane]*parquetfile.Segment // none is empty
	Covers   map[Source]Taken
	Rows     int
	bytes    int64
	writes   uint64
}

// Config says when rows are closed. All fields but Failed and Grew are required.
type Config struct {
	Rows        int           // rows that make a close
	Bytes       int64         // bytes of memory that make a close
	Age         time.Duration // age of the oldest row that makes a close
	MemoryBytes int64         // limit of the rows in memory, beyond which Write waits
	Failed      func(error)   // told of each close that went wrong, from the goroutine of CloseLoop
	Grew        func(int64)   // told how many bytes are held, after each Write; locked
	Now         func() time.Time
}

// Rows is the rows in memory. Its methods are safe for concurrent use, except for those that say "locked": their callers hold
// the lock that New was given.
type Rows struct {
	cfg Config
	mu  *sync.Mutex // guards all below

	lanes    map[Lane]*parquetfile.Segment
	durable  map[Source]bus.Progress
	taken    map[Source]Taken // what lanes cover, beyond what is durable and what is closing
	bytes    int64            // of the rows in memory, closing ones included
	active   int64            // of bytes, those that are not closing
	rows     int              // in memory and not closing
	since    time.Time        // when the oldest of them came; zero where nothing is new
	writes   uint64           // calls of Write that changed something
	flush    uint64           // of writes, those that somebody wants to be durable now
	closing  *Batch           // nil where nothing is
	through  uint64           // of writes, those that are durable
	attempts uint64           // closes that failed
	failure  error            // of the newest close; nil where it went well
	changed  chan struct{}    // closed, and made anew, when any of these may have changed
	stopped  bool
}

// New returns an empty one, guarded by mu, which its owner may hold for longer so that what it keeps changes in the same moment.
func New(mu *sync.Mutex, cfg Config) *Rows {
	return &Rows{
		cfg: cfg, mu: mu, changed: make(chan struct{}),
		lanes: map[Lane]*parquetfile.Segment{}, durable: map[Source]bus.Progress{}, taken: map[Source]Taken{},
	}
}

// announce wakes everybody who waits for a change; locked.
func (g *Rows) announce() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// Announce wakes everybody who waits for a change; locked.
func (g *Rows) Announce() { g.announce() }

// Durable returns how far from is durable; ok is false where it never was. Locked.
func (g *Rows) Durable(from Source) (progress bus.Progress, ok bool) {
	progress, ok = g.durable[from]
	return progress.Clone(), ok
}

// SetDurable says how far from is durable, as its owner found it. Locked.
func (g *Rows) SetDurable(from Source, progress bus.Progress) { g.durable[from] = progress.Clone() }

// Holds reports whether rows, or spans without rows, of from's lane are in memory; locked.
func (g *Rows) Holds(from Source) bool {
	if _, ok := g.taken[from]; ok {
		return true
	}
	if g.closing == nil {
		return false
	}
	_, ok := g.closing.Covers[from]
	return ok
}

// Segments calls each with the rows in memory, closing ones included; locked. What a View of them shows holds for good.
func (g *Rows) Segments(each func(*parquetfile.Segment)) {
	if g.closing != nil {
		for _, s := range g.closing.Segments {
			each(s)
		}
	}
	for _, s := range g.lanes {
		if s.Rows() > 0 {
			each(s)
		}
	}
}

// Held is how much is in memory.
type Held struct {
	Rows    int
	Bytes   int64 // about
	Failure error // of the newest close, where it went wrong
}

// Held returns how much is in memory; locked.
func (g *Rows) Held() Held {
	h := Held{Rows: g.rows, Bytes: g.bytes, Failure: g.failure}
	if g.closing != nil {
		h.Rows += g.closing.Rows
	}
	return h
}

// Settle says that the batch which is closing is durable, or given up for the sources that are fenced: what was in memory of them is
// dropped, as are the lanes that share a commit with them. Locked.
func (g *Rows) Settle(durable map[Source]bus.Progress, fenced []Source) {
	b := g.closing
	maps.Copy(g.durable, durable)
	g.bytes -= b.bytes
	g.through, g.closing, g.failure = b.writes, nil, nil
	for _, from := range fenced {
		g.rewind(from.Lane())
	}
	g.announce()
}

// Drop forgets what is in memory of from's lane and is not closing: somebody else has written it. Locked.
func (g *Rows) Drop(from Source) { g.rewind(from.Lane()) }

// Stop makes every call return ErrClosed from now on. It returns false where that was so already.
func (g *Rows) Stop() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return false
	}
	g.stopped = true
	g.announce()
	return true
}
