package mem

import (
	"context"

	"github.com/millrace/millrace/pkg/store"
)

// Op is a call of a store.
type Op uint8

// The calls.
const (
	OpWrite Op = iota + 1
	OpProgress
	OpCheckpoint
	OpFlush
	OpWindows
	OpForget
)

// String returns the name of the call.
func (o Op) String() string {
	switch o {
	case OpWrite:
		return "write"
	case OpProgress:
		return "progress"
	case OpCheckpoint:
		return "checkpoint"
	case OpFlush:
		return "flush"
	case OpWindows:
		return "windows"
	case OpForget:
		return "forget"
	}
	return "?"
}

// Call is what a hook is told of a call.
type Call struct {
	Table  string
	Op     Op
	Worker string
	Task   string
	Spans  []store.Span // of a write, or of a flush that writes what was held; the hook's only until it returns
	Rows   int          // of a write, or of a flush
}

// Faults are hooks through which a handle's calls fail. A nil hook does nothing; an error of a hook becomes the error of the call.
// A hook may wait (on its ctx, a channel or a clock), which makes the call slow. Hooks are called by many goroutines, and never
// while the store is locked.
type Faults struct {
	// Before fails a call that has had no effect, After one that has had its effect: an answer that was lost.
	Before, After func(ctx context.Context, c Call) error
	// Refuse says why the engine will never take a row, a pointer to a row type of pkg/store; "" takes it. It must always say the
	// same of the same row.
	Refuse func(table string, row any) string
}
