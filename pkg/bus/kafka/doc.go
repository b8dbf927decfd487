// Package kafka is the driver of the bus on Apache Kafka, from 2.4 on, with the classic group protocol.
//
// A partition is a partition of a Kafka topic, named Config.Prefix and the topic. One Kafka record is one record of ours: its value is
// the value, without a key; the header "origin", three unsigned varints (partition, sequence, index), is there where the record has
// an origin. So any Kafka consumer can read the topics. A record's position is its offset plus one.
//
// An append is one record batch, acknowledged by all replicas in sync (append.go). The batches bear a producer id and sequence
// numbers, which kafka-go's own writer does not know: an append that is sent again after an unknown outcome is dropped by the broker
// if it has it (producer.go). Readers fetch from the partition's leader, without a group (read.go). Who owns which share is settled
// by Kafka's group protocol with a cooperative, sticky assignment of our own (group.go, assign.go); what a group has read is its
// committed offset, with the origins in the commit's metadata (commit.go). Kafka itself deletes nothing: read records are trimmed by
// DeleteRecords behind the slowest group (trim.go).
//
// kafka-go's Transport finds brokers, authenticates, pools connections and speaks the rarer requests. Produce, Fetch and
// DeleteRecords are encoded here (wire.go): the first two for speed and for the producer id, the last since kafka-go lacks it.
package kafka
