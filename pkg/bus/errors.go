package bus

import (
	"errors"
	"fmt"
)

// ErrClosed is returned by everything that is called on a Log or Writer after its Close, and by what was under way.
var ErrClosed = errors.New("the log is closed")

// ErrAhead is yielded by Partition.After for a start past the end of the partition: the log is not the one that gave the
// position, having been wiped or restored from an older copy. Waiting would skip what is appended until the end gets there.
var ErrAhead = errors.New("the position is past the end of the log: the log is not the one that gave it")

// ErrLost is returned by Partition.Commit when the share of the partition is another member's by now, or nobody's: who owns it next goes on
// from the last commit.
var ErrLost = errors.New("the share is another member's, or nobody's")

// Find returns what a driver keeps of a partition in a map of all, where each topic has n; else ErrUnknownTopic, and what is unknown of it.
func Find[P any](all map[PartitionID]P, id PartitionID, n int) (p P, err error) {
	p, ok := all[id]
	if ok {
		return p, nil
	}
	if _, known := all[PartitionID{Topic: id.Topic}]; known {
		return p, fmt.Errorf("partition %d, want 0 to %d: %w", id.Number, n-1, ErrUnknownTopic)
	}
	return p, ErrUnknownTopic
}
