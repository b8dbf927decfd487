package bus

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// The limits that a zero WriterConfig stands for.
const (
	defaultBatchBytesMax   = 256 << 10
	defaultBatchRecordsMax = 8192
	defaultPendingBytesMax = 64 << 20
	defaultRetryMax        = time.Second
	firstRetry             = 20 * time.Millisecond
	recordOverheadBytes    = 64 // what a pending record costs beside its value
)

// WriterConfig sizes a Writer. The zero WriterConfig is a good one for the edge.
type WriterConfig struct {
	// BatchBytesMax and BatchRecordsMax limit one append; more goes into the next. A record that is larger by itself is
	// appended alone. 0 means 256 KiB, 8192 records.
	BatchBytesMax   int
	BatchRecordsMax int
	// PendingBytesMax limits what is submitted and not yet reported, over all partitions, counting 64 bytes a record beside
	// its value. At the limit Submit waits. 0 means 64 MiB.
	PendingBytesMax int64
	// RecordBytesMax is the largest value that Submit takes; 0 leaves it to the log.
	RecordBytesMax int
	// RetryMax is the longest wait between attempts of an append whose outcome nobody knows; the first is 20 ms. 0 means 1 s.
	RetryMax time.Duration
	// RetryFor ends the attempts, and reports the error, when so long has passed since the first; 0 goes on until Close.
	RetryFor time.Duration
}

func (c WriterConfig) withDefaults() WriterConfig {
	if c.BatchBytesMax <= 0 {
		c.BatchBytesMax = defaultBatchBytesMax
	}
	if c.BatchRecordsMax <= 0 {
		c.BatchRecordsMax = defaultBatchRecordsMax
	}
	if c.PendingBytesMax <= 0 {
		c.PendingBytesMax = defaultPendingBytesMax
	}
	if c.RetryMax <= 0 {
		c.RetryMax = defaultRetryMax
	}
	return c
}

// WriterStats counts since the Writer was made.
type WriterStats struct {
	Appends      uint64 // that succeeded
	Records      uint64 // that are on disk
	Bytes        uint64 // of their values
	Failed       uint64 // records reported with an error
	Retries      uint64 // appends tried again because nobody knew their outcome
	PendingBytes int64  // submitted and not yet reported, now
}

// Writer does group commit for every driver alike: while one append of a partition is in flight, what is submitted for that
// partition gathers, and goes with the next. Nothing waits for a timer, so one lone record is as quick as the log, and a flood
// makes large appends. Each partition that is written has a goroutine of its own, which repeats an append whose outcome
// nobody knows, always with the same records, so that a driver can drop the double.
//
// Safe for concurrent use. The submissions of one goroutine and flow for one partition keep their order.
type Writer struct {
	log Appender
	cfg WriterConfig

	life  context.Context //nolint:containedctx // ends when Close gives up; appends outlive the calls that submitted them
	abort context.CancelFunc
	lanes atomic.Pointer[map[PartitionID]*lane] // replaced as a whole, under mu
	room  *room
	spare sync.Pool // of *batch, empty
	count counters

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup // committers
}

type counters struct{ appends, records, bytes, failed, retries atomic.Uint64 }

// NewWriter returns a Writer on log. It takes ctx's values but not its end: a Writer lives until Close.
func NewWriter(ctx context.Context, log Appender, cfg WriterConfig) *Writer {
	cfg = cfg.withDefaults()
	w := &Writer{log: log, cfg: cfg, room: newRoom(cfg.PendingBytesMax)}
	w.life, w.abort = context.WithCancel(context.WithoutCancel(ctx))
	w.lanes.Store(&map[PartitionID]*lane{})
	return w
}

// Partitions implements Appender.
func (w *Writer) Partitions(topic string) int { return w.log.Partitions(topic) }

// Submit gives one record to be appended to p, and returns as soon as a copy of value is gathered: ticket is told when the
// record is on disk. It waits only while PendingBytesMax are pending. An error means that the record was not taken and that
// ticket will not be told: ctx's when it ends first, ErrTooLarge, or ErrClosed.
func (w *Writer) Submit(ctx context.Context, p PartitionID, value []byte, origin Origin, ticket Ticket) error {
	if limit := w.cfg.RecordBytesMax; limit > 0 && len(value) > limit {
		return fmt.Errorf("submit to %s: %d bytes, limit %d: %w", p, len(value), limit, ErrTooLarge)
	}
	recs := [1]Record{{Value: value, Origin: origin}}
	return w.submit(ctx, p, recs[:], int64(len(value)+recordOverheadBytes), claimant{ticket: ticket})
}

