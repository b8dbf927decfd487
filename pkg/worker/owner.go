package worker

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
)

// ownerMark is a number that no partition has. The origin under it, in the progress that a task with a state writes, is no message's:
// its sequence is the name of the life that wrote it.
//
// A fence compares positions alone. A zombie whose write ends at the same place as that of the next owner is told, as after a lost
// answer, that it was written; but its rows and state are others, made at another time, and are not. By this mark it finds out.
const ownerMark = 1 << 20

// newOwner draws the name of a life.
func newOwner() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails
	return binary.LittleEndian.Uint64(b[:])>>1 | 1
}

// covered returns a copy of the progress of p, with the mark of s where the task has a state.
func (s *share[Row]) covered(p *part) bus.Progress {
	progress := p.progress.Clone()
	if s.stateful != nil {
		mark := bus.Origin{Partition: ownerMark, Position: bus.Position{Seq: s.owner}}
		progress.Origins = append(progress.Origins, mark) // the last, since they are sorted
	}
	return progress
}

// unmarked returns a copy of progress without a mark.
func unmarked(progress bus.Progress) bus.Progress {
	p := progress.Clone()
	if n := len(p.Origins); n > 0 && p.Origins[n-1].Partition == ownerMark {
		p.Origins = p.Origins[:n-1]
	}
	return p
}

// confirm asks whether what the store holds is what s has written, and not what another owner wrote of the same records.
func (s *share[Row]) confirm(ctx context.Context) error {
	p := s.parts[0]
	var have bus.Progress
	err := s.retry(ctx, "confirm the write", func() (err error) {
		have, _, err = s.loop.Store.Progress(ctx, s.loop.Worker, p.id)
		return err
	})
	if err != nil {
		return err
	}
	n := len(have.Origins)
	if n == 0 || have.Origins[n-1].Partition != ownerMark || have.Origins[n-1].Seq == s.owner {
		return nil
	}
	return fmt.Errorf("%v through %v: it is there, of another owner: %w", p.id, have.Through, store.ErrFenced)
}
