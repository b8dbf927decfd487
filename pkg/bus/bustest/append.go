package bustest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/pkg/bus"
)

func readBack(t *testing.T, d Driver) {
	log := open(t, d).Log
	want := []bus.Record{
		{Value: []byte("a"), Origin: bus.Origin{Partition: 1, Position: bus.Position{Seq: 1 << 40, Index: 7}}},
		{Value: []byte{}},
		{Value: []byte{0, 255}, Origin: bus.Origin{Position: bus.Position{Seq: 3}}},
		{Value: []byte("d"), Origin: bus.Origin{Partition: 1023, Position: bus.Position{Seq: 1, Index: 1<<32 - 1}}},
	}
	for _, recs := range [][]bus.Record{want[:3], want[3:]} {
		if err := log.Append(within(t), firstPartition(), recs); err != nil {
			t.Fatal(err)
		}
	}
	got := read(t, partition(t, log, firstPartition()), bus.Start{}, len(want))
	var before bus.Record
	for i, r := range got {
		if !bytes.Equal(r.Value, want[i].Value) || r.Origin != want[i].Origin {
			t.Errorf("record %d: %q of %v, want %q of %v", i, r.Value, r.Origin, want[i].Value, want[i].Origin)
		}
		if r.Position.Compare(before.Position) <= 0 || r.Time < before.Time || r.Time == 0 {
			t.Errorf("record %d is at %s and %d, after %s and %d", i, r.Position, r.Time, before.Position, before.Time)
		}
		before = r
	}
	if end, err := partition(t, log, bus.PartitionID{Topic: bus.Ingested, Number: 1}).End(within(t)); err != nil || !end.IsZero() {
		t.Errorf("the other partition ends at %s (%v)", end, err)
	}
}

func keepsNothing(t *testing.T, d Driver) {
	log := open(t, d).Log
	recs := records("first")
	for _, v := range []string{"first", "other"} {
		copy(recs[0].Value, v)
		if err := log.Append(within(t), firstPartition(), recs); err != nil {
			t.Fatal(err)
		}
	}
	copy(recs[0].Value, "xxxxx")
	recs[0] = bus.Record{}
	if got := values(read(t, partition(t, log, firstPartition()), bus.Start{}, 2)); got != "first other" {
		t.Errorf("got %q", got)
	}
}

func equalRecordsAreTwo(t *testing.T, d Driver) {
	log := open(t, d).Log
	for range 3 {
		mustAppend(t, log, firstPartition(), "same", "same")
	}
	read(t, partition(t, log, firstPartition()), bus.Start{}, 6)
}

func appendNothing(t *testing.T, d Driver) {
	log := open(t, d).Log
	mustAppend(t, log, firstPartition())
	if end, err := partition(t, log, firstPartition()).End(within(t)); err != nil || !end.IsZero() {
		t.Errorf("the end is %s (%v)", end, err)
	}
}

func largeAppend(t *testing.T, d Driver) {
	log := open(t, d).Log
	const n = 400
	padding := strings.Repeat(".", 20<<10) // 8 MB in all: more than any driver sends in one piece
	recs := records(numbered(0, n)...)
	for i := range recs {
		recs[i].Value = append(recs[i].Value, padding...)
	}
	if err := log.Append(within(t), firstPartition(), recs); err != nil {
		t.Fatal(err)
	}
	for i, r := range read(t, partition(t, log, firstPartition()), bus.Start{}, n) {
		if !bytes.Equal(r.Value, recs[i].Value) {
			t.Fatalf("record %d is %.10q", i, r.Value)
		}
	}
}

