package worker

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
)

// stateTopic is the topic of the progress that counts the writes of a task with a state; there is no such topic.
//
// A fence compares positions, and a state also changes with the clock, where those of the log stand still: a zombie would write what its
// own time has done to a state that is another's by then, and two owners' writes that end at the same place would pass for one. So each
// write of a state also moves this position: its sequence counts, and its index names the life that wrote.
const stateTopic = "state"

// newOwner draws the name of a life: an index that every store can hold.
func newOwner() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // it never fails
	return binary.LittleEndian.Uint32(b[:])>>8 | 1
}

func (s *share[Row]) stateID() bus.PartitionID {
	return bus.PartitionID{Topic: stateTopic, Number: s.bus.Number}
}

// nextState is where the progress of the state goes with the write that is made.
func (s *share[Row]) nextState() bus.Position {
	return bus.Position{Seq: s.state.Seq + 1, Index: s.owner}
}

// findState reads where the progress of the state stands. It comes before the state itself is read: who writes in between is noticed.
func (s *share[Row]) findState(ctx context.Context) error {
	return s.retry(ctx, "find the progress of the state", func() error {
		have, _, err := s.loop.Store.Progress(ctx, s.loop.Worker, s.stateID())
		s.state = have.Through
		return err
	})
}

// confirm asks whether what the store holds is what s has written. A store without transactions may have taken two owners' writes.
func (s *share[Row]) confirm(ctx context.Context) error {
	var have bus.Progress
	err := s.retry(ctx, "confirm the write", func() (err error) {
		have, _, err = s.loop.Store.Progress(ctx, s.loop.Worker, s.stateID())
		return err
	})
	if err != nil {
		return err
	}
	if want := s.nextState(); have.Through != want {
		return fmt.Errorf("the state of task %s: it is at %v, of another owner, and was written as %v: %w", s.taskName(), have.Through, want, store.ErrFenced)
	}
	s.state = have.Through
	return nil
}
