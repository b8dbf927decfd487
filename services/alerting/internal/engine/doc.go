// Package engine turns what devices say into the life of alarms. It is pure: records and time go in, changes of alarms come out,
// and its state is bytes.
//
// An Engine keeps a track for each (rule, tenant, device, channel) that a rule looks at. A track hears signals (the condition
// holds, the clear condition holds) at times of the device's own clock, and goes idle, pending (the condition has held, for
// less than the rule's For), raised, and idle again. Whatever was due before a signal happens first, at the time at which it was
// due: a value stands until the next one comes. For devices that have gone quiet Tick does the same by our clock: the
// newest ingest time of the share, or the wall clock while nothing is unread.
//
// An alarm's id is a hash of its rule, its device, its channel, when it was raised and by which message, so that a replay
// writes the same row. Its revision rises by one with each change.
//
// Where to look: rule.go is what a rule says, engine.go brings records to tracks, track.go is the life of one track, emit.go
// makes rows, command.go takes operators' wishes, snapshot.go is the state as bytes.
//
// Start reading at Engine.
package engine
