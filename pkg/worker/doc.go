// Package worker is the loop that every worker shares: read, decide, publish, write, commit; and around it retry,
// dead-letter and drain.
//
// A worker gives a Task for each share of the log that it owns. A task is pure: records and time go in, rows and records come
// out (Output), and its state, if it has any, is bytes. So what an error means follows from where it arose: what the task
// refuses goes to dead letters; everything else (publishing, writing) is tried again with backoff, for ever, while reading stops.
//
// The order within one step is: publish, then write rows together with the progress and the task's checkpoint. A crash in
// between repeats the publishing; readers drop the double by origin or by key.
//
// Start reading at Loop.
package worker
