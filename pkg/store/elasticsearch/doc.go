// Package elasticsearch keeps logs, and where wished latest state, history, aggregates and dead letters, in Elasticsearch 8.19
// or later. It does not keep alarms.
//
// Promise: what Write has acknowledged is in the translog of every replica that is in sync, each row once. Elasticsearch has no
// transactions over documents, so three orders of writing give "effectively once":
//
//   - Logs, history and dead letters are documents whose _id is the row's origin, created in an index that follows from the row
//     alone. Rows come first, then the progress by compare-and-swap. A crash in between repeats rows, which are there already.
//   - Latest state is ordered by (event time, origin) whoever writes: see state.go. Devices are merged so that order and
//     repetition do not matter: see devices.go. Progress comes last here too.
//   - Aggregates may be corrected from what is stored, which a repetition would do twice. So rows and checkpoint are put down
//     under a new name first, then one compare-and-swap of the progress makes them count, and only then are the rows changed;
//     whoever comes next finishes what was left: see aggregates.go.
//
// A row is found by a search after the index's refresh (a second by default), by its key at once. Nothing is tried again here:
// worker.Loop does that, with the same rows under the same commit.
//
// Start reading at Open, then book.
package elasticsearch
