package telemetry

// Account is what a worker says of its own work, so that it can be held against the stores later: how many messages of each
// device it took and what became of them. It lies on the topic books.
type Account struct {
	// Writer tells one life of a worker's task from all others, and Number is the running number of its accounts, from 1: who
	// reads an account twice knows it by them.
	Writer string
	Number uint64
	Worker string // ingest or router
	// Partition is the one of the topic ingested that the account is about.
	Partition int32
	// After (exclusive) and Through say which run of that partition the account covers, as positions are written ("81.5"). Both are
	// empty in an account of the edge, which counts what it appended and not where that lies.
	After, Through string
	// Part, from 1, and Parts: a long account is several records, which are one only together.
	Part, Parts uint32
	Lines       []AccountLine
}

// AccountLine is the counts of one device and one minute. The edge fills Accepted and EdgeLetters, the router the others.
type AccountLine struct {
	Tenant, DeviceID string
	// Minute is that of the messages' ingest time, in minutes since 1970 UTC; for letters that of when they were received.
	Minute int64

	Accepted    uint64 // messages that the log has acknowledged to the edge
	EdgeLetters uint64 // dead letters of the edge, likewise

	Read      uint64 // messages that the router took; the following are parts of it
	Repeats   uint64 // dropped, since their device had sent them before
	Refused   uint64 // became dead letters
	Telemetry uint64 // went to the topic of that name
	Logs      uint64 // likewise
	Events    uint64 // likewise

	RouterLetters uint64 // those of Refused, by the minute of their dead letter
}
