// Package notify tells people and machines of alarms: an HTTP server, a mailbox, the log of the process.
//
// The topic alarms is the outbox. An Outbox is the "store" of a worker.Loop that reads it: a change counts as written once its
// target has taken it, so the loop's progress moves only behind what was delivered, and the loop's backoff is the retry. The
// promise is at least once, in the order of each device; what was delivered already is known for as long as the process lives.
// What a target will never take becomes a dead letter with the reason.
//
// Start reading at Outbox.
package notify
