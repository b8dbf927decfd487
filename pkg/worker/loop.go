package worker

import (
	"context"
	"log/slog"
	"time"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
)

// Loop reads topics as one consumer group and gives their records to tasks. Fill it, then call Run once.
type Loop[Row any] struct {
	Worker string   // name of the worker and of its consumer group
	Topics []string // all have the same number of partitions
	Bus    bus.Log
	// Store takes the rows and keeps the progress; nil for a worker that only publishes, whose progress the bus keeps. Where it
	// is store.Buffered, it is flushed on a drain and only what is on disk is committed to the bus.
	Store store.Writer[Row]
	// Checkpoints is where a Stateful task's state is read back; nil where tasks have none.
	Checkpoints store.Checkpoints
	// NewTask returns the task of one share, fresh.
	NewTask func(share int) (Task[Row], error)
	// Warm, if set, is called for a task before its first record, with the share and its progress, so that it may read a
	// little of the log again.
	Warm func(ctx context.Context, task Task[Row], share bus.Share, progress []bus.Progress) error

	// CommitEvery is how long records may gather before they are written; 0 writes after each batch that was read. A busy
	// loop writes whenever BatchRecords have gathered.
	CommitEvery  time.Duration
	BatchRecords int           // 0 means 16384
	Drain        time.Duration // how long work in hand may outlive Run's context; 0 means 10 s

	Metrics *Metrics // nil counts nothing
	Log     *slog.Logger
	Now     func() time.Time
}
