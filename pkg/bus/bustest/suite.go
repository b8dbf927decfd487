// Package bustest holds every driver of the bus to the contract of bus.Log: each promise of its comments is one named
// subtest of Run, on the driver's real engine, through crashes. Only tests import it.
package bustest

import (
	"testing"

	"github.com/millrace/millrace/pkg/bus"
)

// Driver is what the suite must know of a driver.
type Driver struct {
	// Open returns a fresh, empty log with Partitions partitions and RecordBytesMax, and at least BytesMax bytes of room for
	// each topic where that is not 0; for less than twice as much it may have room. What it opens it closes by t.Cleanup.
	Open func(t *testing.T, o Options) Instance
}

// Options are the sizes of a log.
type Options struct {
	Partitions     int
	RecordBytesMax int
	BytesMax       int64 // of each partition; 0 is no limit
}

// Instance is one log.
type Instance struct {
	Log bus.Log
	// Again returns a handle as of another process, closed by t.Cleanup.
	Again func(t *testing.T) bus.Log
	// Crash kills the log's engine, or the process that holds Log where they are one, without warning, starts again on the
	// same data and returns a handle on it, closed by t.Cleanup. It may be called while the log is in use.
	Crash func(t *testing.T) bus.Log
	// Mortal returns a handle as of another process, closed by t.Cleanup, and what cuts that process off: from then on it gets
	// nothing through to the engine and hears nothing from it, without any connection being closed. nil where there is no such
	// thing.
	Mortal func(t *testing.T) (log bus.Log, die func())
}

// Run runs the suite.
func Run(t *testing.T, d Driver) {
	t.Helper()
	for _, c := range []struct {
		promise string
		test    func(t *testing.T, d Driver)
	}{
		{"what was appended is read in its order with value and origin, and positions and times rise", readBack},
		{"an append keeps neither the records nor their bytes", keepsNothing},
		{"equal records appended twice are there twice", equalRecordsAreTwo},
		{"an append of nothing leaves nothing", appendNothing},
		{"a large append keeps its order", largeAppend},
		{"appends by several callers keep the order of each", manyAppenders},
		{"a record that is too large is refused and none of its append is there", tooLarge},
		{"an unknown topic or partition is an error", unknownTopic},
		{"unread records fill the log, which then refuses, and reading makes room", full},
		{"an onlooker's unread records do not fill the log", onlooker},
		{"reading starts after any position, also within an append", startAtPosition},
		{"reading starts at the first record that is not older than a time", startAtTime},
		{"reading from the newest yields only what is appended from then on", startAtNewest},
		{"reading past the end is an error", startAhead},
		{"a reader at the end waits, and stops without an error when its context ends", waitAtEnd},
		{"a batch is the caller's to keep and to change", batchIsCallers},
		{"a reader may stop and go on from where it was", stopAndGoOn},
		{"the end is the newest record's position, zero in an empty partition", end},
		{"a commit outside of any group is an error", commitOutside},
		{"a commit is what is committed, for this group only, and one that is behind changes nothing", commits},
		{"a commit of 0.1 is one before every record, and no commit of nothing", commitBeforeAll},
		{"the members of a group own each share once, with all its topics", shares},
		{"a subscription ends without an error when its context ends", subscriptionEnds},
		{"an own that fails ends the subscription with its error, after every own has returned", ownFails},
		{"an own that returns ends the subscription", ownReturns},
		{"a share is given away only after its owner has returned", handOver},
		{"shares are dealt out evenly, and again when a member joins or leaves", sharingOut},
		{"a member that is one too many waits, and gets a share when another leaves", moreMembersThanShares},
		{"the shares of a member that dies without a word go to the others", silentDeath},
		{"closing ends reads and subscriptions with ErrClosed", closing},
		{"what was acknowledged before a crash is there after it", crashKeepsAcknowledged},
		{"what was committed before a crash is there after it", crashKeepsCommits},
		{"a writer's records survive crashes in their order", crashUnderWriter},
	} {
		t.Run(c.promise, func(t *testing.T) { c.test(t, d) })
	}
}
