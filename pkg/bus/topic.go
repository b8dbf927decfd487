package bus

import "github.com/cespare/xxhash/v2"

// The topics that Millrace itself reads and writes. A route may name others.
const (
	Ingested      = "ingested"       // every message, as the edge took it; telemetry.Message
	Telemetry     = "telemetry"      // Channel messages; telemetry.Message
	Logs          = "logs"           // Log messages; telemetry.Message
	Events        = "events"         // Event messages and what no route wanted; telemetry.Message
	Critical      = "critical"       // Log messages that are Critical; telemetry.Message
	Aggregates    = "aggregates"     // windows; telemetry.Aggregate
	Alarms        = "alarms"         // changes of alarms; telemetry.Alarm
	AlarmCommands = "alarm-commands" // operators' acknowledgements; telemetry.Alarm
	Sessions      = "sessions"       // connections that began or ended; telemetry.Message of KindSession
	DeadLetters   = "dead-letters"   // what could not be processed; telemetry.DeadLetter
	Redelivered   = "redelivered"    // what is given once more to one worker; telemetry.Redelivery
	Books         = "books"          // what edge and router count of their own work, which no group reads; telemetry.Account
)

// Router is the consumer group of the router, which reads Ingested: what it has not read may still come to every other worker.
const Router = "router"

// redeliveredPartition is the partition of the origins of Redelivered's partition 0: beyond every partition of Ingested.
const redeliveredPartition = 1 << 19

// RedeliveredOrigin returns the origin of what the note at p in partition n of DeadLetters puts on Redelivered. Such origins rise
// as those of messages do, so that what is appended again after a crash is taken once.
func RedeliveredOrigin(n int, p Position) Origin {
	return Origin{Partition: int32(redeliveredPartition + n), Position: p} //nolint:gosec // partitions are few
}

// Topics returns the topics that Millrace itself needs, in the order of a message's way.
func Topics() []string {
	return []string{Ingested, Telemetry, Logs, Events, Critical, Aggregates, Alarms, AlarmCommands, Sessions, DeadLetters, Redelivered, Books}
}

// PartitionOf returns the partition, of n, that holds the messages of a device: xxHash64 of tenant, a zero byte and
// device id, modulo n. It never changes, so a device's order holds across restarts and processes.
func PartitionOf(tenant, device string, n int) int {
	if n <= 1 {
		return 0
	}
	var d xxhash.Digest
	d.Reset()
	_, _ = d.WriteString(tenant)
	_, _ = d.Write([]byte{0})
	_, _ = d.WriteString(device)
	return int(d.Sum64() % uint64(n)) //nolint:gosec // n is positive and the remainder is below it
}
