// Package replay makes the past of a log pass once more: into a store beside the live one, through the very worker that wrote that one
// (Run), or through alarm rules whose alarms nobody is told of (Rehearse).
//
// What passes is what was taken at the edge from one moment until another. The log gives what it still has, and the archive of history
// the messages before that. A record is known by its origin, whichever of the two it comes from, so both are merged in the order of
// origins, share by share, and where both have a record it passes once. The positions that a worker sees are the origins: they stay the
// same when the log is trimmed in between, so a replay that was killed goes on, and one that is begun again changes nothing.
//
// The log is only looked at: no group is joined, nothing is committed, nothing is held back. How far a replay has come is kept by the new
// store itself, under the name replay-<worker>, and what was asked for in a marker beside it.
//
// Start reading at Run, then past.go (a bus.Log of the past), feed.go (one share of it), and archive.go.
package replay
