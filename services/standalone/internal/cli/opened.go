package cli

import (
	"context"
	"errors"
	"slices"
)

// opened is what a command has opened, in that order.
type opened []func() error

// add notes what closes something.
func (o *opened) add(closeIt func() error) { *o = append(*o, closeIt) }

// close closes all of it, the newest first.
func (o *opened) close() error {
	var errs []error
	for _, closeIt := range slices.Backward(*o) {
		errs = append(errs, closeIt())
	}
	return errors.Join(errs...)
}

// opening returns what opens a store into where it belongs.
func opening[S any](ctx context.Context, open func(context.Context) (S, error), into *S) func() error {
	return func() (err error) {
		*into, err = open(ctx)
		return err
	}
}