func manyAppenders(t *testing.T, d Driver) {
	log := open(t, d).Log
	const callers, each = 4, 50
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				if err := log.Append(within(t), firstPartition(), records(fmt.Sprintf("%d:%d", c, i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var next [callers]int
	for _, r := range read(t, partition(t, log, firstPartition()), bus.Start{}, callers*each) {
		var c, i int
		if _, err := fmt.Sscanf(string(r.Value), "%d:%d", &c, &i); err != nil || i != next[c] {
			t.Fatalf("got %q, want number %d of its caller (%v)", r.Value, next[c], err)
		}
		next[c]++
	}
}

func tooLarge(t *testing.T, d Driver) {
	log := open(t, d).Log
	recs := []bus.Record{{Value: []byte("good")}, {Value: make([]byte, 32<<10+1)}}
	if err := log.Append(within(t), firstPartition(), recs); !errors.Is(err, bus.ErrTooLarge) {
		t.Errorf("Append returned %v", err)
	}
	if err := log.Append(within(t), firstPartition(), []bus.Record{{Value: make([]byte, 32<<10)}}); err != nil {
		t.Errorf("a record of the largest size: %v", err)
	}
	read(t, partition(t, log, firstPartition()), bus.Start{}, 1)
}

func unknownTopic(t *testing.T, d Driver) {
	log := open(t, d).Log
	for _, id := range []bus.PartitionID{{Topic: "no-such-topic"}, {Topic: bus.Ingested, Number: 2}, {Topic: bus.Ingested, Number: -1}} {
		if err := log.Append(within(t), id, records("x")); !errors.Is(err, bus.ErrUnknownTopic) {
			t.Errorf("Append to %s returned %v", id, err)
		}
		if _, err := log.Partition(within(t), id); !errors.Is(err, bus.ErrUnknownTopic) {
			t.Errorf("Partition of %s returned %v", id, err)
		}
	}
	if err := log.Subscribe(within(t), "g", []string{"no-such-topic"}, nil); !errors.Is(err, bus.ErrUnknownTopic) {
		t.Errorf("Subscribe returned %v", err)
	}
}

// onlooker fills the log several times over beside a group that never reads: only one that is no onlooker may get it refused.
func onlooker(t *testing.T, d Driver) {
	const limit, size = 256 << 10, 8 << 10
	log := d.Open(t, Options{Partitions: 1, RecordBytesMax: size, BytesMax: limit}).Log
	withShare(t, log, bus.OnlookerPrefix+"g", func(p bus.Partition) error { return p.Commit(within(t), bus.Progress{Through: bus.Position{Index: 1}}) })
	one := []bus.Record{{Value: make([]byte, size)}}
	_, _ = rand.NewChaCha8([32]byte{}).Read(one[0].Value) // what a log cannot compress
	for range 6 * limit / size {
		await(t, "room for a record", asSoonAs(within(t), func() bool { return log.Append(within(t), firstPartition(), one) == nil }))
	}
	withShare(t, log, bus.OnlookerPrefix+"g", func(p bus.Partition) error {
		progress, ok, err := p.Committed(within(t))
		if err != nil || !ok || progress.Through != (bus.Position{Index: 1}) {
			return fmt.Errorf("committed is %v, %v, %w, want 0.1", progress, ok, err)
		}
		return nil
	})
}

func full(t *testing.T, d Driver) {
	const limit, size = 256 << 10, 8 << 10
	log := d.Open(t, Options{Partitions: 1, RecordBytesMax: size, BytesMax: limit}).Log
	withShare(t, log, "g", func(bus.Partition) error { return nil }) // the group is known, and has read nothing
	one := []bus.Record{{Value: make([]byte, size)}}
	_, _ = rand.NewChaCha8([32]byte{}).Read(one[0].Value) // what a log cannot compress
	taken := 0
	fill := func() error {
		for range 2*limit/size + 1 {
			if err := log.Append(within(t), firstPartition(), one); err != nil {
				return err
			}
			taken++
		}
		return nil
	}
	if err := fill(); !errors.Is(err, bus.ErrFull) {
		t.Fatalf("filling the log ended with %v after %d records", err, taken)
	}
	if taken < limit/size*3/4 {
		t.Errorf("the log was full after %d records", taken)
	}
	all := read(t, partition(t, log, firstPartition()), bus.Start{}, taken)
	withShare(t, log, "g", func(p bus.Partition) error {
		return p.Commit(within(t), bus.Progress{Through: all[taken*3/4].Position})
	})
	before := taken
	await(t, "room for a record", asSoonAs(within(t), func() bool { return log.Append(within(t), firstPartition(), one) == nil }))
	taken++
	if err := fill(); !errors.Is(err, bus.ErrFull) {
		t.Fatalf("after reading, filling the log ended with %v after %d more records", err, taken-before)
	}
	rest := read(t, partition(t, log, firstPartition()), bus.Start{Position: all[before*3/4].Position}, taken-before*3/4-1)
	if rest[0].Position != all[before*3/4+1].Position {
		t.Errorf("the first unread record is at %s, want %s", rest[0].Position, all[before*3/4+1].Position)
	}
}
