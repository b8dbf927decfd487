package worker

import (
	"context"
	"errors"
)

// unfinished is the error of a drain that could not finish what was in hand. Although what ended it is a context of the loop, it is
// not context.Canceled to anybody, who would take it for the clean end that was asked for.
type unfinished struct{ err error }

// Error says what was not finished.
func (u *unfinished) Error() string {
	return "not all was finished that was in hand, the log keeps it: " + u.err.Error()
}

// Is implements the interface of errors.Is.
func (u *unfinished) Is(target error) bool {
	return !errors.Is(target, context.Canceled) && errors.Is(u.err, target)
}

// As implements the interface of errors.As.
func (u *unfinished) As(target any) bool { return errors.As(u.err, target) }
