package store_test

import (
	"errors"
	"testing"

	"github.com/millrace/millrace/pkg/bus"
	"github.com/millrace/millrace/pkg/store"
)

func TestAWriteThatDoesNotFollowIsFenced(t *testing.T) {
	id := func(n int) bus.PartitionID { return bus.PartitionID{Topic: "telemetry", Number: n} }
	span := func(n int, after, through uint64) store.Span {
		return store.Span{Partition: id(n), After: bus.Position{Seq: after}, Through: bus.Progress{Through: bus.Position{Seq: through}}}
	}
	stored := map[bus.PartitionID]bus.Progress{id(0): {Through: bus.Position{Seq: 5}}, id(1): {Through: bus.Position{Seq: 8}}}
	for _, c := range []struct {
		name   string
		spans  []store.Span
		done   bool
		fenced bool
	}{
		{name: "nothing", spans: nil},
		{name: "what follows", spans: []store.Span{span(0, 5, 7), span(1, 8, 9)}},
		{name: "a partition that is new", spans: []store.Span{span(2, 40, 50)}},
		{name: "the same again", spans: []store.Span{span(0, 3, 5), span(1, 7, 8)}, done: true},
		{name: "the same again, one not moved", spans: []store.Span{span(0, 5, 5), span(1, 7, 8)}, done: true},
		{name: "nothing moved", spans: []store.Span{span(0, 5, 5)}},
		{name: "one moved, one not", spans: []store.Span{span(0, 5, 5), span(1, 8, 9)}},
		{name: "behind", spans: []store.Span{span(0, 3, 4)}, fenced: true},
		{name: "across", spans: []store.Span{span(0, 4, 7)}, fenced: true},
		{name: "ahead", spans: []store.Span{span(0, 6, 7)}, fenced: true},
		{name: "a part is there", spans: []store.Span{span(0, 3, 5), span(1, 8, 9)}, fenced: true},
	} {
		done, err := store.Fence(c.spans, func(p bus.PartitionID) (bus.Progress, bool) { have, ok := stored[p]; return have, ok })
		if done != c.done || errors.Is(err, store.ErrFenced) != c.fenced || (err != nil) != c.fenced {
			t.Errorf("%s: done %t, %v; want done %t, fenced %t", c.name, done, err, c.done, c.fenced)
		}
	}
}
