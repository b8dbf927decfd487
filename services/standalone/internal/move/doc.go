// Package move copies what an embedded instance holds into the stores of another configuration, so that nobody has to start over
// when one machine is outgrown, and then compares both sides.
//
// Promise. Every row of the source is in the target once, whatever kills the move and however often it is repeated: each write is a
// commit of the worker "move" on a partition of its own, embedded-<table>[0], whose positions count the rows in an order that
// stays the same while the instance stands still, and the target keeps how far it came. The source is never changed. Origins of
// moved rows have the partition -1-p for p, so that they never meet those of the target's own log.
//
// What is now (latest state, devices, alarms, aggregates, with the checkpoints of their workers) comes first and is compared before
// anything else: from then on the target's workers may run. What was (history, logs, dead letters) follows.
//
// Start reading at Run.
package move
