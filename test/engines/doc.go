// Package engines runs the real engines that the drivers are tested on, without containers: Kafka, NATS, ClickHouse,
// Elasticsearch, PostgreSQL and an S3 endpoint, as plain processes on loopback.
//
// cmd/engines is the program, `make engines` the way to it. A Set is one directory with everything in it: for each engine
// its ports, which stay the same for as long as the directory lives, its nodes' configuration, data, logs and process
// ids, and a file engines.json that tells tests where everything is (see pkg/enginetest). The processes are in sessions
// of their own: they outlive the program that started them, and any later one, given the same directory, finds them again.
//
// Each engine is one value of type engine in a file of its own (kafka.go, nats.go, …): what it needs, how it is
// installed, configured, started and asked whether it is well. All else is shared: set.go (what the commands do), site.go
// (where an engine lives), process.go (one node), install.go (downloads, kept in a cache).
package engines
