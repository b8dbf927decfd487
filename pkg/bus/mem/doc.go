// Package mem is the reference driver of the bus: a log in memory that keeps the whole contract of bus.Log, fails when it is
// told to (Faults), and loses a process on demand (Log.Crash). Workers are tested on it, in virtual time: it waits on
// channels only and asks no clock but the one handed in, so it may be used inside a testing/synctest bubble, provided that it
// was made there.
//
// Nothing is on disk: what "durable" means here is that a handle made by Log.Open sees it after any crash of another handle.
// One append is one sequence; its records are numbered by index, as on NATS. It drops no doubles: an append that is sent
// again is there twice, as the contract allows, so that readers are put to the test.
//
// Start reading at New.
package mem
