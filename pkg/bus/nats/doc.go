// Package nats is the driver of the bus on NATS JetStream, by URL or embedded in the process (Embedded).
//
// A partition is a stream of its own, since JetStream syncs one append of a stream at a time. One JetStream message is a frame
// of many records (see AppendFrame), since JetStream's cost is per message; a record's position is the stream sequence of its
// frame and its index therein. A record is durable when JetStream has acknowledged its frame, provided that the server syncs
// each append (sync_interval: always), which the embedded one does.
//
// Streams refuse what is new when they are full; what every group has read is purged by age and size (Trim), so only unread
// records can fill them. Groups are members that hold a lease in a bucket of keys and values; their progress is in another.
//
// Start reading at Open.
package nats
