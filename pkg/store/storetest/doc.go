// Package storetest holds every driver of package store to the comments of its interfaces: one named subtest a promise, one
// function a purpose (State, Logs, DeadLetters, Aggregates, Alarms, History). Only tests import it.
//
// A driver's test says how to open an empty store, how to read back all rows, and how the store comes back after the process
// was killed (the same files, opened anew, nothing closed or flushed).
package storetest
