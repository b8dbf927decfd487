// Package mem is the reference driver of the stores: every table in memory, with the whole contract of pkg/store kept, calls that
// fail when they are told to (Faults), and processes that die on demand (Store.Crash). Workers are tested on it in virtual time:
// it waits nowhere but in hooks and asks no clock, so it may be used inside a testing/synctest bubble.
//
// What "on disk" means here is that a handle made by Store.Open sees it after any crash of another handle. History comes twice:
// Messages writes through, Segments holds rows in the memory of its handle until Flush, as Parquet files do. Tables that only grow
// (messages, segments, logs, dead letters) drop no doubles by themselves: only the fence keeps a row from being there twice, so
// a worker that gets it wrong shows.
//
// Start reading at New.
package mem
