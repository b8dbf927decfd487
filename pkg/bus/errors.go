package bus

import "errors"

// ErrClosed is returned by everything that is called on a Log or Writer after its Close, and by what was under way.
var ErrClosed = errors.New("the log is closed")

// ErrAhead is yielded by Partition.After for a start past the end of the partition: the log is not the one that gave the
// position, having been wiped or restored from an older copy. Waiting would skip what is appended until the end gets there.
var ErrAhead = errors.New("the position is past the end of the log: the log is not the one that gave it")
