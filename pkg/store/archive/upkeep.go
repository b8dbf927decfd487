package archive

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/millrace/millrace/pkg/store/gather"
)

// upkeepLoop runs Maintain every UpkeepEvery until ctx ends.
func (a *Archive) upkeepLoop(ctx context.Context) {
	for gather.Rest(ctx, a.cfg.UpkeepEvery) {
		if err := a.Maintain(ctx); err != nil && ctx.Err() == nil {
			a.cfg.Log.Error("archive: upkeep; it is tried again", "error", err)
		}
	}
}

// Maintain removes what crashes have left, a day after, and files of days that have outlived Retention. It runs by itself every
// UpkeepEvery, in each replica: they do the same, which is as good as once.
func (a *Archive) Maintain(ctx context.Context) error {
	a.mu.Lock()
	chains := make([]*chain, 0, len(a.chains))
	for _, c := range a.chains {
		chains = append(chains, c)
	}
	a.mu.Unlock()
	var errs []error
	for _, c := range chains {
		a.publishLeft(ctx, c)
		errs = append(errs, a.removeOrphans(ctx, c), a.endUploads(ctx, c))
	}
	return errors.Join(append(errs, a.expire(ctx))...)
}

// removeOrphans removes files that were staged for a record which never came.
func (a *Archive) removeOrphans(ctx context.Context, c *chain) error {
	before := a.cfg.Now().Add(-orphanAge)
	var old []string
	for o, err := range a.cfg.Bucket.List(ctx, stagedDir(c.worker)) {
		if err != nil {
			return fmt.Errorf("remove what was never committed: %w", err)
		}
		if o.Modified.Before(before) {
			old = append(old, o.Key)
		}
	}
	if len(old) == 0 {
		return nil
	}
	h, err := c.load(ctx, a.cfg.Now()) // after the list: a file that is older than a day and in no record by now never will be
	if err != nil {
		return fmt.Errorf("remove what was never committed: %w", err)
	}
	wanted := map[string]bool{}
	for _, m := range h.publish {
		wanted[m.From] = true
	}
	removed := 0
	for _, key := range old {
		if wanted[key] {
			continue
		}
		if err := a.cfg.Bucket.Remove(ctx, key); err != nil {
			return fmt.Errorf("remove what was never committed: %w", err)
		}
		removed++
	}
	if removed > 0 {
		a.cfg.Log.Info("archive: removed files that were never committed", "worker", c.worker, "files", removed)
	}
	return nil
}

// endUploads ends multi-part uploads that nobody goes on with.
func (a *Archive) endUploads(ctx context.Context, c *chain) error {
	b, ok := a.cfg.Bucket.(bounded).Bucket.(Aborter)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, dataTimeout)
	defer cancel()
	ended, err := b.AbortUploads(ctx, stagedDir(c.worker), a.cfg.Now().Add(-orphanAge))
	if err != nil {
		return fmt.Errorf("end uploads that nobody goes on with: %w", err)
	}
	if ended > 0 {
		a.cfg.Log.Info("archive: ended uploads that nobody goes on with", "worker", c.worker, "uploads", ended)
	}
	return nil
}

// expire removes the files of days that ended before Retention.
func (a *Archive) expire(ctx context.Context) error {
	if a.cfg.Retention <= 0 {
		return nil
	}
	last := a.cfg.Now().Add(-a.cfg.Retention).UTC().AddDate(0, 0, -1).Format(time.DateOnly) // the newest day that is over for so long
	removed := 0
	for o, err := range a.cfg.Bucket.List(ctx, "dt=") {
		if err != nil {
			return fmt.Errorf("retention: %w", err)
		}
		if dayOf(o.Key) > last {
			break // days rise
		}
		if !fileKey.MatchString(o.Key) {
			continue
		}
		if err := a.cfg.Bucket.Remove(ctx, o.Key); err != nil {
			return fmt.Errorf("retention: %w", err)
		}
		removed++
	}
	if removed > 0 {
		a.cfg.Log.Info("archive: removed what has outlived its retention", "files", removed, "retention", a.cfg.Retention)
	}
	return nil
}

// dayOf returns the day of a file's key, as 2026-02-03.
func dayOf(key string) string {
	day, _, _ := strings.Cut(path.Clean(key), "/")
	return strings.TrimPrefix(day, "dt=")
}
