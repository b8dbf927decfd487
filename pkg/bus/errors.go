package bus

import "errors"

// ErrClosed is returned by everything that is called on a Log or Writer after its Close, and by what was under way.
var ErrClosed = errors.New("the log is closed")
