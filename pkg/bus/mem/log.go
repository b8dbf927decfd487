package mem

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/pkg/bus"
)

// ErrCrashed is returned by everything that is called on a handle after its Crash.
var ErrCrashed = errors.New("the process crashed")

// The limits that a zero Config stands for.
const (
	defaultRecordBytesMax = 1 << 20
	defaultBatchRecords   = 1024
	defaultBatchBytes     = 1 << 20
)

// Config sizes a log. The zero Config is one partition of each of bus.Topics without a limit of size.
type Config struct {
	Partitions     int                 // of every topic; 0 means 1
	Topics         []string            // beyond bus.Topics
	Readers        map[string][]string // groups by topic, which hold the topic's records before they have ever joined
	BytesMax       int64               // values kept by one partition; beyond it what every group has read is trimmed, then ErrFull; 0 is no limit
	RecordBytesMax int                 // largest value, else ErrTooLarge; 0 means 1 MiB
	BatchRecords   int                 // most records in a batch that After yields; 0 means 1024
	// Now stamps the records; nil is a clock that starts in 2024 and moves by a millisecond with each append.
	Now func() time.Time
}

// Log is one process's handle on a log in memory. Safe for concurrent use.
type Log struct {
	disk *disk

	mu     sync.Mutex
	err    error         // why the handle is of no more use
	down   chan struct{} // closed when err is set
	faults Faults        // of this handle alone
}

var _ bus.Log = (*Log)(nil)

// New makes an empty log and the first handle on it.
func New(cfg Config) *Log {
	return newHandle(newDisk(cfg))
}

func newHandle(d *disk) *Log { return &Log{disk: d, down: make(chan struct{})} }

// Open returns another handle on the same records, groups and commits, as a second process would have, or the first one
// after its Crash or Close.
func (l *Log) Open() *Log { return newHandle(l.disk) }

// Crash is the kill -9 of the process that holds this handle: reads and subscriptions end with ErrCrashed, the owners'
// contexts end, and every later call on the handle and on what it opened fails with ErrCrashed and has no effect. What was
// acknowledged stays; an append or commit under way is lost or kept whole. The shares pass on when their owners, which a
// real crash would have killed, have returned.
func (l *Log) Crash() { l.end(ErrCrashed) }

// Close ends reads and subscriptions with bus.ErrClosed. The records stay for other handles.
func (l *Log) Close() error {
	l.end(bus.ErrClosed)
	return nil
}

func (l *Log) end(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
		close(l.down)
	}
}

// fault returns why l is of no more use, nil while it is.
func (l *Log) fault() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Partitions returns the number of partitions, the same for every topic.
func (l *Log) Partitions(string) int { return l.disk.cfg.Partitions }

// Append implements bus.Appender.
func (l *Log) Append(ctx context.Context, id bus.PartitionID, recs []bus.Record) error {
	if err := l.append(ctx, id, recs); err != nil {
		return fmt.Errorf("append %d records to %s: %w", len(recs), id, err)
	}
	return nil
}

func (l *Log) append(ctx context.Context, id bus.PartitionID, recs []bus.Record) error {
	p, err := l.disk.partition(id)
	if err != nil {
		return err
	}
	for i := range recs {
		if n := len(recs[i].Value); n > l.disk.cfg.RecordBytesMax {
			return fmt.Errorf("record %d has %d bytes, limit %d: %w", i, n, l.disk.cfg.RecordBytesMax, bus.ErrTooLarge)
		}
	}
	hooks := l.hooks()
	for _, h := range hooks {
		if h.BeforeAppend == nil {
			continue
		}
		if err := h.BeforeAppend(ctx, id, recs); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(recs) > 0 {
		if err := p.append(l, recs); err != nil {
			return err
		}
	}
	for _, h := range hooks {
		if h.AfterAppend == nil {
			continue
		}
		if err := h.AfterAppend(ctx, id, recs); err != nil {
			return err
		}
	}
	return l.fault()
}

// Partition implements bus.Log.
func (l *Log) Partition(_ context.Context, id bus.PartitionID) (bus.Partition, error) {
	if err := l.fault(); err != nil {
		return nil, fmt.Errorf("open %s: %w", id, err)
	}
	p, err := l.disk.partition(id)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", id, err)
	}
	return &view{log: l, part: p}, nil
}

// Reached implements bus.Log.
func (l *Log) Reached(ctx context.Context, group string, id bus.PartitionID) (bus.Position, error) {
	p, err := l.disk.partition(id)
	if err != nil {
		return bus.Position{}, fmt.Errorf("read the commit of %s on %s: %w", group, id, err)
	}
	progress, _, err := (&view{log: l, part: p, group: group}).Committed(ctx)
	return progress.Through, err
}

// Records returns a copy of everything that the partition holds now, for tests that look at the outcome. An unknown
// partition holds nothing.
func (l *Log) Records(id bus.PartitionID) []bus.Record {
	p, err := l.disk.partition(id)
	if err != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return copyRecords(p.recs)
}

// Trim drops the records of the partition through position, whether a group has read them or not.
func (l *Log) Trim(id bus.PartitionID, through bus.Position) {
	if p, err := l.disk.partition(id); err == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.trim(through)
	}
}

// TrimRead drops the records of the partition that every group has read, as far as it has said so by its commits, and returns
// them.
func (l *Log) TrimRead(id bus.PartitionID) []bus.Record {
	p, err := l.disk.partition(id)
	if err != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	before := slices.Clone(p.recs)
	p.makeRoom(0)
	return before[:len(before)-len(p.recs)]
}

// Cut drops the records of the partition after position and reuses their positions: what a loss of power does to a log that
// acknowledges before it has them on disk. No log of ours may ever do that; it is there to show that a harness would see it.
func (l *Log) Cut(id bus.PartitionID, after bus.Position) {
	if p, err := l.disk.partition(id); err == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.cut(after)
	}
}

// SetFaults replaces what goes wrong from now on, for every handle; the zero Faults is nothing.
func (l *Log) SetFaults(f Faults) {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	l.disk.faults = f
}

// SetOwnFaults replaces what goes wrong on this handle from now on, after what goes wrong for every handle.
func (l *Log) SetOwnFaults(f Faults) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = f
}

// hooks returns the faults of every handle and then l's own.
func (l *Log) hooks() [2]Faults {
	all := l.disk.currentFaults()
	l.mu.Lock()
	defer l.mu.Unlock()
	return [2]Faults{all, l.faults}
}
