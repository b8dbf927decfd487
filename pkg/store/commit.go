package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace/millrace/pkg/bus"
)

// ErrFenced is returned by a write whose Commit does not follow what the store holds: a later owner of the partition has
// written. The worker ends its ownership and does not try again.
var ErrFenced = errors.New("fenced: a later owner of the partition has written")

// Span is the run of one partition that a write covers: what came after After, through Through.
type Span struct {
	Partition bus.PartitionID
	After     bus.Position // exclusive: the progress before this write
	Through   bus.Progress
}

// Commit names what a write covers. Worker and the partitions are its key: workers keep separate progress.
type Commit struct {
	Worker string
	Spans  []Span
	// Checkpoint is the state of a stateful worker's task as of the spans' end, to be kept under Task; nil leaves what is
	// there. A store without transactions refuses it.
	Checkpoint []byte
	Task       string // such as "3": unique within Worker
}

// Writer is a store of one kind of row.
type Writer[Row any] interface {
	// Write makes rows and commit durable together, or neither. Writing the same rows under the same commit again changes
	// nothing, so a write whose outcome is unknown is simply repeated. ErrFenced: see there. *Refused names rows that the
	// engine will never take: nothing is written then, or at most other rows without the commit. The caller makes dead
	// letters of those rows and then writes the others under the same commit. Rows are the caller's again once it returned:
	// what the store keeps, it copies, unless its comment says otherwise. Safe for concurrent use.
	Write(ctx context.Context, commit Commit, rows []Row) error
	// Progress returns how far worker's writes cover p; ok is false where there were none.
	Progress(ctx context.Context, worker string, p bus.PartitionID) (progress bus.Progress, ok bool, err error)
}

// Checkpoints is a store that keeps the checkpoints of a stateful worker's tasks.
type Checkpoints interface {
	// Checkpoint returns the newest checkpoint of a task; ok is false where there is none.
	Checkpoint(ctx context.Context, worker, task string) (state []byte, ok bool, err error)
}

// Buffered is implemented by a store whose Write returns while rows are still held in memory, readable but not on disk.
// Its Progress is what is on disk.
type Buffered interface {
	// Flush puts everything that is held onto disk.
	Flush(ctx context.Context) error
}

// Refused names the rows of a write that the engine will never take; at least one. The commit was not written.
type Refused struct {
	Rows    []int    // indexes into the rows of the write, rising
	Reasons []string // beside Rows
}

// Error says how many rows were refused, and why the first was.
func (r *Refused) Error() string {
	return fmt.Sprintf("%d rows refused, the first (row %d): %s", len(r.Rows), r.Rows[0], r.Reasons[0])
}
