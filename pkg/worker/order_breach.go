//go:build breach_commit_first

package worker

import (
	"context"

	"github.com/millrace/millrace/pkg/store"
)

// commitEarly moves the progress past what is still to be published and written.
func (s *share[Row]) commitEarly(ctx context.Context) error {
	if s.loop.busProgress() {
		for _, p := range s.parts {
			if err := s.retry(ctx, "commit early", func() error { return p.Commit(ctx, p.progress.Clone()) }); err != nil {
				return err
			}
		}
		return nil
	}
	commit := store.Commit{Worker: s.loop.Worker}
	for _, p := range s.parts {
		if p.progress.Through != p.written {
			commit.Spans = append(commit.Spans, store.Span{Partition: p.id, After: p.written, Through: p.progress.Clone()})
		}
	}
	if len(commit.Spans) == 0 {
		return nil
	}
	if err := s.retry(ctx, "commit early", func() error { return s.loop.Store.Write(ctx, commit, nil) }); err != nil {
		return err
	}
	for _, p := range s.parts {
		p.written = p.progress.Through
	}
	return nil
}
