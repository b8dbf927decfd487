package worker

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/pkg/bus"
)

const (
	hangMax   = time.Minute // for which a task may have one record in hand
	hangLooks = 12          // so often, in equal parts of that, the task must have been at the same step: a process that was stopped is not one that hangs
)

// errAbandoned ends a life that was given up while its task did not come back.
var errAbandoned = errors.New("the task came back after it was given up")

// steps is where a task is, for whoever watches it. It costs one atomic store a record.
type steps struct {
	now       atomic.Uint64         // number of the step in hand; 0 while the task has nothing in hand
	batch     atomic.Pointer[batch] // what the step is from; nil for a tick or a snapshot
	abandoned atomic.Bool
	goroutine atomic.Pointer[string] // of the life, as stacks name it
	last      uint64                 // the newest number that was given out
}

// batch is the records of one take: from is the step of the first.
type batch struct {
	id   bus.PartitionID
	recs []bus.Record
	from uint64
}

// begin says that the next steps of the task are recs, one each.
func (st *steps) begin(id bus.PartitionID, recs []bus.Record) {
	st.batch.Store(&batch{id: id, recs: recs, from: st.last + 1})
}

// enter says that the task is given the next record, or whatever else; leave that it has nothing in hand.
func (st *steps) enter() {
	st.last++
	st.now.Store(st.last)
}

func (st *steps) leave() {
	st.now.Store(0)
	st.batch.Store(nil)
}

// at returns the record of a step.
func (st *steps) at(step uint64) place {
	b := st.batch.Load()
	if b == nil || step < b.from || step-b.from >= uint64(len(b.recs)) {
		return place{}
	}
	return place{b.id, b.recs[step-b.from].Position}
}

// step has the task do something else than take a record. What it did in a life that was given up meanwhile is of no effect.
func (s *share[Row]) step(f func() error) error {
	s.steps.enter()
	err := f()
	return cmp.Or(s.left(), err)
}

// left says that the task has nothing in hand any more. It returns errAbandoned where the life was given up meanwhile: then the page of
// what is in hand is another life's.
func (s *share[Row]) left() error {
	s.steps.leave()
	if s.steps.abandoned.Load() {
		return errAbandoned
	}
	s.hand.rests()
	return nil
}

// supervise waits until the life has ended, or the task has not come back from one step for hangMax. Then the life is given up: its goroutine
// stays where it is, and ends when the task comes back, without any effect.
func (s *share[Row]) supervise(ended <-chan error) error {
	look := time.NewTicker(hangMax / hangLooks)
	defer look.Stop()
	var before uint64
	same := 0
	for {
		select {
		case err := <-ended:
			return err
		case <-look.C:
		}
		step := s.steps.now.Load()
		if step == 0 || step != before {
			before, same = step, 0
			continue
		}
		if same++; same < hangLooks {
			continue
		}
		f := &failed{how: hung, at: s.steps.at(step), value: fmt.Sprintf("nothing for %v", hangMax), stack: s.steps.stack()}
		s.steps.abandoned.Store(true)
		if s.steps.now.Load() != step { // it came back just now, and will see that it was given up
			f.value = "it came back too late"
		}
		return f
	}
}

// name remembers which goroutine the life is.
func (st *steps) name() {
	line, _, _ := bytes.Cut(debug.Stack(), []byte(" ["))
	name := string(line)
	st.goroutine.Store(&name)
}

// stack returns where the life's goroutine is.
func (st *steps) stack() string {
	name := st.goroutine.Load()
	if name == nil {
		return ""
	}
	const stacksMax = 4 << 20
	all := make([]byte, stacksMax)
	all = all[:runtime.Stack(all, true)]
	for one := range bytes.SplitSeq(all, []byte("\n\n")) {
		if !bytes.HasPrefix(one, []byte(*name+" [")) {
			continue
		}
		lines := strings.Split(string(one), "\n")
		return strings.Join(lines[:min(stackLinesMax, len(lines))], "\n")
	}
	return ""
}
