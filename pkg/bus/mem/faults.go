package mem

import (
	"context"

	"github.com/millrace/millrace/pkg/bus"
)

// Faults are hooks through which a log fails. A nil hook does nothing; an error of a hook becomes the error of the call. A
// hook may wait (on its ctx, a channel or a clock), which makes the call slow. Hooks are called by many goroutines.
type Faults struct {
	// BeforeAppend fails an append that has had no effect. Its error decides what the caller sees: bus.ErrFull, or one after
	// which nobody knows.
	BeforeAppend func(ctx context.Context, id bus.PartitionID, recs []bus.Record) error
	// AfterAppend fails an append whose records are there: an acknowledgement that was lost.
	AfterAppend func(ctx context.Context, id bus.PartitionID, recs []bus.Record) error
	// BeforeAsk fails Committed and End.
	BeforeAsk func(ctx context.Context, id bus.PartitionID) error
	// BeforeRead breaks After before it yields the records after the position.
	BeforeRead func(ctx context.Context, id bus.PartitionID, after bus.Position) error
	// BeforeCommit fails a commit that has had no effect, AfterCommit one that has.
	BeforeCommit func(ctx context.Context, group string, id bus.PartitionID, progress bus.Progress) error
	AfterCommit  func(ctx context.Context, group string, id bus.PartitionID, progress bus.Progress) error
}
