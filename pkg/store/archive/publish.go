package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
)

// publish brings w's files to their place. Those that no record wants there are removed: somebody else has written the same rows,
// or has brought the files to their place already.
func (a *Archive) publish(ctx context.Context, w *work) error {
	h, _ := w.chain.last()
	var wanted []move
	for _, m := range w.files {
		if slices.Contains(h.publish, m) {
			wanted = append(wanted, m)
		} else if err := a.cfg.Bucket.Remove(ctx, m.From); err != nil {
			return err
		}
	}
	if err := a.move(ctx, w.chain, wanted); err != nil {
		return err
	}
	w.files, w.written = nil, nil
	a.publishLeft(ctx, w.chain)
	return nil
}

// publishLeft does the same for what others have left behind. It may fail: whoever comes next does it.
func (a *Archive) publishLeft(ctx context.Context, c *chain) {
	left := c.left(a.cfg.Now())
	if len(left) == 0 {
		return
	}
	for _, m := range left {
		err := a.moveFile(ctx, m)
		if err != nil && !errors.Is(err, errGone) {
			a.cfg.Log.Warn("archive: a file that another replica has committed cannot be brought to its place yet", "file", m.To, "error", err)
			return
		}
		if err != nil { // its retention is over since, or somebody has cleaned up by hand
			a.cfg.Log.Error("archive: a file that another replica has committed is not there any more", "file", m.To)
		}
		c.arrived(m)
	}
	a.cfg.Log.Info("archive: brought files to their place that another replica had committed", "worker", c.worker, "files", len(left))
}

// move copies committed files from where they were staged to where readers look.
func (a *Archive) move(ctx context.Context, c *chain, files []move) error {
	moves, ctx := errgroup.WithContext(ctx)
	moves.SetLimit(2 * a.cfg.Uploads) // the server copies
	for _, m := range files {
		moves.Go(func() error {
			if err := a.moveFile(ctx, m); err != nil {
				return err
			}
			c.arrived(m)
			return nil
		})
	}
	return moves.Wait()
}

// errGone says that a committed file is neither where it was staged nor in its place.
var errGone = errors.New("it was removed from where it was staged and is not in its place")

func (a *Archive) moveFile(ctx context.Context, m move) error {
	err := a.cfg.Bucket.Copy(ctx, m.To, m.From)
	if err == nil {
		return a.cfg.Bucket.Remove(ctx, m.From)
	}
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	_, err = a.cfg.Bucket.Read(ctx, m.To, 0, 1)
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%s: %w", m.To, errGone)
	}
	return err // nil: somebody else has moved it
}
