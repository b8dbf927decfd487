//go:build race

package ingest_test

// raceTimes is how many times the memory a process needs under the race detector (5 to 10, says its documentation).
const raceTimes = 10
