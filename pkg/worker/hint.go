package worker

import (
	"context"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
)

// hint commits to the bus what is durable: the progress itself where the bus keeps it, else what the log may trim. Unless it
// is the last, it may fail and is made again later.
func (s *share[Row]) hint(ctx context.Context, last bool) error {
	every := trimHintEvery
	if _, buffered := s.loop.Store.(store.Buffered); buffered || s.loop.busProgress() {
		every = busCommitEvery // a buffering store's progress moves seldom, and then a full log waits for it
	}
	s.nextHint, s.hintBytes = s.loop.Now().Add(every), 0
	for _, p := range s.parts {
		f := func() error { return s.hintPart(ctx, p) }
		if last {
			if err := s.retry(ctx, "commit "+p.id.String(), f); err != nil {
				return err
			}
			continue
		}
		if err := f(); err != nil {
			s.note(ctx, "commit "+p.id.String(), err)
		}
	}
	return nil
}

func (s *share[Row]) hintPart(ctx context.Context, p *part) error {
	progress := bus.Progress{Through: p.written, Origins: p.origins}
	if _, ok := s.loop.Store.(store.Buffered); ok {
		var err error
		if progress, ok, err = s.loop.Store.Progress(ctx, s.loop.Worker, p.id); err != nil || !ok {
			return err
		}
	}
	if progress.Through.Compare(p.hinted) <= 0 {
		return nil
	}
	if err := s.account(ctx, p, progress.Through); err != nil {
		return err
	}
	if err := p.Commit(ctx, progress); err != nil {
		return err
	}
	p.hinted = progress.Through
	if s.accountant != nil {
		s.accountant.Settled()
	}
	return nil
}

// account appends what the task says of the run that is about to be committed. It is on the log first: a crash in between leaves an
// account of a run that others cover again, which is true nevertheless.
func (s *share[Row]) account(ctx context.Context, p *part, through bus.Position) error {
	if s.accountant == nil {
		return nil
	}
	topic, records := s.accountant.Account(p.id, p.hinted, through)
	tooLarge, err := s.append(ctx, topic, records)
	if err != nil {
		return err
	}
	if len(tooLarge) > 0 {
		s.loop.Log.WarnContext(ctx, "an account is larger than the log takes", "worker", s.loop.Worker, "partition", p.id.String())
	}
	return nil
}
