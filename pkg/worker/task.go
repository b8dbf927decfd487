package worker

import (
	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/telemetry"
)

// Task is what a worker does with the records of one share. It is used by one goroutine, does no I/O and asks no clock.
type Task[Row any] interface {
	// Add takes one record of topic, in the order of its partition; the records of several topics interleave somehow. The loop
	// has already dropped records whose origin was taken before. An error refuses the record: it goes to dead letters with the error as
	// its reason, and what Add appended to out for it is taken back. A panic throws the task away; a fresh one begins from the last
	// commit, and the second panic on one record refuses it. So does one that does not come back for a minute; its goroutine is left to itself.
	Add(out *Output[Row], topic string, r bus.Record) error
	// Tick tells the wall clock, about once a second, and the time before which the task has everything: what was appended to the share's
	// topics, and to those of the loop's Upstream. through is 0 where something of the share is unread, and stands still while upstream
	// does; a task that is not Stateful may be told of it up to 5 s late. A drain does not tick: what the clock would have
	// closed, it closes after the restart.
	Tick(out *Output[Row], now, through telemetry.Time)
}

// Stateful is a Task whose state must outlive the process. The state covers exactly what Add and Tick have been given.
type Stateful interface {
	// Snapshot appends the state to dst.
	Snapshot(dst []byte) ([]byte, error)
	// Restore is called once, before anything else, with what Snapshot wrote; not at all on the first start.
	Restore(state []byte) error
}

// Accountant is a Task of a worker whose progress the bus keeps that says what it did with the records of a run. Its accounts of
// one partition tile: each begins where the progress stood that a reader of the group started from, or that the account
// before was committed with, and is on the log before its own end is committed.
type Accountant interface {
	// Refused is told of every record that becomes a dead letter, by Add's word or by the loop's own.
	Refused(r bus.Record)
	// Account returns what to append to topic: what was done with all records that Add and Refused were given since the last
	// Settled, which are those of p after after, through through.
	Account(p bus.PartitionID, after, through bus.Position) (topic string, records []bus.Record)
	// Settled says that the last account's run is committed. After a commit that failed it is not called, and the next account covers
	// the longer run.
	Settled()
}

// Output is what a task wants done: rows for its store and records for other topics. The loop empties it after each commit,
// so a task that finds Rows empty may forget what it knew of them. Rows and records may alias the values of records that Add
// took since the last commit.
type Output[Row any] struct {
	Rows    []Row
	Publish []Publication
}

// Publication is a record for the partition of topic that has the share's number.
type Publication struct {
	Topic  string
	Record bus.Record
	// Passing says that a crash may lose it, since a newer one follows: it is not kept with the state.
	Passing bool
}

// Decide is a Task without state or clock.
type Decide[Row any] func(out *Output[Row], topic string, r bus.Record) error

// Add calls d.
func (d Decide[Row]) Add(out *Output[Row], topic string, r bus.Record) error { return d(out, topic, r) }

// Tick does nothing.
func (d Decide[Row]) Tick(*Output[Row], telemetry.Time, telemetry.Time) {}
