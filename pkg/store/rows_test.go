package store_test

import (
	"testing"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
	"github.com/millrace/millrace/pkg/telemetry"
)

func TestTheLatestMessageIsThatOfTheNewestEventThenOrigin(t *testing.T) {
	row := func(at telemetry.Time, partition int32, seq uint64, index uint32) store.MessageRow {
		r := store.MessageRow{Origin: bus.Origin{Partition: partition, Position: bus.Position{Seq: seq, Index: index}}}
		r.EventTime = at
		return r
	}
	rising := []store.MessageRow{row(-1, 9, 9, 9), row(0, 0, 9, 9), row(0, 1, 1, 9), row(0, 1, 2, 0), row(0, 1, 2, 1), row(1, 0, 0, 0)}
	for i := range rising {
		for j := range rising {
			if got := store.Newer(&rising[i], &rising[j]); got != (i > j) {
				t.Errorf("row %d is newer than row %d: %v", i, j, got)
			}
		}
	}
}
