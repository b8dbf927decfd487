// Package bus is the durable log through which all workers speak: topics, each cut into numbered partitions, each an
// append-only sequence of records.
//
// Its promise is at-least-once delivery in the order of one partition. An append that returned nil is on disk. What a
// reader does with a record it may see twice is the reader's affair; Origin and Progress are what it needs for that.
//
// Log is what a driver implements (mem, nats, kafka); bustest holds every driver to the comments of Log, Partition and
// their methods. Writer does group commit for all of them; worker.Loop is the reader of nearly everything.
package bus
