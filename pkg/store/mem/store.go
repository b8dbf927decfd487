package mem

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

var (
	// ErrCrashed is returned by everything that is called on a handle after its Crash.
	ErrCrashed = errors.New("the process crashed")
	// ErrCheckpoint is returned by a write that brings a checkpoint to a table that keeps none.
	ErrCheckpoint = errors.New("this table keeps no checkpoints")
)

// TableSegments is the name of the table behind Segments, beside the names of pkg/store.
const TableSegments = "segments"

// Store is one process's handle on stores in memory. Safe for concurrent use.
type Store struct {
	disk *disk

	mu     sync.Mutex
	err    error // why the handle is of no more use
	faults Faults

	segments segments // what this process holds back
}

// New makes empty stores and the first handle on them.
func New() *Store { return newHandle(newDisk()) }

func newHandle(d *disk) *Store {
	s := &Store{disk: d}
	s.segments.store, s.segments.flushing = s, make(chan struct{}, 1)
	return s
}

// Open returns another handle on the same tables, as a second process would have, or the first one after its Crash. It has no
// faults.
func (s *Store) Open() *Store { return newHandle(s.disk) }

// Crash is the kill -9 of the process that holds this handle: every later call on it fails with ErrCrashed and has no effect, and
// what it held back is gone. A write under way is lost or kept whole.
func (s *Store) Crash() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = ErrCrashed
	}
}

// SetFaults replaces what goes wrong on this handle from now on.
func (s *Store) SetFaults(f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
}

// State returns the writer of device_state and devices.
func (s *Store) State() store.StateWriter { return table[store.MessageRow]{s, &s.disk.state.core} }

// Messages returns a writer of device_messages that writes through.
func (s *Store) Messages() store.Writer[store.MessageRow] {
	return table[store.MessageRow]{s, &s.disk.messages.core}
}

// Segments returns a writer of history that holds rows back until Flush.
func (s *Store) Segments() store.HistoryWriter { return &s.segments }

// Aggregates returns the writer of aggregates.
func (s *Store) Aggregates() store.AggregateWriter {
	return aggregateTable{table[store.AggregateRow]{s, &s.disk.aggregates.core}}
}

// Alarms returns the writer of alarms.
func (s *Store) Alarms() store.AlarmWriter { return table[telemetry.Alarm]{s, &s.disk.alarms.core} }

// Logs returns the writer of logs.
func (s *Store) Logs() store.LogWriter { return table[store.MessageRow]{s, &s.disk.logs.core} }

// DeadLetters returns the writer of dead_letters.
func (s *Store) DeadLetters() store.DeadLetterWriter {
	return table[store.DeadLetterRow]{s, &s.disk.letters.core}
}

// Rows is everything that the tables hold, for tests that look at the outcome. Nothing of it may be changed.
type Rows struct {
	States      []store.MessageRow
	Messages    []store.MessageRow
	Segments    []store.MessageRow // what is flushed
	Logs        []store.MessageRow
	Aggregates  []store.AggregateRow
	Alarms      []telemetry.Alarm
	DeadLetters []store.DeadLetterRow
}

// Rows returns what is on disk.
func (s *Store) Rows() Rows {
	d := s.disk
	return Rows{
		States: d.state.rows(), Messages: d.messages.rows(), Segments: d.segments.rows(), Logs: d.logs.rows(),
		Aggregates: d.aggregates.rows(), Alarms: d.alarms.rows(), DeadLetters: d.letters.rows(),
	}
}

// before asks the handle and its hook whether a call may have an effect.
func (s *Store) before(ctx context.Context, c Call) error {
	f, err := s.current()
	if err == nil && f.Before != nil {
		err = f.Before(ctx, c)
	}
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// after asks the hook whether the answer arrives.
func (s *Store) after(ctx context.Context, c Call) error {
	f, err := s.current()
	if err == nil && f.After != nil {
		err = f.After(ctx, c)
	}
	return err
}

func (s *Store) current() (Faults, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults, s.err
}

// refused returns the *store.Refused of a write, nil where the engine takes every row.
func refused[Row any](f Faults, name string, rows []Row) error {
	if f.Refuse == nil {
		return nil
	}
	var no store.Refused
	for i := range rows {
		if reason := f.Refuse(name, &rows[i]); reason != "" {
			no.Rows, no.Reasons = append(no.Rows, i), append(no.Reasons, reason)
		}
	}
	if len(no.Rows) == 0 {
		return nil
	}
	return &no
}

// Copy is the tables as they were at one moment.
type Copy struct{ disk *disk }

// Copy returns the tables as they are now.
func (s *Store) Copy() Copy { return Copy{s.disk.copy()} }

// SetBack replaces the table of that name, with its progress and checkpoints, by what the copy has: a store that was restored from
// an older backup. Its writers find out by the fence.
func (s *Store) SetBack(name string, c Copy) error {
	d := s.disk
	switch name {
	case store.TableState:
		d.state.replace(c.disk.state)
	case store.TableMessages:
		d.messages.replace(c.disk.messages)
	case TableSegments:
		d.segments.replace(c.disk.segments)
	case store.TableAggregates:
		d.aggregates.replace(c.disk.aggregates)
	case store.TableAlarms:
		d.alarms.replace(c.disk.alarms)
	case store.TableLogs:
		d.logs.replace(c.disk.logs)
	case store.TableDeadLetters:
		d.letters.replace(c.disk.letters)
	default:
		return fmt.Errorf("set back %q: no such table", name)
	}
	return nil
}
