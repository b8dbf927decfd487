package bus

import (
	"errors"
	"fmt"
)

// Ticket is told what became of the records that were submitted with it. It must be comparable: a pointer.
type Ticket interface {
	// Done reports that the next n of the records submitted with this ticket for one partition are on disk, or, with an
	// error, that they are refused (ErrFull, ErrTooLarge: nothing was appended) or that nobody knows. The records of a
	// partition are reported in the order in which they were submitted, with one call for each append however many of them it
	// took. It is called from a goroutine that commits, so it must not wait, least of all for the Writer.
	Done(n int, err error)
}

// waiting is the ticket of Append.
type waiting struct {
	left, stored int
	err          error
	done         chan struct{}
}

// Done is called by one committer at a time, since all records are of one partition.
func (t *waiting) Done(n int, err error) {
	if err == nil {
		t.stored += n
	} else if t.err == nil {
		t.err = err
	}
	if t.left -= n; t.left == 0 {
		close(t.done)
	}
}

func (t *waiting) outcome(p PartitionID) error {
	switch {
	case t.err == nil:
		return nil
	case t.stored > 0 && (errors.Is(t.err, ErrFull) || errors.Is(t.err, ErrTooLarge)):
		return fmt.Errorf("append to %s: %d records are on disk, then: %v", p, t.stored, t.err) //nolint:errorlint // must not read as "none was appended"
	default:
		return fmt.Errorf("append to %s: %w", p, t.err)
	}
}
