// Package worker is the loop that every worker shares: read, decide, publish, write, commit; and around it retry,
// dead-letter and drain.
//
// A worker gives a Task for each share of the log that it owns. A task is pure: records and time go in, rows and records come
// out (Output), and its state, if it has any, is bytes. So what an error means follows from where it arose: what the task
// refuses goes to dead letters; everything else (publishing, writing) is tried again with backoff, for ever, while reading stops.
//
// The order within one step is: prepare, publish, append dead letters, then write rows together with the progress and the
// task's checkpoint. A crash in between repeats the publishing; readers drop the double by origin or by key. A task with a state is
// another matter: what it makes of the same records may differ from one life to the next, so it publishes after the write, and the
// checkpoint holds what is to be published, so that the next life can; and a life whose write turns out to be another owner's ends. To the bus the
// progress is committed every few seconds, since that costs a sync and is only what a worker without a store starts from, and
// what tells the log what it may trim.
//
// The promise is that every record that was read is in the store, or published, or a dead letter, before its progress is
// committed; and that memory is bounded: 64 batches or 4 MiB ahead of the task, and what gathers for one commit
// (Loop.BatchRecords, Loop.BatchBytes).
//
// A record that breaks the task (a panic, a hang, the death of the process), or of which a store that works makes an error, holds up its
// partition no longer than it takes to find it: then it is a dead letter too. See care.
//
// Where to look: loop.go runs, lives.go begins a share's task again when it broke, share.go is one life of a share, read.go and apply.go
// bring records to the task, upstream.go says how far its clock may go, commit.go and publish.go bring out what it made, hint.go commits to
// the bus, letter.go refuses, redeliver.go takes back what was refused, broken.go, care.go, hang.go, isolate.go and inhand.go find what
// breaks a worker, status.go and metrics.go tell.
//
// Start reading at Loop.
package worker