// SubmitBatch is Submit for several records of one partition, which stay together in order but may take more than one
// append. All are taken or none.
func (w *Writer) SubmitBatch(ctx context.Context, p PartitionID, recs []Record, ticket Ticket) error {
	return w.SubmitFlow(ctx, p, 0, recs, ticket)
}

// SubmitFlow is SubmitBatch for one of many senders, which flow tells apart; 0 is nobody's. While more comes than the log takes,
// flows have their turns: each append takes something of every flow that waits for its partition, and none may hold so much of
// PendingBytesMax that another finds no room, so that who floods waits for itself. A ticket belongs to one flow for good:
// the order of what it is told would be lost otherwise.
func (w *Writer) SubmitFlow(ctx context.Context, p PartitionID, flow uint64, recs []Record, ticket Ticket) error {
	if len(recs) == 0 {
		return nil
	}
	size := int64(0)
	for i := range recs {
		n := len(recs[i].Value)
		if limit := w.cfg.RecordBytesMax; limit > 0 && n > limit {
			return fmt.Errorf("submit to %s: record %d: %d bytes, limit %d: %w", p, i, n, limit, ErrTooLarge)
		}
		size += int64(n + recordOverheadBytes)
	}
	return w.submit(ctx, p, recs, size, claimant{ticket: ticket, flow: flow})
}

// submit gathers recs, which take size bytes of the room.
func (w *Writer) submit(ctx context.Context, p PartitionID, recs []Record, size int64, who claimant) error {
	l, err := w.lane(p)
	if err != nil {
		return err
	}
	if err := w.room.take(ctx, who.flow, l, size); err != nil {
		return fmt.Errorf("submit to %s: %w", p, err)
	}
	if !l.add(recs, who) {
		w.room.give(l, []claimed{{claimant: who, bytes: size}})
		return fmt.Errorf("submit to %s: %w", p, ErrClosed)
	}
	return nil
}

// Append implements Appender: it submits recs and waits until they are on disk. When ctx ends first the outcome is unknown.
// When some of recs are on disk and others were refused, the error is neither ErrFull nor ErrTooLarge.
func (w *Writer) Append(ctx context.Context, p PartitionID, recs []Record) error {
	if len(recs) == 0 {
		return nil
	}
	t := &waiting{left: len(recs), done: make(chan struct{})}
	if err := w.SubmitBatch(ctx, p, recs, t); err != nil {
		return err
	}
	select {
	case <-t.done:
		return t.outcome(p)
	case <-ctx.Done():
		return fmt.Errorf("append to %s: %w", p, ctx.Err())
	}
}

// Stats returns the counts until now.
func (w *Writer) Stats() WriterStats {
	c := &w.count
	return WriterStats{
		Appends: c.appends.Load(), Records: c.records.Load(), Bytes: c.bytes.Load(),
		Failed: c.failed.Load(), Retries: c.retries.Load(), PendingBytes: w.room.pending(),
	}
}

// Close takes no more records and waits until all that were submitted are reported. When ctx ends before that, the rest is
// reported with an error, and so does Close return one.
func (w *Writer) Close(ctx context.Context) error {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.room.closed)
	}
	for _, l := range *w.lanes.Load() {
		l.close()
	}
	w.mu.Unlock()

	before := w.count.failed.Load()
	stop := context.AfterFunc(ctx, w.abort)
	w.running.Wait()
	stop()
	w.abort()
	if err := ctx.Err(); err != nil && w.count.failed.Load() > before {
		return fmt.Errorf("close the writer: %d records not known to be on disk: %w", w.count.failed.Load()-before, err)
	}
	return nil
}

// lane returns the lane of p, which it starts at the first use.
func (w *Writer) lane(p PartitionID) (*lane, error) {
	if l, ok := (*w.lanes.Load())[p]; ok {
		return l, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, fmt.Errorf("submit to %s: %w", p, ErrClosed)
	}
	if l, ok := (*w.lanes.Load())[p]; ok {
		return l, nil
	}
	l := &lane{w: w, id: p, wake: make(chan struct{}, 1), gathering: &batch{}, flows: map[uint64]*flow{}}
	lanes := maps.Clone(*w.lanes.Load())
	lanes[p] = l
	w.lanes.Store(&lanes)
	w.running.Go(l.run)
	return l, nil
}
